"""What a start of a workflow brings, and who is not started, with all of the operator but its two clients."""

from __future__ import annotations

from datetime import timedelta

from perdure_api import names
from tests.operator.paper import NOON, Paper, World, condition, position, says


def test_each_start_brings_what_the_object_tells_of_itself() -> None:
    world = World()
    paper = world.create("tells")
    world.settle()
    assert world.recalled == {"tells": None}
    world.publish_as_workflow(paper, attemptCounters={"started": 2, "failed": 1})

    world.running.clear()  # Temporal has lost its data
    world.restart()
    world.settle()

    recalled = world.recalled["tells"]
    assert recalled
    assert recalled.attempt_counters
    assert (recalled.attempt_counters.started, recalled.attempt_counters.failed) == (2, 1)


def test_a_cancel_that_was_told_to_a_workflow_whose_history_is_lost_is_told_to_the_next_one() -> None:
    world = World()
    paper = world.create("cancelled")
    world.settle()
    uid = paper.metadata["uid"]
    world.deaf.add(uid)
    world.annotate(paper, names.ANNOTATION_CANCEL, "true")
    world.settle()
    assert world.at_work == ["cancelled"], "told, and not done yet"

    world.running.clear()  # Temporal has lost its data
    world.deaf.clear()
    tracked = world.tracker.get(uid)
    assert tracked
    tracked.started_at = None  # as drift leaves it
    world.keys.add(uid)
    world.settle()

    assert world.at_work == []
    assert says(paper) == ("Failed", "Cancelled")


def test_a_job_restored_from_a_backup_waits_for_its_turn_whatever_its_backup_says_of_another() -> None:
    world = World(cluster=1)
    world.create("runs")
    restored = Paper("restored", "ml", NOON + timedelta(seconds=1), {})
    restored.metadata |= {
        "finalizers": [names.FINALIZER],
        "annotations": {names.ANNOTATION_HELD_FOR: "of the object of the backup"},
    }
    restored.apply("backup", {"workflow": {"id": "trainingjob/ml/restored/old"}, "phase": "Running"})
    world.papers[restored.metadata["uid"]] = restored
    world.restart(cluster=1)
    world.settle()

    assert world.at_work == ["runs"]
    assert position(restored) == 1


def test_a_wish_that_changes_while_a_job_is_started_is_heard() -> None:
    world = World(cluster=1)
    paper = world.create("a")
    world.meanwhile = lambda: world.change(paper, suspend=True)

    world.settle()

    assert says(paper) == ("Suspended", "Suspended")
    assert world.order == []


def test_an_old_copy_of_a_finished_object_starts_nothing_although_temporal_knows_nothing_of_it_any_more() -> None:
    """argo#16294: a completed step ran again, hours later."""
    world = World()
    paper = Paper("old", "ml", NOON, {})
    world.papers[paper.metadata["uid"]] = paper
    old_copy = paper.seen
    ended = [condition("Succeeded", "True", "Completed"), condition("Reconciling", "False", "Finished")]
    world.publish_as_workflow(paper, phase="Succeeded", reason="Completed", message="done", conditions=ended)
    world.keys.waiting.clear()

    world.tracker.see(old_copy)
    world.keys.add(paper.metadata["uid"])
    world.settle()

    assert world.order == []
    assert says(paper) == ("Succeeded", "Completed")
