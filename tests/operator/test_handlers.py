from __future__ import annotations

import base64
from pathlib import Path

import kopf
import pytest
import yaml
from kubernetes.aio.client import Configuration

from perdure_api import names
from perdure_control.cluster import load_configuration
from perdure_operator.handlers import connection_info, kopf_settings


def test_kopf_knows_nothing_of_our_finalizer() -> None:
    """It takes a finalizer of its own off every object when no handler of its own needs one."""
    assert kopf_settings().persistence.finalizer != names.FINALIZER


def test_kopf_tries_for_ever() -> None:
    backoffs = kopf_settings().networking.error_backoffs

    assert not isinstance(backoffs, float)
    first_hundred = [backoff for backoff, _ in zip(backoffs, range(100), strict=False)]
    assert len(first_hundred) == 100
    assert max(first_hundred) <= 15


@pytest.mark.parametrize(
    ("user", "headers"),
    [
        ({"token": "secret"}, {"Authorization": "Bearer secret"}),
        (
            {"username": "me", "password": "secret"},
            {"Authorization": f"Basic {base64.b64encode(b'me:secret').decode()}"},
        ),
        ({}, {}),
    ],
    ids=["token", "password", "nothing"],
)
async def test_kopf_logs_in_as_our_own_client_does(
    user: dict[str, str], headers: dict[str, str], tmp_path: Path
) -> None:
    kubeconfig = {
        "clusters": [{"name": "c", "cluster": {"server": "https://api:6443", "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))

    info = await connection_info(await load_configuration(str(tmp_path / "kubeconfig")))

    assert isinstance(info, kopf.ConnectionInfo)
    assert (info.server, info.insecure) == ("https://api:6443", True)
    assert info.as_http_headers() == headers


async def test_a_service_accounts_token_is_passed_on() -> None:
    """The official client writes its scheme in lower case, as `load_incluster_config` does."""
    configuration = Configuration(host="https://api", api_key={"BearerToken": "bearer secret"})

    info = await connection_info(configuration)

    assert info.as_http_headers() == {"Authorization": "bearer secret"}
