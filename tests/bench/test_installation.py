"""Whose processes are whose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.cluster import usage
from bench.cluster.errors import BenchError
from bench.cluster.installation import CONTROL_PLANE, OTHERS, SYSTEM, Installation
from bench.cluster.usage import Process
from perdure_devcluster import controlplane
from tests.bench.stand_in import StandIn, stand_in

PIDS = {name: place for place, name in enumerate((*controlplane.COMPONENTS, controlplane.KWOK), start=100)}


class Daemons:
    """Of a development cluster of one node."""

    def __init__(self, *away: str) -> None:
        self.away = away
        self.node_plans = ["n1"]
        self.daemons = SimpleNamespace(running=lambda name: None if name in away else SimpleNamespace(pid=PIDS[name]))
        self.nodes = SimpleNamespace(daemon=lambda *_: SimpleNamespace(pid=200))


@pytest.fixture(autouse=True)
def _processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_pods(uids: dict[str, str]) -> dict[str, list[Process]]:
        found: dict[str, list[Process]] = {name: [] for name in uids.values()}
        for uid, name in uids.items():
            found[name].append(Process(int(uid), 1))
        return found

    monkeypatch.setattr(usage, "in_pods", in_pods)
    monkeypatch.setattr(usage, "process", lambda pid: Process(pid, 1))


async def pod(server: StandIn, uid: str, component: str, *, phase: str = "Running", **metadata: Any) -> None:
    labels = {"app.kubernetes.io/part-of": "perdure", "app.kubernetes.io/component": component}
    document = {"metadata": {"name": uid, "uid": uid, "labels": labels, **metadata}, "status": {"phase": phase}}
    await server.put(f"/api/v1/namespaces/{SYSTEM}/pods/{uid}", document)


async def test_pods_of_a_component_are_one_and_what_has_no_part_in_a_job_is_apart() -> None:
    async with stand_in() as (server, api):
        for uid, component in {
            "1": "operator",
            "2": "worker",
            "3": "worker",
            "4": "temporal",
            "5": "object-store",
        }.items():
            await pod(server, uid, component)
        await pod(server, "6", "worker", phase="Pending")
        await pod(server, "7", "worker", deletionTimestamp="2026-11-23T08:00:00Z")
        found = Installation(api, Daemons(), {})  # type: ignore[arg-type]
        await found.find_processes()

    assert {process.pid for process in found.processes["worker"]} == {2, 3}
    assert [process.pid for process in found.processes["kube-apiserver"]] == [PIDS["kube-apiserver"]]
    others = {process.pid for process in found.processes[OTHERS]}
    assert others == {5, 200, *(PIDS[name] for name in PIDS if name not in CONTROL_PLANE)}


@pytest.mark.parametrize(
    ("away", "components", "missing"),
    [
        (("kwok",), ("operator", "worker", "temporal"), "kwok"),
        ((), ("operator", "temporal"), "worker"),
        (("etcd",), ("worker", "temporal"), "etcd, operator"),
    ],
)
async def test_a_part_that_does_not_run_is_named(
    away: tuple[str, ...], components: tuple[str, ...], missing: str
) -> None:
    async with stand_in() as (server, api):
        for uid, component in enumerate(components):
            await pod(server, str(uid), component)

        with pytest.raises(BenchError, match=f"found no process of {missing}, expected .*; run: make install"):
            await Installation(api, Daemons(*away), {}).find_processes()  # type: ignore[arg-type]


async def test_a_process_that_ends_while_it_is_measured_makes_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: object) -> usage.Usage:
        raise ProcessLookupError("process 7 has ended")

    monkeypatch.setattr(usage, "of", gone)
    async with stand_in() as (_, api):
        found = Installation(api, Daemons(), {"worker": [Process(7, 1)]})  # type: ignore[arg-type]
        with pytest.raises(BenchError, match="worker was started again while it was measured"):
            found.usage()


async def test_without_perdure_it_says_how_to_get_it() -> None:
    async with stand_in() as (_, api):
        with pytest.raises(
            BenchError, match="found no Perdure in namespace perdure-system, expected one; run: make install"
        ):
            await Installation(api, Daemons(), {}).worker_deployment()  # type: ignore[arg-type]
