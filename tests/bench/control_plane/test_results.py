"""Figures follow from what was measured, and survive being written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cluster.errors import BenchError
from bench.cluster.installation import CONTROL_PLANE, OTHERS, OURS
from bench.cluster.workload import OURS as TRAINING_JOB
from bench.cluster.workload import PLAIN
from bench.control_plane import __main__ as program
from bench.control_plane import report, results
from bench.control_plane.moments import Moments
from bench.control_plane.results import Plan, Results, Run

CONDITIONS = {
    "time": "2026-11-23T08:00:00+00:00",
    "cpu": "Xeon",
    "cpus": 2,
    "load_before": 0.1,
    "kubernetes": "v1.34.4",
    "perdure": "abc",
    "workers": 2,
}


def run_of(kind: str, *, seconds: float = 4.0, cpu: float = 1.0, writes: int = 40, turn: int = 0) -> Run:
    """Four jobs; the last one's end is after so many seconds."""
    jobs = [Moments(0.0 + each, 0.1 + each, 0.5, 0.6, seconds - 3 + each) for each in range(4)]
    processes = (*CONTROL_PLANE, *OURS, OTHERS)
    return Run(
        plan=Plan(kind, 4, at_once=True, turn=turn),
        jobs=jobs,
        cpu_seconds=dict.fromkeys(processes, cpu),
        requests={"POST pods": writes, "GET pods": 8, "POST subjectaccessreviews": 4},
        objects={"jobs": 4, "pods": 4, "events": 30},
        memory={who: {"before": 1 << 20, "most": 3 << 20, "after": 2 << 20} for who in processes},
        story={"events": 20.0, "actions": 6.0} if kind == TRAINING_JOB else {},
        own_cpu_seconds=0.5,
    )


def both(turns: Sequence[int] = (0,)) -> Results:
    runs = [
        run
        for turn in turns
        for run in (run_of(PLAIN, turn=turn), run_of(TRAINING_JOB, seconds=10, cpu=2.5, writes=68, turn=turn))
    ]
    return Results(dict(CONDITIONS), runs)


def test_figures_of_a_run() -> None:
    run = run_of(TRAINING_JOB)

    assert run.seconds == pytest.approx(4.0)
    assert run.jobs_per_second == pytest.approx(1.0)
    assert run.lag("applied", "pod", 0.95) == pytest.approx(0.1)
    assert run.writes_per_job == pytest.approx(10.0)
    assert run.requests_per_job == pytest.approx(13.0)
    assert run.objects_per_job == pytest.approx(2.0), "Events are not what a job is made of"


def test_the_rest_of_the_cluster_is_no_cost_of_a_job() -> None:
    run = run_of(PLAIN)

    assert run.cpu_seconds_per_job == pytest.approx(len((*CONTROL_PLANE, *OURS)) / 4)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = both()
    written.save(tmp_path / "a/results.json")

    assert results.load(tmp_path / "a/results.json") == written


@pytest.mark.parametrize("text", ["", "{}", '{"conditions": {}, "moments": [], "runs": [{}]}', "[]"])
def test_another_file_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)

    with pytest.raises(BenchError, match="holds no results of bench-control-plane"):
        results.load(tmp_path / "results.json")


def test_ratios_compare_runs_of_one_turn() -> None:
    found = both((0, 1))
    found.runs[2] = replace(found.runs[2], cpu_seconds=dict.fromkeys((*CONTROL_PLANE, *OURS, OTHERS), 5.0))

    assert report.ratios(found, "4 at once", report.FIGURES["CPU per job, ms"]) == pytest.approx([2.5, 0.5])


def test_a_kind_that_was_not_measured_has_no_ratio() -> None:
    only_ours = Results(dict(CONDITIONS), [run_of(TRAINING_JOB)])

    assert report.ratios(only_ours, "4 at once", report.FIGURES["jobs/s"]) == []


def test_the_tables_show_both_kinds_the_ratio_and_every_goal() -> None:
    shown = dict(report.tables(both()))

    assert "| CPU per job, ms | 2,000 | 5,000 | 2.50 |" in shown["4 at once"]
    assert "| CPU per job ÷ plain Job, 4 at once | 2.50 | ≤ 2.80 | yes | Kubeflow Trainer 2.3: 4.2 |" in shown["Goals"]
    assert shown["Goals"].count("not measured") == 3, "nothing was measured one by one"
    assert "| POST pods | 10.0 | 17.0 | yes |" in shown["Requests to the API server per job, 4 at once"]
    assert "| events | 20.0 |" in shown["A workflow's history"]
    assert "| worker, 4 at once | 1.00 | 3.00 | 2.00 |" in shown["Memory in MiB: before, most, after"]


def test_nothing_measured_yet_is_goals_alone() -> None:
    assert list(dict(report.tables(Results(dict(CONDITIONS))))) == ["Goals"]


def test_kinds_go_in_turn_and_neither_is_always_first() -> None:
    made = list(program.plans(20, (100,), 2))

    assert [(plan.kind, plan.jobs, plan.turn) for plan in made] == [
        (PLAIN, 20, 0),
        (TRAINING_JOB, 20, 0),
        (PLAIN, 100, 0),
        (TRAINING_JOB, 100, 0),
        (TRAINING_JOB, 20, 1),
        (PLAIN, 20, 1),
        (TRAINING_JOB, 100, 1),
        (PLAIN, 100, 1),
    ]
    assert [plan.at_once for plan in made[:3]] == [False, False, True]


def test_going_on_makes_only_what_is_missing() -> None:
    found = both()

    assert [found.has(plan) for plan in program.plans(0, (4, 8), 1)] == [True, True, False, False]


def test_raw_results_tables_and_picture_lie_side_by_side(tmp_path: Path) -> None:
    program.write(both(), tmp_path / "results.json")

    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.md", "results.png"}
    assert (tmp_path / "results.md").read_text().startswith("2 CPUs of an Xeon")


def test_what_was_measured_can_be_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both().save(tmp_path / "results.json")

    assert program.main(["--show", f"--results={tmp_path}/results.json"]) == 0
    assert "| jobs/s |" in capsys.readouterr().out
    assert program.main(["--show", f"--results={tmp_path}/none.json"]) == 1
    assert "expected them from make bench-control-plane" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--sizes", "many"], ["--sizes", "0"], ["--sizes", "20000"], ["--times", "0"]])
def test_a_wish_that_makes_no_sense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.options(arguments)
    assert "expected" in capsys.readouterr().err or arguments[0] == "--times"


def test_the_quick_form_is_small() -> None:
    wanted = program.options(["--quick"])

    assert (wanted.sizes, wanted.one_by_one, wanted.times) == ((100,), 20, 1)
