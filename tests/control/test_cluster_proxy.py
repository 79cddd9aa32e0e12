"""The way to the API server: through a proxy where the environment names one, and with no word of a netrc file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from perdure_control.cluster import Cluster
from tests.api_stand_in import listening

ELSEWHERE = "http://api.invalid"


@asynccontextmanager
async def connected(folder: Path, server: str) -> AsyncIterator[Cluster]:
    kubeconfig = folder / "kubeconfig"
    context = {"name": "it", "context": {"cluster": "it", "user": "it"}}
    clusters, users = [{"name": "it", "cluster": {"server": server}}], [{"name": "it", "user": {}}]
    kubeconfig.write_text(
        yaml.safe_dump({"current-context": "it", "contexts": [context], "clusters": clusters, "users": users})
    )
    async with await Cluster.connect("a test", kubeconfig=str(kubeconfig)) as cluster:
        yield cluster


@pytest.fixture
def asked() -> list[web.BaseRequest]:
    return []


@pytest.fixture
async def address(asked: list[web.BaseRequest]) -> AsyncIterator[str]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request)
        return web.json_response({"who": "this one"})

    async with listening(answer) as address:
        yield address


async def test_a_proxy_of_the_environment_is_asked(
    address: str, asked: list[web.BaseRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", address)
    monkeypatch.delenv("no_proxy", raising=False)

    async with connected(tmp_path, ELSEWHERE) as cluster:
        assert await cluster.get("/version") == {"who": "this one"}

    assert [str(request.url) for request in asked] == [f"{ELSEWHERE}/version"]


async def test_a_proxy_is_passed_over_for_addresses_that_need_none_and_a_netrc_file_is_not_read(
    address: str, asked: list[web.BaseRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", f"{ELSEWHERE}:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    async with connected(tmp_path, address) as cluster:
        assert await cluster.get("/version") == {"who": "this one"}

    (request,) = asked
    assert "Authorization" not in request.headers
