"""Real tokens in front of a real API server: what test_identity.py shows with made up answers holds for real ones."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from perdure_api.pod import PROGRESS_TOKEN_AUDIENCE
from perdure_control.cluster import Cluster
from perdure_workers.progress.identity import Identifier, NotOurs
from tests.conftest import ApiServer
from tests.workers.progress.test_identity import POD

pytestmark = pytest.mark.cluster

ACCOUNT = "trains"
IMAGE = "none"
HOUR = 3600


@dataclass(frozen=True)
class Issuer:
    """An API server that knows pods, and gives tokens to them. None of them ever runs."""

    server: ApiServer

    def pod(self, name: str) -> str:
        """The uid of a new pod."""
        spec = {"serviceAccountName": ACCOUNT, "containers": [{"name": "trainer", "image": IMAGE}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        return self.server.kubectl("create", "-f", "-", "-o", "jsonpath={.metadata.uid}", document=pod)

    def token(self, pod: str, audience: str = PROGRESS_TOKEN_AUDIENCE) -> str:
        """One that is bound to a pod, as a kubelet asks for."""
        bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}")
        return self.server.kubectl("create", "token", ACCOUNT, *bound, f"--audience={audience}").strip()

    def again(self, token: str, **claims: Any) -> str:
        """A token with other claims, signed by the API server's own key."""
        key = load_pem_private_key((self.server.folder / "accounts.key").read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        header, payload, _ = token.split(".")
        content = f"{header}.{_encode(json.dumps({**_claims(payload), **claims}).encode())}"
        return f"{content}.{_encode(key.sign(content.encode(), padding.PKCS1v15(), SHA256()))}"


def _claims(payload: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


@pytest.fixture(scope="module")
def issuer(api_server: ApiServer) -> Issuer:
    api_server.kubectl("create", "serviceaccount", ACCOUNT)
    return Issuer(api_server)


@pytest.fixture(scope="module")
def uids(issuer: Issuer) -> dict[str, str]:
    """Three pods: one that trains, one that has just been deleted, and one of somebody else's."""
    return {name: issuer.pod(name) for name in ("trains", "deleted", "foreign")}


@pytest.fixture
async def identifier(issuer: Issuer, uids: dict[str, str]) -> AsyncIterator[Identifier]:
    known = {uids[name]: replace(POD, name=name, uid=uids[name]) for name in ("trains", "deleted")}
    async with await Cluster.connect("tests", kubeconfig=str(issuer.server.kubeconfig)) as cluster:
        yield Identifier(cluster, known.get, time.monotonic)


async def test_the_token_that_a_training_pod_is_given_opens(
    identifier: Identifier, issuer: Issuer, uids: dict[str, str]
) -> None:
    assert (await identifier.pod_behind(issuer.token("trains"))).uid == uids["trains"]
    now = int(time.time())
    anew = issuer.again(issuer.token("trains"), iat=now - HOUR, nbf=now - HOUR, exp=now + HOUR)
    assert (await identifier.pod_behind(anew)).uid == uids["trains"], "what else is wrong with one that is made anew"


def expired(issuer: Issuer) -> str:
    now = int(time.time())
    return issuer.again(issuer.token("trains"), iat=now - 2 * HOUR, nbf=now - 2 * HOUR, exp=now - HOUR)


def of_a_pod_that_is_deleted(issuer: Issuer) -> str:
    token = issuer.token("deleted")
    issuer.server.kubectl("delete", "pod", "deleted", "--force", "--grace-period=0")
    return token


def with_another_signature(issuer: Issuer) -> str:
    content, _, _ = issuer.token("trains").rpartition(".")
    return f"{content}.{_encode(b'none' * 64)}"


@pytest.mark.parametrize(
    ("made", "says"),
    [
        pytest.param(expired, "expired", id="expired"),
        pytest.param(of_a_pod_that_is_deleted, "the token is not valid", id="of a pod that is deleted"),
        pytest.param(lambda issuer: issuer.token("foreign"), "issued to no training pod", id="of a foreign pod"),
        pytest.param(
            lambda issuer: issuer.token("trains", "https://tests.invalid"), "the token is not", id="for the API server"
        ),
        pytest.param(with_another_signature, "the token is not valid", id="forged"),
    ],
)
async def test_any_other_token_does_not_open_and_why_is_said(
    identifier: Identifier, issuer: Issuer, made: Callable[[Issuer], str], says: str
) -> None:
    with pytest.raises(NotOurs, match=says):
        await identifier.pod_behind(made(issuer))
