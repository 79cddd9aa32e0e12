"""What is said of a pool, without a cluster."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.cluster.api import Document
from bench.cluster.errors import BenchError
from bench.cluster.tasks import Course, Task
from bench.pools import __main__ as program
from bench.pools import load, pool, report, results, run
from bench.pools.results import PERDURE, Drop, Results, Sample
from perdure_api import names
from perdure_api.inference import RESULT_NUMBERS, BatchEmbedInput
from perdure_data.stores import Stores

CONDITIONS = {
    "time": "2026-11-23T08:00:00+00:00", "cpu": "Xeon", "cpus": 2, "load_before": 0.1, "kubernetes": "v1.34.4",
    "perdure": "abc", "workers": 2, "load": asdict(program.LOAD), "sizes": asdict(program.SIZES),
}  # fmt: skip
WANTED = [(-1.0, 1), (0.0, 1), (9.0, 2), (14.0, 3), (60.0, 1), (61.0, 2), (90.0, 1), (95.0, 1)]
SAMPLES = [
    Sample(
        moment, 3, told=None if moment < 0 else 3.0, wanted=wanted, ready=min(wanted, 3 if moment > 20 else 2), busy=1
    )
    for moment, wanted in [*WANTED[:4], (25.0, 3), *WANTED[4:]]
]
ONCE = Task(Course.ONCE, 1, "pod-1", 0.1, 1.0, 3.0)
DROP = Drop(
    autoscaler=PERDURE,
    least=1,
    dropping_seconds=2.5,
    samples=SAMPLES,
    tasks=[ONCE, replace(ONCE, worker="pod-2", ended=40.0), replace(ONCE, course=Course.HANDED_OVER, attempts=2)],
    stops={"pod-1": 50.0, "pod-2": 39.0},
)


def test_moments_of_a_drop_are_those_of_its_samples() -> None:
    assert DROP.raised == 9.0
    assert (DROP.most, DROP.all_ready) == (3, 25.0)
    assert DROP.last_done == 40.0


def test_a_pool_is_back_when_it_does_not_grow_again() -> None:
    assert DROP.back == 90.0
    assert replace(DROP, samples=SAMPLES[:-2]).back is None
    assert replace(DROP, samples=SAMPLES[:2]).back == 0.0


def test_tasks_in_hand_at_a_stop_are_those_it_came_in_the_middle_of() -> None:
    assert DROP.in_hand_at_a_stop == 2
    assert replace(DROP, stops={"pod-1": 3.5}).in_hand_at_a_stop == 1
    assert (DROP.begun, DROP.count(Course.ONCE), DROP.count(Course.BEGUN_AGAIN)) == (4, 2, 0)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    Results(dict(CONDITIONS), [DROP]).save(tmp_path / "results.json")

    assert results.load(tmp_path / "results.json") == Results(dict(CONDITIONS), [DROP])


@pytest.mark.parametrize("text", ["", "{}", '{"conditions": {}, "drops": [{"least": 1}]}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)

    with pytest.raises(BenchError, match="holds no results of bench-pools"):
        results.load(tmp_path / "results.json")


def test_the_tables_say_what_was_measured() -> None:
    told = dict(report.tables(Results(dict(CONDITIONS), [DROP])))

    assert "| until more replicas are wanted | 9.00 s | ≤ 30.0 s | yes |" in told["Goals"]
    assert "| tasks that were begun more than once | 1.00 | ≤ 0 | no |" in told["Goals"]
    (compared,) = [table for title, table in told.items() if title != "Goals"]
    assert "| until as few replicas were wanted as before | 90.0 |" in compared
    assert "| tasks handed over by a worker that stopped, and done | 1 |" in compared


def test_a_pool_that_never_grew_reaches_no_goal() -> None:
    still = replace(DROP, samples=SAMPLES[:2])

    assert "| not measured |" in dict(report.tables(Results(dict(CONDITIONS), [still])))["Goals"]


def pod(name: str, *, used: int | None = None, running: bool = True, stopping: bool = False) -> Document:
    metadata: Document = {"name": name}
    if used is not None:
        metadata["annotations"] = {names.ANNOTATION_SLOTS_USED: json.dumps({"perdure-gpu": used, "perdure-data": 4})}
    if stopping:
        metadata |= {"deletionTimestamp": "2026-11-23T08:01:00Z", "deletionGracePeriodSeconds": 60}
    state: Document = {"running": {}} if running else {"terminated": {}}
    return {"metadata": metadata, "status": {"containerStatuses": [{"state": state}]}}


@pytest.mark.parametrize(
    ("found", "busy"),
    [
        pytest.param(pod("a", used=1), 1, id="a task in hand"),
        pytest.param(pod("a", used=1, running=False), 0, id="ended with what it said last"),
        pytest.param(pod("a"), 0, id="nothing said yet"),
    ],
)
def test_busy_slots_are_those_of_the_gpu_queue_while_the_worker_runs(found: Document, busy: int) -> None:
    assert pool.busy_slots(found) == busy


def test_a_pod_was_told_to_stop_its_grace_before_its_deletion() -> None:
    assert pool.told_to_stop(pod("a", stopping=True)) == pytest.approx(1795420800.0)
    assert pool.told_to_stop(pod("a")) is None


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("1500m", 1.5), ("2k", 2000), ("0", 0)])
def test_quantities_are_read_as_kubernetes_writes_them(text: str, number: float) -> None:
    assert pool.quantity(text) == pytest.approx(number)


class Looks:
    """A pool that shows one sample after the other, and then its last one for ever."""

    def __init__(self, *samples: Sample) -> None:
        self.samples = list(samples)
        self.stops = {"pod-2": 1039.0}

    async def until_calm(self, least: int) -> None:
        pass

    async def look(self) -> Sample:
        return self.samples.pop(0) if len(self.samples) > 1 else self.samples[0]


async def test_a_drop_is_looked_at_until_the_pool_is_small_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOOK_SECONDS", 0)
    monkeypatch.setattr(run, "LEAD_SECONDS", 0)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    done = asyncio.Event()

    async def result() -> None:
        await done.wait()

    async def fetch_history() -> Any:
        return SimpleNamespace(events=[])

    async def drop(*_: object) -> list[Any]:
        asyncio.get_running_loop().call_later(0.05, done.set)
        return [SimpleNamespace(id="one", result=result, fetch_history=fetch_history)]

    monkeypatch.setattr(run, "drop", drop)
    grown = [replace(sample, seconds=1000 + sample.seconds) for sample in SAMPLES]

    found = await run.dropped(None, Looks(*grown), program.LOAD, PERDURE, 1)  # type: ignore[arg-type]

    assert done.is_set()
    assert list(found.samples[: len(SAMPLES)]) == SAMPLES
    assert found.stops == {"pod-2": 39.0}


async def test_what_keeps_from_looking_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LEAD_SECONDS", 0)

    class Away(Looks):
        async def look(self) -> Sample:
            raise BenchError("the API server does not answer")

    async def drop(*_: object) -> list[Any]:
        return []

    monkeypatch.setattr(run, "drop", drop)

    with pytest.raises(BenchError, match="does not answer"):
        await run.dropped(None, Away(), program.LOAD, PERDURE, 1)  # type: ignore[arg-type]


def test_each_task_has_an_input_of_its_own_that_batch_embed_takes() -> None:
    first, second = (BatchEmbedInput.model_validate(program.LOAD.given(number)) for number in (0, 1))

    assert len(first.texts) == len(second.texts) == program.LOAD.texts.count
    assert first.texts != second.texts
    assert BatchEmbedInput.model_validate(program.LOAD.given(0)) == first


def test_the_last_tasks_are_large_and_still_answered_without_files() -> None:
    counts = [len(program.LOAD.given(number)["texts"]) for number in range(program.LOAD.tasks)]

    assert counts[-program.LOAD.large - 1 :] == [8, 320, 320]
    assert 384 * max(counts) < RESULT_NUMBERS


def test_the_model_is_in_the_store_only_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "FOLDER", f"{tmp_path.as_uri()}/store")
    monkeypatch.setattr(load, "MODEL", f"{tmp_path.as_uri()}/store/model")
    (tmp_path / "encoder/1_Pooling").mkdir(parents=True)
    (tmp_path / "encoder/config.json").write_text("{}")
    (tmp_path / "encoder/1_Pooling/config.json").write_text("{}")

    def stored() -> list[str]:
        return sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "store").rglob("*") if file.is_file())

    with load.model_in_store(Stores(), tmp_path / "encoder"):
        assert stored() == ["store/model/1_Pooling/config.json", "store/model/config.json"]
    assert stored() == []


def test_an_encoder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="run: make models"), load.model_in_store(Stores(), tmp_path):
        pass


@pytest.mark.parametrize("arguments", [[], ["--encoder=x", "--tasks=2"], ["--encoder=x", "--most=1"]])
def test_a_wish_that_makes_no_sense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.options(arguments)
    assert "expected" in capsys.readouterr().err


def test_what_was_measured_can_be_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Results(dict(CONDITIONS), [DROP]).save(tmp_path / "results.json")

    assert program.main(["--show", f"--results={tmp_path}/results.json"]) == 0
    assert "| workers told to stop | 2 |" in capsys.readouterr().out
    assert (tmp_path / "results.png").exists()
