"""With the rights of the chart: one Secret by its name, and no other."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from perdure_control.cluster import Cluster, Forbidden, NotFound
from perdure_operator.receiver_secret import ReceiverSecret
from perdure_operator.settings import ReceiverSettings

if TYPE_CHECKING:
    from tests.conftest import ApiServer

pytestmark = pytest.mark.cluster

RULE = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["tls", "absent"], "verbs": ["get", "patch"]}
SETTINGS = ReceiverSettings(secret="tls", service="progress")
NOW = datetime.now(UTC)


@pytest.fixture
async def cluster(api_server: ApiServer, namespace: str) -> AsyncIterator[Cluster]:
    """As an account with this one right."""
    name = {"name": "operator", "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    items: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {**name, "name": "tls"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {**name, "name": "foreign"}},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": name, "rules": [RULE]},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": name,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "operator"},
            "subjects": [{"kind": "ServiceAccount", **name}],
        },
    ]
    api_server.kubectl("apply", "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": items})
    token = api_server.kubectl("create", "token", "operator", "-n", namespace).strip()
    async with await Cluster.connect("tests", kubeconfig=str(api_server.kubeconfig_for(token))) as cluster:
        yield cluster


def secret_data(api_server: ApiServer, namespace: str) -> dict[str, bytes]:
    secret = json.loads(api_server.kubectl("get", "secret", "tls", "-n", namespace, "-o", "json"))
    return {key: base64.b64decode(value) for key, value in secret.get("data", {}).items()}


async def test_an_empty_secret_is_filled_once(api_server: ApiServer, namespace: str, cluster: Cluster) -> None:
    secret = ReceiverSecret(cluster, namespace, SETTINGS)
    assert secret.problem

    assert await secret.renew(NOW)
    assert not await secret.renew(NOW)

    assert secret.problem is None
    assert secret_data(api_server, namespace).keys() == {"ca.crt", "ca.key", "tls.crt", "tls.key"}


async def test_a_renewal_keeps_the_authority(api_server: ApiServer, namespace: str, cluster: Cluster) -> None:
    secret = ReceiverSecret(cluster, namespace, SETTINGS)
    await secret.renew(NOW)
    before = secret_data(api_server, namespace)

    assert await secret.renew(NOW + timedelta(days=300))

    after = secret_data(api_server, namespace)
    assert {key for key in before if before[key] != after[key]} == {"tls.crt", "tls.key"}


@pytest.mark.parametrize(("name", "error"), [("absent", NotFound), ("foreign", Forbidden)])
async def test_another_secret_is_neither_made_nor_touched(
    namespace: str, cluster: Cluster, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await ReceiverSecret(cluster, namespace, ReceiverSettings(secret=name, service="progress")).renew(NOW)
