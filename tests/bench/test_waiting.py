"""What is counted of jobs that wait, and what that makes of one and an hour."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cluster.workload import STAYS, training_job
from bench.waiting import WAITS, Cost, Results, load, main, tables
from bench.watch.results import Rates
from perdure_api.spec import TrainingJobSpec

NOBODY = dict.fromkeys(("operator", "worker", "temporal", "kube-apiserver"), 0.0)
IDLE = Rates(NOBODY, {"LIST pods": 2.0}, {"PollWorkflowTaskQueue": 1.0})
COST = Cost(
    "its turn",
    jobs=100,
    idle=IDLE,
    waiting=Rates(
        {**NOBODY, "operator": 0.05},
        {"LIST pods": 2.0, "APPLY trainingjobs/status": 0.25},
        {"PollWorkflowTaskQueue": 1.5},
    ),
)


def test_what_a_job_costs_in_an_hour_is_what_comes_to_what_there_is_without_any() -> None:
    assert COST.requests() == pytest.approx(9)
    assert COST.asked_of_temporal() == pytest.approx(18)
    assert COST.cpu_seconds("operator") == pytest.approx(1.8)
    assert COST.cpu_seconds("worker") == 0


def test_a_temporal_that_does_not_tell_is_not_said_to_be_asked_nothing() -> None:
    silent = Cost("its turn", 100, Rates(NOBODY, {}, {}), Rates(NOBODY, {}, {}))

    assert silent.asked_of_temporal() is None
    ((_, table),) = tables([COST, silent])
    assert "| its turn | 9.00 | 18.0 |" in table
    assert "| its turn | 0 | - |" in table


@pytest.mark.parametrize("waits_for", WAITS)
def test_each_kind_of_job_asks_for_what_the_contract_knows(waits_for: str) -> None:
    waits = WAITS[waits_for]
    spec = {**training_job("j", STAYS)["spec"], **waits.spec}

    assert not TrainingJobSpec.model_validate(spec).built_in
    assert not waits.waits({})


def test_what_is_kept_is_what_was_measured_with_its_table_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "folder/results.json"
    facts = dict.fromkeys(("cpus", "cpu", "load_before", "kubernetes", "perdure", "workers", "time", "jobs"), "1")
    results = Results({**facts, "minutes": 1.0}, [COST])
    results.save(path)

    assert load(path) == results
    assert load(path).measured == {"its turn"}
    assert "| its turn | 9.00 | 18.0 |" in path.with_suffix(".md").read_text()


def test_to_go_on_with_nothing_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--go-on", "--results", str(tmp_path / "results.json")]) == 1
    assert "run it without --go-on" in capsys.readouterr().err
