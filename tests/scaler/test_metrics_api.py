"""The external metrics API over real TLS, asked as the API server asks it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from perdure_control.cluster import Cluster
from perdure_operator.certificates import renewed
from perdure_scaler import front_proxy as front_proxy_module
from perdure_scaler import process
from perdure_scaler.demand import Known, Queue, Unknown
from perdure_scaler.front_proxy import FrontProxy, NoFrontProxy, read_front_proxy
from perdure_scaler.metrics_api import MetricsApi
from perdure_scaler.process import ApiServer
from perdure_scaler.settings import ScaledQueue
from tests.scaler.certificates import Authority

SERVICE = "perdure-scaler.perdure.svc"
NAME = "front-proxy-client"
CPU, GPU, ELSEWHERE = Queue("default", "perdure-cpu"), Queue("default", "gpu/1"), Queue("other", "perdure-cpu")
QUEUES = (ScaledQueue(CPU), ScaledQueue(GPU, label="gpu-1"), ScaledQueue(ELSEWHERE))
ROOT = "/apis/external.metrics.k8s.io/v1beta1"
VALUES = f"{ROOT}/namespaces/perdure/perdure_task_queue_demand"
NOW = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)


@dataclass
class Api:
    """The API, and what is needed to ask it."""

    port: int
    folder: Path
    demands: dict[Queue, Known | Unknown] = field(default_factory=dict)
    client: Path | None = None
    """Certificate that is shown."""

    async def get(self, path: str, **query: str) -> tuple[int, dict[str, Any]]:
        context = ssl.create_default_context(cafile=self.folder / "ca.crt")
        if self.client:
            context.load_cert_chain(self.client)
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                f"https://127.0.0.1:{self.port}{path}", params=query, ssl=context, server_hostname=SERVICE
            ) as answer,
        ):
            assert answer.content_type == "application/json"
            return answer.status, await answer.json()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make("front-proxy-ca")


@asynccontextmanager
async def small_cluster(documents: dict[str, Any]) -> AsyncIterator[Cluster]:
    """An API server that has these documents, by path."""

    async def answer(request: web.Request) -> web.Response:
        found = documents.get(request.path)
        return web.json_response(found or {"message": "not found"}, status=200 if found else 404)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        configuration = Configuration()
        configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with Cluster(configuration) as cluster:
            yield cluster
    finally:
        await runner.cleanup()


def published(authority: str, names: str = f'["{NAME}"]') -> dict[str, Any]:
    data = {"requestheader-client-ca-file": authority, "requestheader-allowed-names": names}
    return {front_proxy_module.PATH: {"data": data}}


def bring_certificate(folder: Path) -> None:
    bundle = renewed({}, (SERVICE,), datetime.now(UTC))
    assert bundle
    for name, content in bundle.to_data().items():
        (folder / name).write_bytes(content)


@pytest.fixture
async def api(tmp_path: Path, authority: Authority) -> AsyncIterator[Api]:
    """The API as the API server sees it."""
    bring_certificate(tmp_path)
    demands: dict[Queue, Known | Unknown] = {CPU: Known(2, 3), GPU: Known(0, 1), ELSEWHERE: Known(0, 0)}
    async with small_cluster(published(authority.pem)) as cluster:
        server = ApiServer(MetricsApi(QUEUES, demands.__getitem__, lambda: NOW), cluster, tmp_path)
        front_proxy = await read_front_proxy(cluster)
        async with server.serving(front_proxy, 0, "127.0.0.1") as port:
            yield Api(port, tmp_path, demands, authority.sign_client(NAME, tmp_path))


async def test_the_value_of_one_queue_is_its_demand(api: Api) -> None:
    code, found = await api.get(VALUES, labelSelector="queue=gpu-1")

    assert (code, found) == (
        200,
        {
            "kind": "ExternalMetricValueList",
            "apiVersion": "external.metrics.k8s.io/v1beta1",
            "metadata": {},
            "items": [
                {
                    "metricName": "perdure_task_queue_demand",
                    "metricLabels": {"queue": "gpu-1", "temporal_namespace": "default"},
                    "timestamp": "2026-11-23T04:05:06Z",
                    "value": "1",
                }
            ],
        },
    )


@pytest.mark.parametrize(
    ("selector", "values"),
    [
        ("queue=perdure-cpu,temporal_namespace=default", ["5"]),
        ("queue=perdure-cpu", ["5", "0"]),
        ("queue in (gpu-1,perdure-cpu),temporal_namespace=default", ["5", "1"]),
        ("", ["5", "1", "0"]),
    ],
)
async def test_a_selector_of_several_queues_gives_a_value_each(api: Api, selector: str, values: list[str]) -> None:
    code, found = await api.get(VALUES, labelSelector=selector)

    assert (code, [item["value"] for item in found["items"]]) == (200, values)


async def test_what_is_not_known_is_an_error_and_no_zero(api: Api) -> None:
    api.demands[CPU] = Unknown("Its backlog: no answer from Temporal")

    code, found = await api.get(VALUES, labelSelector="temporal_namespace=default")

    assert (code, found["kind"], found["reason"]) == (503, "Status", "ServiceUnavailable")
    assert found["message"] == (
        "the demand of task queue perdure-cpu is not known: Its backlog: no answer from Temporal"
    )
    assert (await api.get(VALUES, labelSelector="queue=gpu-1"))[0] == 200


@pytest.mark.parametrize(
    ("path", "selector", "code", "reason", "says"),
    [
        (VALUES, "queue=gpu-2", 404, "NotFound", "found no task queue of which queue=gpu-2 is true, expected one of"),
        (VALUES, "pool=cpu", 400, "BadRequest", "labelSelector names pool, expected queue or temporal_namespace"),
        (VALUES, "queue in", 400, "BadRequest", 'labelSelector has "queue in", expected such as queue=NAME'),
        (f"{ROOT}/namespaces/x/queue_depth", "", 404, "NotFound", 'found no metric "queue_depth", expected perdure_ta'),
        ("/apis/custom.metrics.k8s.io", "", 404, "NotFound", "expected GET below /apis/external.metrics.k8s.io"),
    ],
)
async def test_what_is_not_there_is_refused_with_a_sentence(
    api: Api, path: str, selector: str, code: int, reason: str, says: str
) -> None:
    status, found = await api.get(path, labelSelector=selector)

    assert (status, found["kind"], found["code"], found["reason"]) == (code, "Status", code, reason)
    assert says in found["message"]


async def test_discovery_leads_to_the_metric(api: Api) -> None:
    _, groups = await api.get("/apis")
    _, group = await api.get("/apis/external.metrics.k8s.io")
    _, resources = await api.get(ROOT)

    assert groups["groups"][0]["preferredVersion"]["groupVersion"] == "external.metrics.k8s.io/v1beta1"
    assert (group["kind"], group["name"]) == ("APIGroup", "external.metrics.k8s.io")
    assert resources["kind"] == "APIResourceList"
    assert [(each["name"], each["namespaced"], each["verbs"]) for each in resources["resources"]] == [
        ("perdure_task_queue_demand", True, ["get"])
    ]


@pytest.mark.parametrize("path", [VALUES, ROOT, "/apis", "/metrics"])
async def test_who_shows_no_certificate_is_told_nothing(api: Api, path: str) -> None:
    api.client = None

    code, found = await api.get(path)

    assert (code, found["reason"]) == (401, "Unauthorized")
    assert "found no certificate of the cluster's API server" in found["message"]


async def test_another_name_of_the_same_authority_is_told_nothing(api: Api, authority: Authority) -> None:
    api.client = authority.sign_client("somebody-else", api.folder)

    assert (await api.get(VALUES))[0] == 401


async def test_the_right_name_of_another_authority_does_not_come_in(api: Api) -> None:
    api.client = Authority.make("front-proxy-ca").sign_client(NAME, api.folder)

    with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
        await api.get(VALUES)


async def test_headers_that_name_a_user_open_nothing(api: Api) -> None:
    """Only the certificate counts: nobody is believed to have asked for somebody."""
    api.client = None
    context = ssl.create_default_context(cafile=api.folder / "ca.crt")
    async with (
        aiohttp.ClientSession(headers={"X-Remote-User": "system:admin", "Authorization": "Bearer x"}) as session,
        session.get(f"https://127.0.0.1:{api.port}{VALUES}", ssl=context, server_hostname=SERVICE) as answer,
    ):
        assert answer.status == 401


@pytest.mark.parametrize(
    ("names", "shown", "welcome"),
    [
        (frozenset({NAME}), {"subject": ((("commonName", NAME),),)}, True),
        (frozenset({NAME}), {"subject": ((("commonName", "other"),),)}, False),
        (frozenset({NAME}), {"subject": ((("organizationName", NAME),),)}, False),
        (frozenset(), {"subject": ((("commonName", "any"),),)}, True),
        (frozenset(), {}, False),
        (frozenset(), None, False),
    ],
)
def test_a_certificate_is_welcome_by_its_common_name(
    names: frozenset[str], shown: dict[str, Any] | None, *, welcome: bool
) -> None:
    assert FrontProxy("", names).welcomes(shown) is welcome


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        ({front_proxy_module.PATH: {"data": {"client-ca-file": "x"}}}, "has no requestheader-client-ca-file"),
        (published("x", names="front-proxy-client"), "expected a JSON list of common names"),
    ],
)
async def test_a_cluster_without_an_aggregation_layer_is_said_to_have_none(
    documents: dict[str, Any], says: str
) -> None:
    async with small_cluster(documents) as cluster:
        with pytest.raises(NoFrontProxy) as raised:
            await read_front_proxy(cluster)

    assert says in str(raised.value)


async def test_an_authority_that_was_replaced_is_believed_no_more(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setattr(process, "FRONT_PROXY_LOOK_SECONDS", 0.05)
    bring_certificate(tmp_path)
    new = Authority.make("front-proxy-ca-2")
    documents = published(authority.pem)
    demands: dict[Queue, Known | Unknown] = dict.fromkeys((CPU, GPU, ELSEWHERE), Known(1, 1))
    old_client, new_client = authority.sign_client(NAME, tmp_path), new.sign_client(NAME, tmp_path)
    api = Api(unused_tcp_port, tmp_path, demands, new_client)
    async with small_cluster(documents) as cluster:
        server = ApiServer(MetricsApi(QUEUES, demands.__getitem__), cluster, tmp_path)
        serving = asyncio.create_task(server.serve_for_ever(unused_tcp_port))
        try:
            assert not await _answers(api)
            api.client = old_client
            await _until_it_answers(api)

            documents.update(published(new.pem))

            api.client = new_client
            await _until_it_answers(api)
            api.client = old_client
            assert not await _answers(api)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def _until_it_answers(api: Api) -> None:
    async with asyncio.timeout(60):
        while not await _answers(api):  # noqa: ASYNC110 - another task serves
            await asyncio.sleep(0.02)


async def _answers(api: Api) -> bool:
    try:
        return (await api.get(VALUES))[0] == 200
    except (aiohttp.ClientError, ConnectionError):
        return False
