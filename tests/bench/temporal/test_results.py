"""What Temporals cost follows from what was measured, and survives being written down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from temporalio.service import RPCError, RPCStatusCode

from bench.cluster import output
from bench.cluster.errors import BenchError
from bench.temporal import __main__ as program
from bench.temporal import report, results
from bench.temporal.results import FILE, MEMORY, POSTGRESQL, SERVER, STORES, TEMPORAL, WORKER, Held, Plan, Results, Run

MIB = 1 << 20
CONDITIONS = {
    "time": "2026-11-23T08:00:00+00:00",
    "cpu": "Xeon",
    "cpus": 2,
    "load_before": 0.1,
    "perdure": "abc",
    "sdk": "1.35",
    "temporal": "temporal version 1.9.1",
    "filesystem": "ext2/ext3",
    "postgresql": "",
    "without": [],
}


def run_of(store: str = MEMORY, *, seconds: float = 2.0, turn: int = 0) -> Run:
    return Run(
        plan=Plan(store, 4, at_once=True, turn=turn),
        seconds=seconds,
        lasted=[0.1, 0.2, 0.3, seconds],
        cpu_seconds={SERVER: 2.0, WORKER: 1.0},
        memory={part: {"before": MIB, "most": 3 * MIB, "after": 2 * MIB} for part in (SERVER, WORKER)},
        disk_bytes=8192,
        story={
            "events": 14.0,
            "actions": 3.0,
            "workflow_tasks": 2,
            "activities": 1,
            "local_activities": 3,
            "bytes_": 9,
        },
        own_cpu_seconds=0.5,
    )


def held_of(store: str = MEMORY, workflows: int = 100) -> Held:
    return Held(
        store=store,
        workflows=workflows,
        turn=0,
        minutes=2,
        idle_cpu={SERVER: 0.1, WORKER: 0.0},
        held_cpu={SERVER: 0.6, WORKER: 0.2},
        memory={part: {"before": 10 * MIB, "held": 20 * MIB} for part in (SERVER, WORKER)},
    )


def both() -> Results:
    return Results(dict(CONDITIONS), [run_of(MEMORY), run_of(FILE, seconds=4)], [held_of(MEMORY), held_of(FILE)])


def test_figures_of_a_run() -> None:
    run = run_of()

    assert run.workflows_per_second == pytest.approx(2.0)
    assert run.latency(0.5) == pytest.approx(0.2)
    assert run.cpu_per_workflow(*TEMPORAL) == pytest.approx(0.5), "a development server has no database of its own"
    assert run.cpu_per_workflow() == pytest.approx(0.75)
    assert run.cpus_busy == pytest.approx(1.75), "the measuring program takes its part of the machine too"


def test_an_open_workflow_costs_what_is_used_beyond_an_idle_server() -> None:
    held = held_of()

    assert held.cpu_per_minute(SERVER) == pytest.approx(0.5 * 60 / 100)
    assert held.cpu_per_minute() == pytest.approx(0.7 * 60 / 100)
    assert held.bytes_per_workflow(WORKER) == pytest.approx(10 * MIB / 100)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    both().save(tmp_path / "a/results.json")

    assert results.load(tmp_path / "a/results.json") == both()


@pytest.mark.parametrize("text", ["", "{}", '{"conditions": {}, "runs": [{}], "held": []}', "[]"])
def test_another_file_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)

    with pytest.raises(BenchError, match="holds no results of bench-temporal"):
        results.load(tmp_path / "results.json")


def test_the_tables_have_a_column_for_each_store() -> None:
    shown = dict(report.tables(both()))

    assert shown["4 at once"].startswith(f"|  | {STORES[MEMORY]} | {STORES[FILE]} |")
    assert "| workflows/s | 2.00 | 1.00 |" in shown["4 at once"]
    assert "| CPU per workflow, Temporal, ms | 500 | 500 |" in shown["4 at once"]
    assert "| database | - | - |" in shown["CPU milliseconds per workflow by process, 4 at once"]
    assert "| server, 4 at once | 1.00, 3.00 | 1.00, 3.00 |" in shown["Memory in MiB: before, most"]
    assert "| events | 14.0 | 14.0 |" in shown["A workflow's history"]
    held = shown["100 open workflows with a heartbeating activity each, for 2 minutes"]
    assert "| CPU per workflow and minute, server, ms | 300 | 300 |" in held


def test_columns_stand_in_one_order_whatever_was_measured_first() -> None:
    turned = Results(dict(CONDITIONS), [run_of(FILE), run_of(MEMORY)])

    assert turned.stores == [MEMORY, FILE]


def test_nothing_measured_yet_is_no_table() -> None:
    assert list(report.tables(Results(dict(CONDITIONS)))) == []


def test_what_was_left_out_is_told() -> None:
    assert report.conditions(both()).endswith("2026-11-23T08:00:00+00:00.")
    without = Results(CONDITIONS | {"without": [FILE]}, [run_of()])
    assert report.conditions(without).endswith(f"Left out, as told: {STORES[FILE]}.")


def test_the_order_of_stores_is_turned_round_with_each_turn() -> None:
    assert [program.order(("a", "b"), turn) for turn in range(3)] == [("a", "b"), ("b", "a"), ("a", "b")]


def test_small_runs_come_first() -> None:
    made = list(program.plans(MEMORY, 20, (100, 300), 1))

    assert [plan.load for plan in made] == ["20 one by one", "100 at once", "300 at once"]
    assert {plan.turn for plan in made} == {1}
    assert [plan.load for plan in program.plans(MEMORY, 0, (100,), 0)] == ["100 at once"]


def test_going_on_makes_only_what_is_missing() -> None:
    found = both()

    assert [found.has(plan) for plan in program.plans(FILE, 0, (4, 8), 0)] == [True, False]
    assert found.has_held(FILE, 100, 0)
    assert not found.has_held(FILE, 200, 0)


def test_going_on_with_another_temporal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"was measured with temporal temporal version 1\.9\.1, here it is another"):
        output.require_same(CONDITIONS, CONDITIONS | {"temporal": "another"}, tmp_path)


def test_what_was_measured_can_be_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both().save(tmp_path / "results.json")

    assert program.main(["--show", f"--results={tmp_path}/results.json"]) == 0
    assert "| workflows/s |" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.md", "results.png"}
    assert program.main(["--show", f"--results={tmp_path}/none.json"]) == 1
    assert "expected them from make bench-temporal" in capsys.readouterr().err


def test_a_temporal_that_ends_meanwhile_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ended(*_: object) -> None:
        raise ExceptionGroup("starts", [RPCError("tcp connect error", RPCStatusCode.UNAVAILABLE, b"")])

    monkeypatch.setattr(program, "BUILD", tmp_path)
    monkeypatch.setattr(program, "_measure", ended)

    assert program.main(["--without", POSTGRESQL, f"--results={tmp_path}/results.json"]) == 1
    assert f"bench: {STORES[MEMORY]} does not answer any more (tcp connect error)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--turns", "0"], "found --turns 0"),
        (["--minutes", "0"], "expected at least 1, 0 and 0, and more than 0"),
        (["--sizes", "many"], "expected numbers"),
        (["--without", "oracle"], "invalid choice"),
        ([word for store in STORES for word in ("--without", store)], "expected at least one to measure"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        program.options(arguments)
    assert said in capsys.readouterr().err


def test_the_quick_form_is_small_and_leaves_no_store_out() -> None:
    wanted = program.options(["--quick"])

    assert (wanted.sizes, wanted.turns, wanted.open, wanted.stores) == ((100,), 1, 0, tuple(STORES))


def test_a_store_can_be_left_out() -> None:
    assert program.options(["--without", FILE]).stores == tuple(store for store in STORES if store != FILE)


def test_turns_are_told_from_where_to_where() -> None:
    turns = Results(
        dict(CONDITIONS), [run_of(), replace(run_of(seconds=1), plan=Plan(MEMORY, 4, at_once=True, turn=1))]
    )

    assert "| workflows/s | 3.00 (2.00 to 4.00) |" in dict(report.tables(turns))["4 at once"]
