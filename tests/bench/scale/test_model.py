"""The arithmetic and the simulation, beside what is known without them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cluster.errors import BenchError
from bench.control_plane.moments import Moments
from bench.control_plane.results import Plan, Results
from bench.scale import __main__ as program
from bench.scale import check, costs, load, report, simulate
from bench.scale.costs import STATIONS, Costs
from bench.scale.load import Load
from bench.scale.simulate import Visit
from bench.watch.results import Results as Running
from tests.bench.control_plane.test_results import CONDITIONS, both, run_of
from tests.bench.watch.test_watch import HELD

COSTS = Costs(
    per_job=dict.fromkeys(STATIONS, 0.012),
    per_running_second=dict.fromkeys(STATIONS, 0.0001),
    idle=dict.fromkeys(STATIONS, 0.01),
    bytes_per_running=dict.fromkeys(STATIONS, 50_000.0),
    bytes_idle=dict.fromkeys(STATIONS, 1e8),
    requests_per_job=30.0,
    requests_per_running_second=0.05,
)


def burst(size: int, turn: int = 0) -> Results:
    """A machine of two CPUs that does nothing but jobs of ten times 0.5 s / size each: it needs what the model says."""
    run = run_of("TrainingJob", cpu=size * 0.012, turn=turn)
    whole = size * 0.012 * 9 / 2 + 1.0
    jobs = [Moments(0.0, 0.1, 0.5, 0.6, whole * (each + 1) / size) for each in range(size)]
    used = {**run.cpu_seconds, "others": 0.0}
    plan = Plan("TrainingJob", size, at_once=True, turn=turn)
    made = replace(run, plan=plan, jobs=jobs, cpu_seconds=used, own_cpu_seconds=0)
    return Results(dict(CONDITIONS), [made])


def test_one_job_alone_needs_the_sum_of_its_visits() -> None:
    way = simulate.visits(COSTS, 100.0)

    (job,) = simulate.simulate([5.0], way, dict.fromkeys(STATIONS, 1))

    assert job.moments["succeeded"] == pytest.approx(5 + 100 + simulate.GATHERED_SECONDS + sum(COSTS.per_job.values()))
    assert job.moments["ended"] == pytest.approx(job.moments["running"] + 100)
    assert 5 < job.moments["pod"] < job.moments["running"]


def test_what_a_station_costs_is_spent_there_and_nowhere_else() -> None:
    way = simulate.visits(COSTS, 0.0)

    for name in STATIONS:
        assert sum(visit.seconds for visit in way if visit.station == name) == pytest.approx(0.012), name


def test_who_comes_first_is_served_first() -> None:
    jobs = simulate.simulate([0.0, 0.0, 0.0], [Visit("a", 1.0, "done")], {"a": 1})

    assert [job.moments["done"] for job in jobs] == [1.0, 2.0, 3.0]


def test_two_servers_serve_twice_as_many() -> None:
    jobs = simulate.simulate([0.0] * 4, [Visit("a", 1.0, "done")], {"a": 2})

    assert [job.moments["done"] for job in jobs] == [1.0, 1.0, 2.0, 2.0]


def test_a_wait_that_needs_no_cpu_holds_nobody_up() -> None:
    jobs = simulate.simulate([0.0] * 100, [Visit(None, 1.0, "done")], {})

    assert {job.moments["done"] for job in jobs} == {1.0}


def test_a_station_that_is_busy_with_something_else_is_slower() -> None:
    (job,) = simulate.simulate([0.0], [Visit("a", 1.0, "done")], {"a": 1}, {"a": 0.5})

    assert job.moments["done"] == pytest.approx(2.0)
    with pytest.raises(ValueError, match="a is busy with 100%"):
        simulate.simulate([0.0], [Visit("a", 1.0, "done")], {"a": 1}, {"a": 1.0})


def test_the_line_before_one_server_is_as_long_as_theory_says() -> None:
    """M/D/1: random arrivals, a fixed time at the counter; the mean wait is busy * time / (2 * (1 - busy))."""
    service, busy = 0.1, 0.6
    arrivals = simulate.poisson(busy / service, 5_000)

    jobs = simulate.simulate(arrivals, [Visit("a", service, "done")], {"a": 1})

    waited = sum(job.moments["done"] - job.arrived - service for job in jobs) / len(jobs)
    assert waited == pytest.approx(busy * service / (2 * (1 - busy)), rel=0.1)


def test_random_arrivals_are_as_many_as_asked_for_and_the_same_each_time() -> None:
    moments = simulate.poisson(10, 1000)

    assert len(moments) == pytest.approx(10_000, rel=0.05)
    assert all(a < b for a, b in itertools.pairwise(moments))
    assert moments == simulate.poisson(10, 1000)
    assert moments != simulate.poisson(10, 1000, seed=1)


def test_cores_follow_from_starts_and_running_jobs() -> None:
    wish = Load(starts_per_minute=600, running=1000)

    assert wish.running_seconds == pytest.approx(100)
    assert load.busy(COSTS, wish)["worker"] == pytest.approx(0.01 + 10 * 0.012 + 1000 * 0.0001)
    assert load.requests_per_second(COSTS, wish) == pytest.approx(10 * 30 + 1000 * 0.05)


def test_python_gets_more_processes_and_the_others_more_cores() -> None:
    needed = load.needs(COSTS, Load(starts_per_minute=6000, running=1000))  # 1.31 cores each

    assert (needed["worker"].processes, needed["etcd"].processes) == (3, 1)
    assert needed["etcd"].cores_to_order == 3
    assert needed["worker"].bytes_ == pytest.approx(3 * 1e8 + 1000 * 50_000)
    assert needed["etcd"].bytes_ == pytest.approx(1e8 + 1000 * 50_000)


def test_a_station_is_full_at_as_many_starts_as_its_cores_can_do() -> None:
    full = load.most_starts(COSTS, Load(600, 1000), {"worker": 1, "etcd": 2})

    assert full["worker"] == pytest.approx(60 * (1 - 0.01 - 0.1) / 0.012)
    assert full["etcd"] > full["worker"]
    free = replace(COSTS, per_job=dict.fromkeys(STATIONS, 0.0))
    assert load.most_starts(free, Load(600, 1000), {"etcd": 2}) == {"etcd": math.inf}


def test_costs_are_those_of_the_largest_sizes() -> None:
    found = costs.measured(both(), Running(dict(CONDITIONS), [HELD, replace(HELD, jobs=5000)]))

    assert found.per_job["worker"] == pytest.approx(2.5 / 4)
    assert found.per_running_second["worker"] == pytest.approx(0.04 / 5000)
    assert found.idle["worker"] == pytest.approx(0.01)
    assert "kwok" not in found.per_job, "real nodes have kubelets of their own"


@pytest.mark.parametrize("which", ["bursts", "running"])
def test_without_what_was_measured_there_is_no_model(which: str) -> None:
    bursts = Results(dict(CONDITIONS)) if which == "bursts" else both()
    running = Running(dict(CONDITIONS), [] if which == "running" else [HELD])

    with pytest.raises(BenchError, match="run: make bench-control-plane bench-watch"):
        costs.measured(bursts, running)


def test_the_model_says_how_a_burst_of_another_size_went() -> None:
    found = Results(dict(CONDITIONS), [*burst(100).runs, *burst(400).runs])

    points = list(check.points(found, COSTS))

    assert len(points) == 4
    assert all(abs(point.off) < 0.15 for point in points if "the last" in point.what)


def test_a_single_size_is_no_check_of_itself() -> None:
    assert list(check.points(burst(100), COSTS)) == []


def test_a_model_that_says_too_much_is_off_by_more_than_nothing() -> None:
    assert check.Point("x", 2.0, 3.0).off == pytest.approx(0.5)


def test_the_tables_say_what_to_order_what_is_waited_for_and_what_is_full_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "SIMULATED_SECONDS", 60.0)
    found = Results(dict(CONDITIONS), [*burst(100).runs, *burst(400).runs])

    shown = dict(report.tables(found, COSTS, Load(600, 1000)))

    assert "| worker | 0.230 | 1 of 1 core | 0.140 |" in shown["1,000 running and 600 starts a minute need"]
    assert shown["How long a job waits for its steps then, simulated"].count("\n") == 7
    assert len(shown) == 5


def test_it_runs_on_what_lies_in_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "SIMULATED_SECONDS", 60.0)
    burst(100).save(tmp_path / "b.json")
    Running(dict(CONDITIONS), [HELD]).save(tmp_path / "w.json")
    files = [f"--bursts={tmp_path}/b.json", f"--watched={tmp_path}/w.json"]

    assert program.main([*files, "--running=1000", "--starts=60"]) == 0
    assert "1,000 running and 60 starts a minute need" in capsys.readouterr().out
    assert program.main([*files[:1], f"--watched={tmp_path}/none.json"]) == 1
    assert "expected them from make bench-watch" in capsys.readouterr().err
