"""The same seed is the same storm."""

from __future__ import annotations

from collections import Counter

from tests.chaos.faults import LASTING, QUICK
from tests.chaos.kinds import KINDS
from tests.chaos.plan import FaultPlan, plan_faults, plan_jobs

FAULTS = {"often": FaultPlan(9), "seldom": FaultPlan(1, (5, 10))}


def test_one_seed_is_one_plan_and_another_is_another() -> None:
    plans = [plan_faults(seed, 600, FAULTS, (1, 4)) for seed in ("1", "1", "2")]

    assert plans[0] == plans[1] != plans[2]
    jobs = [plan_jobs(seed, 50, {"a": 1, "b": 3}) for seed in ("1", "1", "2")]
    assert jobs[0] == jobs[1] != jobs[2]


def test_faults_come_by_weight_hold_for_their_time_and_fill_the_time() -> None:
    planned = plan_faults("1", 3600, FAULTS, (1, 4))

    counts = Counter(each.fault for each in planned)
    assert counts["often"] > 5 * counts["seldom"] > 0
    assert {0 <= each.hold_seconds <= 10 for each in planned} == {True}
    assert all(5 <= each.hold_seconds <= 10 for each in planned if each.fault == "seldom")
    assert sum(each.hold_seconds + each.pause_seconds for each in planned) >= 3600


def test_every_kind_of_job_is_asked_for() -> None:
    wishes = plan_jobs("1", len(KINDS), {name: kind.weight for name, kind in KINDS.items()})

    assert {each.kind for each in wishes} == KINDS.keys()
    assert len({each.name for each in wishes}) == len(wishes)


def test_in_half_an_hour_every_fault_comes() -> None:
    for lane in (QUICK, LASTING):
        planned = plan_faults("1", 1800, {name: plan for name, (_, plan) in lane.items()}, (4, 15))
        assert {each.fault for each in planned} == lane.keys()
