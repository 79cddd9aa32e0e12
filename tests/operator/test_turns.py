"""Whose turn it is among many objects, with all of the operator but its two clients."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from perdure_api import names
from perdure_api.conditions import phase_of
from perdure_operator.admission import EXACT_POSITIONS, Limits, Slot
from perdure_operator.metrics import GaugeCollector, Gauges
from perdure_operator.tracker import Tracker
from perdure_operator.turns import Turns
from tests.operator.paper import NOON, OPERATOR, Keys, Paper, World, position, says


@pytest.fixture
def finishing() -> Callable[[World], Iterator[str]]:
    """Ends what runs, first come first, until nothing does; names each."""

    def end_all(world: World) -> Iterator[str]:
        while world.at_work:
            name = next(name for name in world.order if name in world.at_work)
            yield name
            world.finish(next(paper for paper in world.papers.values() if paper.metadata["name"] == name))
            world.settle()

    return end_all


def test_jobs_behind_a_limit_say_what_they_wait_for_and_where(finishing: Callable[[World], Iterator[str]]) -> None:
    world = World(cluster=1)
    papers = [world.create(name, after_seconds=number) for number, name in enumerate("abc")]
    world.settle()

    assert world.at_work == ["a"]
    assert [position(paper) for paper in papers] == [None, 1, 2]
    assert says(papers[2]) == ("Queued", "Queued")
    expected = "waiting for its turn: number 2 in line; at most 1 run at a time (limits.maxConcurrentJobs)"
    assert papers[2].status["message"] == expected
    assert str(phase_of(papers[2].seen.conditions)) == "Queued"
    assert "finalizers" not in papers[2].metadata, "what never began can be deleted freely"
    assert list(finishing(world)) == ["a", "b", "c"]
    assert [paper.status.get("queue") for paper in papers] == [None] * 3
    assert [says(paper)[0] for paper in papers] == ["Succeeded"] * 3


def test_five_hundred_jobs_behind_a_limit_of_four_run_in_their_order_and_cost_a_few_writes_each() -> None:
    chance = random.Random(6)
    world = World(cluster=4)
    papers = [
        world.create(f"job-{number:03}", after_seconds=number // 9, priority=chance.choice([0, 0, 0, -2, 3]))
        for number in range(500)
    ]
    world.settle()
    first = world.order[:]
    by_rank = sorted(papers, key=lambda paper: (-paper.spec["priority"], paper.metadata["creationTimestamp"]))
    expected = [paper.metadata["name"] for paper in by_rank if paper.metadata["name"] not in first]
    by_name = {paper.metadata["name"]: paper for paper in papers}

    while world.at_work:
        for name in world.at_work:
            world.finish(by_name[name])
        world.settle()
        head = [name for name in world.order if name in world.at_work]
        for ahead, name in enumerate(expected[len(world.order) - 4 :][:EXACT_POSITIONS], start=1):
            assert position(by_name[name]) == ahead, f"{name} behind {head}"

    assert world.order[4:] == expected
    assert world.most_at_work == 4
    assert {says(paper) for paper in papers} == {("Succeeded", "Completed")}
    writes = [paper.writes[OPERATOR] for paper in papers]
    assert max(writes) <= 14
    assert sum(writes) < 500 * 12


def test_while_nobody_moves_a_line_of_five_hundred_costs_no_write_however_often_it_is_looked_at() -> None:
    world = World(cluster=0)
    papers = [world.create(f"job-{number:03}", after_seconds=number) for number in range(500)]
    world.settle()
    told = [paper.writes[OPERATOR] for paper in papers]

    for _ in range(3):
        for paper in papers:
            world.keys.add(paper.metadata["uid"])
        world.settle()
    world.restart(cluster=0)
    world.settle()

    assert {says(paper) for paper in papers} == {("Queued", "Queued")}
    assert [paper.writes[OPERATOR] for paper in papers] == told
    assert world.running == {}, "none has a workflow"


def test_a_priority_that_changes_while_a_job_waits_counts_at_once(finishing: Callable[[World], Iterator[str]]) -> None:
    world = World(cluster=1)
    papers = [world.create(name, after_seconds=number) for number, name in enumerate("abcd")]
    world.settle()

    world.change(papers[3], priority=1)
    world.settle()

    assert [position(paper) for paper in papers] == [None, 2, 3, 1]
    assert papers[3].status["observedGeneration"] == 2
    assert world.at_work == ["a"], "what runs is not stopped for another"
    assert list(finishing(world)) == ["a", "d", "b", "c"]


def test_an_operator_that_restarts_gives_no_slot_before_it_knows_all_objects() -> None:
    world = World(cluster=2)
    papers = [world.create(name, after_seconds=number) for number, name in enumerate("abcd")]
    world.settle()

    world.restart(cluster=2)
    for paper in papers[:2]:
        world.tracker.drop(paper.metadata["uid"])
    asyncio.run(world._settle())
    assert world.at_work == ["a", "b"]
    for paper in papers[:2]:
        world.tracker.see(paper.seen)
    world.settle()

    assert world.at_work == ["a", "b"]
    assert [position(paper) for paper in papers] == [None, None, 1, 2]


def test_what_is_known_counts_although_nobody_has_looked_at_it_yet() -> None:
    world = World(cluster=1)
    waits = world.create("waits")
    runs = Paper("runs", "ml", NOON, {})
    runs.metadata["finalizers"] = [names.FINALIZER]
    world.turns.note(world.tracker.see(waits.seen))
    world.tracker.see(runs.seen)

    world.turns.open()
    world.turns.give()

    assert {tracked.seen.job.name: tracked.slot for tracked in world.tracker} == {
        "waits": Slot.WANTED,
        "runs": Slot.HELD,
    }


@pytest.mark.parametrize(
    ("limit", "at_work"), [(3, ["a", "b", "c"]), (1, ["a", "b"]), (0, ["a", "b"]), (None, list("abcde"))]
)
def test_new_limits_count_for_who_starts_next_and_stop_nothing(limit: int | None, at_work: list[str]) -> None:
    world = World(cluster=2)
    papers = [world.create(name, after_seconds=number) for number, name in enumerate("abcde")]
    world.settle()

    world.restart(cluster=limit)
    world.settle()

    assert world.at_work == at_work
    for paper in papers:
        if paper.metadata["name"] in at_work:
            assert "queue" not in paper.status
        else:
            assert f"at most {limit} run" in paper.status["message"]


def test_a_slot_is_free_when_no_pod_is_left() -> None:
    world = World(cluster=1)
    first, second, third = (world.create(name, after_seconds=number) for number, name in enumerate("abc"))
    world.settle()

    world.deaf.add(first.metadata["uid"])
    world.change(first, suspend=True)
    world.settle()
    assert position(second) == 1, "its pods may still run"
    world.deaf.clear()
    world.hear(first)
    world.settle()

    assert position(second) is None
    assert position(third) == 1
    world.annotate(second, names.ANNOTATION_CANCEL, "true")
    world.settle()
    assert world.at_work == ["c"]
    world.create("d", after_seconds=9)
    world.gone(third)
    world.settle()
    assert world.at_work == ["d"]


def test_a_job_that_is_cancelled_while_it_waits_ends_at_once() -> None:
    world = World(cluster=1)
    runs, waits, resumed = (world.create(name, after_seconds=number) for number, name in enumerate("abc"))
    world.change(resumed, suspend=True)
    world.settle()
    world.change(resumed, suspend=False)
    world.settle()
    assert [position(paper) for paper in (waits, resumed)] == [1, 2]

    for paper in (waits, resumed):
        world.annotate(paper, names.ANNOTATION_CANCEL, "true")
    world.settle()

    assert [says(paper) for paper in (waits, resumed)] == [("Failed", "Cancelled")] * 2
    assert waits.status["message"] == "cancelled while it waited for its turn; nothing of it ran"
    assert "queue" not in waits.status | resumed.status
    assert "finalizers" not in waits.metadata
    assert world.order == ["a"]
    assert world.at_work == ["a"]
    assert position(runs) is None


def test_a_job_that_is_deleted_while_it_waits_is_gone_and_forgotten() -> None:
    world = World(cluster=1)
    papers = [world.create(name, after_seconds=number) for number, name in enumerate("abc")]
    world.settle()

    world.delete(papers[1])
    world.settle()

    assert position(papers[2]) == 1
    assert len(world.tracker) == 2


def test_what_is_wrong_with_a_spec_is_told_without_waiting() -> None:
    world = World(cluster=1)
    world.create("runs")
    broken = world.create("broken", after_seconds=1, rank=3)
    world.settle()

    assert says(broken) == ("Failed", "InvalidSpec")


def test_a_namespace_at_its_limit_does_not_hold_up_another() -> None:
    world = World(namespace=1, namespaces={"big": 2})
    for number, namespace in enumerate(["ml", "ml", "nlp", "big", "big", "big"]):
        world.create(f"{namespace}-{number}", namespace=namespace, after_seconds=number)
    world.settle()

    assert world.at_work == ["big-3", "big-4", "ml-0", "nlp-2"]


def test_a_job_that_kueue_queues_neither_counts_nor_waits() -> None:
    world = World(cluster=1)
    world.create("ours")
    theirs = Paper("theirs", "ml", NOON, {})
    theirs.metadata["labels"] = {names.LABEL_KUEUE_QUEUE: "research"}
    world.papers[theirs.metadata["uid"]] = theirs
    world._event(theirs)
    world.settle()

    assert world.at_work == ["ours", "theirs"]
    assert world.queues == {"ours": "", "theirs": "research"}
    assert Counter(tracked.slot for tracked in world.tracker) == {Slot.HELD: 1, Slot.NONE: 1}


def test_without_limits_nobody_waits_and_nothing_is_written() -> None:
    world = World()
    papers = [world.create(f"job-{number}") for number in range(50)]
    asyncio.run(world._settle())

    assert len(world.at_work) == 50
    assert sum(paper.writes[OPERATOR] for paper in papers) == 0


def test_a_job_that_need_not_wait_costs_no_write() -> None:
    world = World(cluster=2)
    papers = [world.create("a"), world.create("b")]
    world.settle()

    assert len(world.at_work) == 2
    assert sum(paper.writes[OPERATOR] for paper in papers) == 0


def test_who_has_a_slot_while_temporal_is_away_says_so_and_the_others_stay_in_line() -> None:
    world = World(cluster=1)
    first, second = world.create("a"), world.create("b", after_seconds=1)
    world.problem = "away"
    world.settle()

    assert [says(paper)[1] for paper in (first, second)] == ["TemporalUnavailable", "Queued"]
    world.problem = None
    world._reconciler.temporal_is_back()
    world.settle()
    assert world.at_work == ["a"]


def test_a_wish_that_is_made_while_temporal_is_away_is_told_when_it_is_back() -> None:
    world = World()
    paper = world.create("a")
    world.settle()
    world.problem = "away"

    world.change(paper, suspend=True)
    world.settle()
    assert world.at_work == ["a"]
    world.problem = None
    world._reconciler.temporal_is_back()
    world.settle()

    assert says(paper) == ("Suspended", "Suspended")


def test_gauges_tell_who_waits_and_who_has_a_slot() -> None:
    world = World(cluster=2)
    for number in range(5):
        world.create(f"job-{number}")
    world.settle()
    gauges = Gauges(world.tracker, world.limits, lambda: 0, lambda: True, lambda: None)
    world.registry.register(GaugeCollector(gauges))

    values = {name: world.registry.get_sample_value(name) for name in
              ("perdure_operator_waiting_jobs", "perdure_operator_slots_used", "perdure_operator_slots")}  # fmt: skip

    assert list(values.values()) == [3, 2, 2]
    assert world.registry.get_sample_value("perdure_operator_trainingjobs", {"phase": "Queued"}) == 3
    assert world.registry.get_sample_value("perdure_operator_unfinished_trainingjobs", {"reason": "Queued"}) == 3
    assert Counter(tracked.slot for tracked in world.tracker) == {Slot.WANTED: 3, Slot.HELD: 2}


def test_the_age_of_the_oldest_that_waits_for_its_first_turn_is_told() -> None:
    world = World(cluster=1)
    gauges = Gauges(
        world.tracker, world.limits, lambda: 0, lambda: True, lambda: None, now=lambda: NOON + timedelta(seconds=100)
    )
    world.registry.register(GaugeCollector(gauges))

    def oldest() -> float | None:
        return world.registry.get_sample_value("perdure_operator_oldest_waiting_age_seconds")

    first = world.create("first", after_seconds=0)
    world.settle()
    assert oldest() == 0

    second = world.create("second", after_seconds=40)
    world.create("third", after_seconds=70)
    world.settle()
    assert oldest() == 60

    world.delete(second)
    world.settle()
    assert oldest() == 30

    world.finish(first)
    world.settle()
    assert oldest() == 0


async def test_changes_that_come_together_cost_one_look_at_the_line() -> None:
    started = asyncio.Event()

    class Heard(Keys):
        def add(self, key: str) -> None:
            super().add(key)
            if len(self.waiting) == 20:
                started.set()

    tracker, keys = Tracker(), Heard()
    turns = Turns(Limits(cluster=20), tracker, keys)
    looks = 0
    give = turns.give

    def counted() -> None:
        nonlocal looks
        looks += 1
        give()

    turns.give = counted  # type: ignore[method-assign]
    giving = asyncio.create_task(turns.run())
    turns.open()
    for number in range(30):
        turns.note(tracker.see(Paper(f"job-{number:02}", "ml", NOON, {}).seen))
    async with asyncio.timeout(60):
        await started.wait()
    giving.cancel()

    assert looks == 1
    assert list(keys.waiting)[:20] == [f"uid-of-ml-job-{number:02}" for number in range(20)]
