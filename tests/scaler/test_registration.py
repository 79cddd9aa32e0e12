"""The authority in the APIService, and a whole process in front of so much of an API server as it needs."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from kubernetes.aio.client import Configuration

from perdure_control.cluster import Cluster, NotFound
from perdure_scaler.process import run_scaler
from perdure_scaler.registration import API_SERVICE, Registration
from perdure_scaler.settings import settings_from
from tests.scaler.certificates import Authority
from tests.scaler.test_metrics_api import NAME, SERVICE, VALUES, bring_certificate, published


@dataclass
class SmallCluster:
    """Documents by path; a patch is laid over what is there."""

    documents: dict[str, Any] = field(default_factory=dict)
    patches: list[Any] = field(default_factory=list)
    url: str = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Cluster]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            configuration = Configuration()
            configuration.host = self.url
            async with Cluster(configuration) as cluster:
                yield cluster
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        found = self.documents.get(request.path)
        if found is None:
            return web.json_response({"message": "not found"}, status=404)
        if request.method == "PATCH":
            patch = await request.json()
            self.patches.append(patch)
            found["spec"].update(patch["spec"])
        return web.json_response(found)


def api_service(namespace: str = "perdure") -> dict[str, Any]:
    service = {"name": "perdure-scaler", "namespace": namespace, "port": 443}
    return {"metadata": {"resourceVersion": "7"}, "spec": {"service": service}}


def registration(cluster: Cluster, authority: str | None = "an authority") -> Registration:
    return Registration(cluster, "perdure", "perdure-scaler", lambda: authority)


async def test_the_authority_is_written_once() -> None:
    small = SmallCluster({API_SERVICE: api_service()})
    async with small.serving() as cluster:
        ours = registration(cluster)
        assert ours.problem

        assert [await ours.renew(), await ours.renew()] == [True, False]

    assert ours.problem is None
    assert small.patches == [
        {"metadata": {"resourceVersion": "7"}, "spec": {"caBundle": base64.b64encode(b"an authority").decode()}}
    ]


async def test_an_api_service_of_somebody_else_is_left_alone_and_it_is_said() -> None:
    small = SmallCluster({API_SERVICE: api_service("keda")})
    async with small.serving() as cluster:
        ours = registration(cluster)

        assert not await ours.renew()

    assert small.patches == []
    assert "leads to keda/perdure-scaler, expected perdure/perdure-scaler" in (ours.problem or "")


async def test_without_an_authority_nothing_is_written() -> None:
    small = SmallCluster({API_SERVICE: api_service()})
    async with small.serving() as cluster:
        ours = registration(cluster, None)

        assert not await ours.renew()

    assert (small.patches, ours.problem) == ([], "the certificate's authority (ca.crt) is missing")


async def test_an_api_service_that_is_not_there_is_an_error() -> None:
    async with SmallCluster().serving() as cluster:
        with pytest.raises(NotFound):
            await registration(cluster).renew()


async def test_a_whole_scaler_answers_the_api_server_registers_and_says_what_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """With Temporal away: it is ready, and its answer is that there is none."""
    authority = Authority.make("front-proxy-ca")
    small = SmallCluster({API_SERVICE: api_service(), **published(authority.pem)})
    small.documents["/api/v1/namespaces/perdure/pods"] = {"items": []}
    bring_certificate(tmp_path)
    health, api = unused_tcp_port_factory(), unused_tcp_port_factory()
    environment = {
        "PERDURE_TEMPORAL_ADDRESS": f"127.0.0.1:{unused_tcp_port_factory()}",
        "PERDURE_NAMESPACE": "perdure",
        "PERDURE_HTTP_PORT": str(health),
        "PERDURE_SCALER_WORKERS": "app=worker",
        "PERDURE_SCALER_QUEUES": '[{"queue": "perdure-cpu"}]',
        "PERDURE_SCALER_TLS_DIR": str(tmp_path),
        "PERDURE_SCALER_API_PORT": str(api),
        "PERDURE_SCALER_SERVICE": "perdure-scaler",
    }
    async with small.serving():
        monkeypatch.setenv("KUBECONFIG", str(_kubeconfig(tmp_path, small.url)))
        running = asyncio.create_task(run_scaler(settings_from(environment)))
        try:
            async with aiohttp.ClientSession() as session, asyncio.timeout(60):
                ready = await _until(
                    session,
                    f"http://127.0.0.1:{health}/readyz",
                    lambda code, text: code == 200 and "registration: ok" in text,
                )
                client = ssl.create_default_context(cafile=tmp_path / "ca.crt")
                client.load_cert_chain(authority.sign_client(NAME, tmp_path))
                url = f"https://127.0.0.1:{api}{VALUES}?labelSelector=queue%3Dperdure-cpu"
                async with session.get(url, ssl=client, server_hostname=SERVICE) as answer:
                    code, said = answer.status, await answer.json()
                metrics = await _until(session, f"http://127.0.0.1:{health}/metrics", lambda code, _: code == 200)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    assert "api: ok\n" in ready
    assert "pods: ok\n" in ready
    assert "temporal: ok" not in ready
    assert (code, said["reason"]) == (503, "ServiceUnavailable")
    assert small.documents[API_SERVICE]["spec"]["caBundle"]
    assert 'perdure_task_queue_demand_known{queue="perdure-cpu",temporal_namespace="default"} 0.0' in metrics
    assert "\nperdure_task_queue_demand{" not in metrics


def _kubeconfig(folder: Path, url: str) -> Path:
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(json.loads(json.dumps(document))))
    return path


async def _until(session: aiohttp.ClientSession, url: str, good: Callable[[int, str], bool]) -> str:
    while True:
        try:
            async with session.get(url) as answer:
                text = await answer.text()
                if good(answer.status, text):
                    return text
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.05)
