"""What is measured while jobs run, without a cluster."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import PendingActivityState

from bench.cluster.api import Document
from bench.cluster.errors import BenchError
from bench.cluster.installation import CONTROL_PLANE, OTHERS, OURS, Reading
from bench.cluster.requests import Request
from bench.cluster.usage import Usage
from bench.watch import __main__ as program
from bench.watch import report, results, run
from bench.watch.results import Held, Rates, Restart, Results

PROCESSES = (*CONTROL_PLANE, *OURS, OTHERS)
MIB = 1 << 20
CONDITIONS = {
    "time": "2026-11-23T08:00:00+00:00",
    "cpu": "Xeon",
    "cpus": 2,
    "load_before": 0.1,
    "kubernetes": "v1.34.4",
    "perdure": "abc",
    "workers": 1,
    "watch_slots": 6000,
}
HELD = Held(
    jobs=1000,
    minutes=10,
    starting_seconds=80,
    idle=Rates(dict.fromkeys(PROCESSES, 0.01), {"GET pods": 1.0}, {}),
    held=Rates(dict.fromkeys(PROCESSES, 0.05), {"GET pods": 51.0, "PATCH x": 50.0}, {results.HEARTBEAT: 50.0}),
    memory={who: {"before": 100 * MIB, "running": 140 * MIB, "end": 100 * MIB + 50_000_000} for who in PROCESSES},
    noticed=[0.1, 0.2, 0.4],
    completed=[0.05, 0.1, 0.2],
    restarts=[Restart("killed", [61.0, 62.0, 70.0], {"temporal": 3.0}, {"GET jobs": 2000})],
)  # fmt: skip


def test_costs_are_those_beyond_what_is_used_without_jobs() -> None:
    assert HELD.cpu_per_job_and_minute("worker") == pytest.approx(0.04 * 60 / 1000)
    assert HELD.cpu_per_job_and_minute("worker", "temporal") == pytest.approx(0.08 * 60 / 1000)
    assert HELD.requests_per_job_and_minute == pytest.approx(100 * 60 / 1000)
    assert HELD.bytes_per_job("worker") == pytest.approx(50_000)
    assert HELD.heartbeats_per_second == pytest.approx(50)


def test_a_temporal_that_does_not_tell_has_no_heartbeats_and_not_zero() -> None:
    silent = replace(HELD, held=replace(HELD.held, temporal={}))

    assert silent.heartbeats_per_second is None
    assert (
        "| heartbeats per second | - |"
        in dict(report.tables(Results(dict(CONDITIONS), [silent])))["Beyond what is used without jobs"]
    )


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = Results(dict(CONDITIONS), [HELD])
    written.save(tmp_path / "results.json")

    assert results.load(tmp_path / "results.json") == written


@pytest.mark.parametrize("text", ["", "{}", '{"conditions": {}, "held": [{}]}'])
def test_another_file_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)

    with pytest.raises(BenchError, match="holds no results of bench-watch"):
        results.load(tmp_path / "results.json")


def test_the_tables_show_every_goal_and_what_a_restart_does() -> None:
    shown = dict(report.tables(Results(dict(CONDITIONS), [HELD, replace(HELD, jobs=5000)])))

    assert "| CPU per job and minute, worker + Temporal, 1,000 jobs | 4.80 ms | ≤ 5.00 ms | yes |" in shown["Goals"]
    assert "| memory per job, worker, 1,000 jobs | 50.0 kB | ≤ 60.0 kB | yes |" in shown["Goals"]
    assert "| memory per job, operator, 1,000 jobs | 50.0 kB | ≤ 30.0 kB | no |" in shown["Goals"]
    assert "| memory of the worker with 5,000 jobs | 148 MiB | ≤ 512 MiB | yes |" in shown["Goals"]
    assert "| 1,000 jobs, workers killed | 62.0 | 70.0 | 70.0 | 2.00 |" in "".join(shown.values())


def test_the_goals_of_a_large_size_are_not_those_of_a_small_one() -> None:
    assert (
        "| memory of the worker with 5,000 jobs | - |"
        in dict(report.tables(Results(dict(CONDITIONS), [HELD])))["Goals"]
    )


def moment(seconds: float, cpu: float, requests: int, heartbeats: int) -> run.Moment:
    reading = Reading({"worker": Usage(cpu, 1)}, Counter({Request("pods", "GET"): requests}))
    return run.Moment(seconds, reading, {results.HEARTBEAT: heartbeats} if heartbeats else {})


def test_rates_are_differences_by_the_time_between() -> None:
    assert run.rates(moment(10, 1, 100, 0), moment(20, 3, 150, 30)) == Rates(
        {"worker": 0.2}, {"GET pods": 5.0}, {results.HEARTBEAT: 3.0}
    )


def test_a_pod_that_is_ended_says_what_a_kubelet_would_say() -> None:
    status = {
        "phase": "Running",
        "startTime": "2026-11-23T08:00:00Z",
        "containerStatuses": [
            {"name": "trainer", "image": "i", "ready": True, "restartCount": 0, "state": {"running": {}}}
        ],
    }

    said = run.succeeded(status)

    assert said["phase"] == "Succeeded"
    (container,) = said["containerStatuses"]
    assert container["name"] == "trainer"
    assert list(container["state"]) == ["terminated"]
    assert container["state"]["terminated"]["exitCode"] == 0


def job(name: str, *conditions: tuple[str, str], message: str = "") -> Document:
    told = [{"type": type_, "status": status, "message": message} for type_, status in conditions]
    return {"object": {"metadata": {"name": name, "uid": f"uid-{name}"}, "status": {"conditions": told}}}


def test_jobs_that_run_are_counted_once_and_ends_are_told() -> None:
    seen = run.Seen()
    seen.take_trainingjob(job("a"))
    seen.take_trainingjob(job("a", ("Running", "True")))
    seen.take_trainingjob(job("a", ("Running", "True")))
    seen.take_trainingjob(job("b", ("Succeeded", "False"), message="no image"))

    assert seen.running == {"a"}
    assert seen.uids == {"a": "uid-a", "b": "uid-b"}
    assert seen.ended == {"b": "no image"}
    with pytest.raises(BenchError, match="1 of 2 jobs have ended, expected all to run: b: no image"):
        run._require_running(seen, run.Wish(2, 1, 0))


class Temporal:
    """Workflows with a monitor each; `begins` says when a look finds it begun (None: it waits to be taken up)."""

    def __init__(self, begins: Callable[[str, int], float | None]) -> None:
        self._begins = begins
        self.looks: Counter[str] = Counter()

    def get_workflow_handle(self, workflow: str) -> Any:
        async def describe() -> Any:
            await asyncio.sleep(0)
            self.looks[workflow] += 1
            moment = self._begins(workflow, self.looks[workflow])
            state = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
            if moment is None:
                state = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
            started = Timestamp()
            started.FromMicroseconds(int((moment or 0) * 1e6))
            monitor = SimpleNamespace(
                activity_type=SimpleNamespace(name="monitor_training"), state=state, last_started_time=started
            )
            return SimpleNamespace(raw_description=SimpleNamespace(pending_activities=[monitor]))

        return SimpleNamespace(describe=describe)


async def watched(temporal: Temporal, jobs: int, deadline: float) -> list[float]:
    names = [f"j{number}" for number in range(jobs)]
    seen = run.Seen(uids={name: f"uid-{name}" for name in names})
    return await run._watched(temporal, "n", names, seen, 1000.0, deadline)  # type: ignore[arg-type]


async def test_every_monitor_is_waited_for_and_the_restart_before_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "_LOOK_SECONDS", 0)
    late = "trainingjob/n/j7/uid-j7"

    def begins(workflow: str, look: int) -> float | None:
        if look == 1:
            return 900.0 if workflow.endswith("j0") else None
        return 1070.0 if workflow == late else 1010.0

    again = await watched(Temporal(begins), 200, float("inf"))

    assert len(again) == 200
    assert again[0] == pytest.approx(10.0)
    assert again[-1] == pytest.approx(70.0)


async def test_waiting_for_all_asks_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_LOOK_SECONDS", 0)
    temporal = Temporal(lambda *_: 1010.0 if temporal.looks.total() > 4 * run._SAMPLE else None)

    await watched(temporal, 400, float("inf"))

    assert sum(looks == 1 for looks in temporal.looks.values()) == 400 - run._SAMPLE


async def test_one_that_nobody_takes_up_is_named() -> None:
    with pytest.raises(BenchError, match="1 of 1 jobs are not watched in time, such as trainingjob/n/j0/uid-j0"):
        await watched(Temporal(lambda *_: None), 1, 0.0)


@pytest.mark.parametrize(
    "arguments", [["--minutes", "0"], ["--ends", "-1"], ["--sizes", "10", "--ends", "10"], ["--sizes", "x"]]
)
def test_a_wish_that_makes_no_sense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.options(arguments)
    assert "expected" in capsys.readouterr().err


def test_what_was_measured_can_be_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Results(dict(CONDITIONS), [HELD]).save(tmp_path / "results.json")

    assert program.main(["--show", f"--results={tmp_path}/results.json"]) == 0
    assert "| heartbeats per second | 50.0 |" in capsys.readouterr().out
    assert (tmp_path / "results.png").exists()
