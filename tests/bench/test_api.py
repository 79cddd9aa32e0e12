"""The benchmarks' own client."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from bench.cluster import api
from bench.cluster.api import Document
from bench.cluster.errors import BenchError
from tests.bench.stand_in import stand_in

PODS = "/api/v1/namespaces/n/pods"


async def test_a_watch_that_the_server_ends_goes_on_where_it_was() -> None:
    async with stand_in() as (server, client):
        server.end_watches_after = 2
        seen: list[str] = []
        everything = asyncio.Event()

        def take(event: Document) -> None:
            seen.append(event["object"]["metadata"]["name"])
            if len(seen) == 5:
                everything.set()

        async with asyncio.timeout(20), api.watching(client, {PODS: take}):
            for number in range(5):
                await server.put(f"{PODS}/p{number}", {"metadata": {"name": f"p{number}"}})
            await everything.wait()

    assert seen == ["p0", "p1", "p2", "p3", "p4"]


async def test_a_watch_that_has_missed_events_ends_the_benchmark() -> None:
    async with stand_in() as (server, client):
        server.forgotten_before = 100
        with pytest.raises(BenchError, match="has missed events"):
            await asyncio.wait_for(client.watch(PODS, lambda _: None), 20)


async def test_a_list_is_counted_without_being_read() -> None:
    async with stand_in() as (server, client):
        assert await client.count(PODS) == 0
        for number in range(3):
            await server.put(f"{PODS}/p{number}", {"metadata": {"name": f"p{number}"}})

        assert await client.count(PODS) == 3


async def test_a_server_that_is_away_is_told_in_a_sentence() -> None:
    async with stand_in() as (_, client):
        pass
    async with aiohttp.ClientSession() as session:
        gone = api.Api(session, client._server)
        with pytest.raises(BenchError, match=r"does not answer .*; is the cluster up"):
            await gone.get(PODS)


async def test_each_document_is_made_once() -> None:
    made: list[int] = []

    async def make(document: Document) -> None:
        await asyncio.sleep(0)
        made.append(document["number"])

    await api.each([{"number": number} for number in range(100)], make)

    assert sorted(made) == list(range(100))


@pytest.mark.parametrize("text", ["{", "{}", json.dumps({"clusters": [{"cluster": {}}], "users": []})])
async def test_another_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "kubeconfig").write_text(text)

    with pytest.raises(BenchError, match="is not the development cluster's"):
        async with api.connected(tmp_path / "kubeconfig"):
            pass


async def test_without_a_cluster_it_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"found no kubeconfig .*; run: make install"):
        async with api.connected(tmp_path / "kubeconfig"):
            pass
