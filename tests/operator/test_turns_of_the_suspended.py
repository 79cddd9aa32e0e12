"""Turns of jobs that are suspended and resumed, with all of the operator but its two clients."""

from __future__ import annotations

from perdure_api.conditions import ConditionType
from perdure_api.workflow import Wishes
from tests.operator.paper import World, position, says


def test_a_job_that_is_resumed_waits_for_its_turn_and_its_workflow_hears_nothing_before() -> None:
    world = World(cluster=1)
    first = world.create("first")
    world.settle()
    world.change(first, suspend=True)
    world.settle()
    second = world.create("second", after_seconds=5)
    world.settle()
    assert world.at_work == ["second"]

    world.change(first, suspend=False)
    world.settle()

    assert says(first) == ("Queued", "Queued")
    assert position(first) == 1
    assert world.at_work == ["second"]
    assert first.status["observedGeneration"] == 2, "its workflow knows of no newer one"
    world.restart(cluster=1)
    world.settle()
    assert world.at_work == ["second"]
    world.finish(second)
    world.settle()
    assert world.at_work == ["first"]
    assert says(first) == ("Starting", "Starting")
    assert first.status["observedGeneration"] == 3
    assert "queue" not in first.status


def test_a_job_that_was_let_go_on_keeps_its_slot_although_its_workflow_has_not_said_so() -> None:
    world = World(cluster=1)
    first = world.create("first")
    world.settle()
    world.change(first, suspend=True)
    world.settle()
    second = world.create("second", after_seconds=5)
    world.settle()
    world.change(first, suspend=False)
    world.create("third", after_seconds=6)
    world.settle()
    world.deaf.add(first.metadata["uid"])
    world.finish(second)
    world.settle()

    assert first.seen.suspended, "no worker has carried it on"
    assert world.at_work == ["first"]
    world.restart(cluster=1)
    world.settle()
    assert world.at_work == ["first"]


def test_a_job_that_is_suspended_while_it_waits_leaves_the_line_and_may_come_back() -> None:
    world = World(cluster=1)
    runs, waits, new = (world.create(name, after_seconds=number) for number, name in enumerate(("r", "w", "n")))
    world.settle()
    world.change(runs, suspend=True)
    world.settle()
    world.change(runs, suspend=False)
    world.settle()
    assert [position(paper) for paper in (runs, waits, new)] == [1, None, 2]

    world.change(runs, suspend=True)
    world.change(new, suspend=True)
    world.settle()

    assert [says(paper) for paper in (runs, new)] == [("Suspended", "Suspended")] * 2
    assert "queue" not in runs.status | new.status
    reconciling = runs.seen.condition(ConditionType.RECONCILING)
    assert reconciling is not None
    assert reconciling.status == "False"
    assert world.at_work == ["w"]
    world.change(new, suspend=False)
    world.change(runs, suspend=False)
    world.settle()
    assert [position(paper) for paper in (runs, new)] == [1, 2]
    world.finish(waits)
    world.settle()
    assert world.at_work == ["r"]


def test_a_job_that_is_created_suspended_needs_no_slot_until_it_is_resumed() -> None:
    world = World(cluster=1)
    runs = world.create("runs")
    sleeps = world.create("sleeps", suspend=True)
    deaf = world.create("deaf", suspend=True)
    world.deaf.add(deaf.metadata["uid"])
    world.settle()
    assert says(sleeps) == ("Suspended", "Suspended")
    assert world.at_work == ["runs"]

    for paper in (sleeps, deaf):
        world.change(paper, suspend=False)
    world.settle()

    assert world.at_work == ["runs"]
    world.finish(runs)
    world.settle()
    assert world.at_work == ["deaf"]
    world.deaf.clear()
    world.hear(deaf)
    world.finish(deaf)
    world.settle()
    assert world.at_work == ["sleeps"]


def test_what_a_sleeping_workflow_says_late_does_not_hide_that_its_job_waits() -> None:
    world = World(cluster=1)
    world.create("runs")
    sleeps = world.create("sleeps", suspend=True)
    world.deaf.add(sleeps.metadata["uid"])
    world.settle()
    world.change(sleeps, suspend=False)
    world.settle()
    assert says(sleeps) == ("Queued", "Queued")

    world.deaf.clear()
    world.hear(sleeps)
    assert says(sleeps) == ("Suspended", "Suspended")
    world.settle()

    assert says(sleeps) == ("Queued", "Queued")


def test_of_a_job_that_goes_on_by_another_hand_no_place_is_told() -> None:
    world = World(cluster=1)
    first = world.create("first")
    world.settle()
    world.change(first, suspend=True)
    world.settle()
    world.create("second")
    world.settle()
    world.change(first, suspend=False)
    world.settle()
    assert position(first) == 1

    world._hears(first.metadata["uid"], Wishes(generation=3))  # somebody has signalled the workflow
    world.settle()

    assert says(first) == ("Starting", "Starting")
    assert "queue" not in first.status


def test_a_job_that_was_created_suspended_counts_like_any_other_once_it_runs() -> None:
    world = World(cluster=1)
    first = world.create("first", suspend=True)
    world.settle()
    world.change(first, suspend=False)
    world.settle()
    second = world.create("second", after_seconds=1)

    world.deaf.add(first.metadata["uid"])
    world.change(first, suspend=True)
    world.settle()

    assert position(second) == 1, "the pods of the first one may still run"


def test_a_restarted_operator_gives_no_slot_away_while_pods_of_a_suspended_job_may_run() -> None:
    world = World(cluster=1)
    first = world.create("first")
    world.settle()
    world.hear(first)
    second = world.create("second", after_seconds=1)
    world.deaf.add(first.metadata["uid"])
    world.change(first, suspend=True)
    world.settle()

    world.restart(cluster=1)
    world.settle()

    assert position(second) == 1
    world.deaf.clear()
    world.hear(first)
    world.settle()
    assert position(second) is None
