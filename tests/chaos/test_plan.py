"""The same seed is the same storm."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from perdure_api.spec import TrainingJobSpec
from tests.chaos.faults import QUICK, SEVERAL_NODES
from tests.chaos.kinds import KINDS, Inputs
from tests.chaos.lasting import LASTING, NODE_FAULTS, STORE_FAULTS
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


def test_what_an_attempt_may_be_ended_by_are_faults_that_are_made() -> None:
    assert {*NODE_FAULTS, *STORE_FAULTS} <= LASTING.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_job_asks_for_what_the_contract_knows(kind: str) -> None:
    inputs = Inputs("python:3", {"model": {"uri": "s3://b/m"}, "dataset": {"uri": "s3://b/d"},
                                 "output": {"uri": "s3://b/o"}})  # fmt: skip

    spec = TrainingJobSpec.model_validate(KINDS[kind].spec(inputs, random.Random(1)))

    assert spec.built_in == KINDS[kind].built_in
    assert spec.nodes == KINDS[kind].nodes
    assert (kind in SEVERAL_NODES) == (spec.nodes > 1)


def test_most_of_220_jobs_cost_little_and_of_the_costly_ones_there_are_a_few() -> None:
    wishes = plan_jobs("1", 220, {name: kind.weight for name, kind in KINDS.items()})

    counts = Counter(each.kind for each in wishes)
    assert 1 <= counts["trains-two"] <= 5
    assert sum(counts[name] for name, kind in KINDS.items() if kind.built_in) <= 45


def test_the_adapter_of_a_job_of_the_built_in_trainer_is_compared_unless_it_is_deleted() -> None:
    adapters = {"trains": "abc", "trains-two": "def"}

    compared = {name: kind.deserves(adapters).adapter for name, kind in KINDS.items() if kind.built_in}
    assert compared == {"trains": "abc", "trains-suspended": "abc", "trains-two": "def", "trains-deleted": None}
    assert [name for name, kind in KINDS.items() if kind.deserves(adapters).gone] == ["trains-deleted"]
