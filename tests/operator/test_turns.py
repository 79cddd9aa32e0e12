"""All of the operator but its two clients: what it does about many objects, with a cluster and a Temporal of paper.

A status is kept by field managers as the API server keeps it, so that what one leaves behind is seen.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from perdure_api import names
from perdure_api.conditions import ConditionType, phase_of
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import JobRef, TrainingInput, Wishes
from perdure_control.statuses import Written
from perdure_operator.admission import EXACT_POSITIONS, Limits, Slot
from perdure_operator.metrics import GaugeCollector, Gauges, make_metrics
from perdure_operator.observation import Observation, observe
from perdure_operator.queue import ReconcileQueue
from perdure_operator.reconciler import Reconciler, Services
from perdure_operator.tracker import Tracker
from perdure_operator.turns import Turns
from perdure_operator.workflows import TemporalUnavailable

Document = dict[str, Any]
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
WORKFLOW = names.FIELD_MANAGER_WORKFLOW
OPERATOR = names.FIELD_MANAGER_OPERATOR


def timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(type_: str, status: str, reason: str) -> Document:
    return {"type": type_, "status": status, "reason": reason, "lastTransitionTime": timestamp(NOON)}


class Paper:
    """One object."""

    def __init__(self, name: str, namespace: str, created: datetime, spec: Document) -> None:
        self.metadata: Document = {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-of-{namespace}-{name}",
            "generation": 1,
            "creationTimestamp": timestamp(created),
        }
        self.spec = {"trainer": {"image": "x", "command": ["true"]}, "priority": 0, "suspend": False, **spec}
        self._parts: dict[str, tuple[str, Any]] = {}
        self.writes: Counter[str] = Counter()

    def apply(self, manager: str, status: Document) -> None:
        """Forced server-side apply: each condition is a part of its own."""
        self.writes[manager] += 1
        named = {key: value for key, value in status.items() if key not in {"conditions", "attempts"}}
        named |= {f"condition {each['type']}": each for each in status.get("conditions", [])}
        self._parts = {key: part for key, part in self._parts.items() if part[0] != manager or key in named}
        self._parts |= {key: (manager, value) for key, value in named.items()}

    @property
    def status(self) -> Document:
        plain = {key: value for key, (_, value) in self._parts.items() if not key.startswith("condition ")}
        told = [value for key, (_, value) in self._parts.items() if key.startswith("condition ")]
        return {**plain, "conditions": told}

    @property
    def seen(self) -> Observation:
        return observe({"metadata": dict(self.metadata), "spec": dict(self.spec), "status": self.status})


class Keys(ReconcileQueue):
    """The queue, worked off by whoever waits for it."""

    def __init__(self) -> None:
        super().__init__(workers=1)
        self.waiting: deque[str] = deque()

    def add(self, key: str) -> None:
        if key not in self.waiting:
            self.waiting.append(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Nobody waits that long."""


class World:
    """A cluster, a Temporal whose workflows do as they are told, and an operator that may be killed."""

    def __init__(self, **limits: Any) -> None:
        self.papers: dict[str, Paper] = {}
        self.order: list[str] = []
        """Names in the order in which their workflows were started, or told to go on."""
        self.running: dict[str, Wishes] = {}
        """By uid: what each workflow has heard."""
        self.most_at_work = 0
        self.queues: dict[str, str] = {}
        """The queue of Kueue that each workflow was told of."""
        self.recalled: dict[str, TrainingJobStatus | None] = {}
        """What each workflow was last started with, should Temporal not know it."""
        self.deaf: set[str] = set()
        """Uids of workflows that no worker carries out at present."""
        self.problem: str | None = None
        self.meanwhile: Callable[[], None] | None = None
        """What somebody does while the operator puts its finalizer on an object."""
        self.restart(**limits)

    def restart(self, **limits: Any) -> None:
        """A new operator, of which the watch tells all objects in an order of its own."""
        self.limits = Limits(**limits)
        self.tracker, self.keys = Tracker(), Keys()
        self.turns = Turns(self.limits, self.tracker, self.keys)
        self.registry = CollectorRegistry()
        metrics = make_metrics(self.registry)
        services = Services(
            objects=self,  # type: ignore[arg-type]
            workflows=self,  # type: ignore[arg-type]
            tracker=self.tracker,
            queue=self.keys,
            turns=self.turns,
            metrics=metrics,
            temporal_address="temporal:7233",
            now=lambda: NOON,
        )
        self._reconciler = Reconciler(services)
        papers = list(self.papers.values())
        random.Random(1).shuffle(papers)
        for paper in papers:
            self._event(paper)

    # people

    def create(self, name: str, *, namespace: str = "ml", after_seconds: float = 0, **spec: Any) -> Paper:
        paper = Paper(name, namespace, NOON + timedelta(seconds=after_seconds), spec)
        self.papers[paper.metadata["uid"]] = paper
        self._event(paper)
        return paper

    def change(self, paper: Paper, **spec: Any) -> None:
        paper.spec |= spec
        paper.metadata["generation"] += 1
        self._event(paper)

    def annotate(self, paper: Paper, annotation: str, value: str) -> None:
        paper.metadata.setdefault("annotations", {})[annotation] = value
        self._event(paper)

    def delete(self, paper: Paper) -> None:
        if paper.metadata.get("finalizers"):
            paper.metadata["deletionTimestamp"] = timestamp(NOON)
            self._event(paper)
        else:
            self.gone(paper)

    def gone(self, paper: Paper) -> None:
        del self.papers[paper.metadata["uid"]]
        tracked = self.tracker.see(paper.seen)
        tracked.gone = True
        self.keys.add(paper.metadata["uid"])

    # workflows

    def finish(self, paper: Paper) -> None:
        del self.running[paper.metadata["uid"]]
        ended = [condition("Succeeded", "True", "Completed"), condition("Reconciling", "False", "Finished")]
        self.publish_as_workflow(paper, phase="Succeeded", reason="Completed", message="done", conditions=ended)

    def publish_as_workflow(self, paper: Paper, **status: Any) -> None:
        generation = self.running.get(
            paper.metadata["uid"], Wishes(generation=paper.seen.observed_generation)
        ).generation
        accepted = {"observedGeneration": generation, "workflow": {"id": paper.seen.job.workflow_id}}
        conditions = [condition("Accepted", "True", "Accepted"), *status.pop("conditions", [])]
        paper.apply(WORKFLOW, {**accepted, **status, "conditions": conditions})
        self._event(paper)

    def hear(self, paper: Paper) -> None:
        """What a worker does when its workflow has been told something."""
        uid = paper.metadata["uid"]
        if uid in self.deaf or uid not in self.running:
            return
        if self.running[uid].suspend:
            suspended = [condition("Suspended", "True", "Suspended"), condition("Reconciling", "False", "Suspended")]
            self.publish_as_workflow(paper, phase="Suspended", reason="Suspended", message="s", conditions=suspended)
        else:
            at_work = [condition("Suspended", "False", "Resumed"), condition("Reconciling", "True", "Starting")]
            self.publish_as_workflow(paper, phase="Starting", reason="Starting", message="a", conditions=at_work)

    @property
    def at_work(self) -> list[str]:
        """Names of those whose workflows may have pods."""
        return sorted(
            self.papers[uid].metadata["name"]
            for uid, wishes in self.running.items()
            if uid in self.papers and not wishes.suspend
        )

    # what the operator asks of the cluster and of Temporal

    async def hold(self, seen: Observation) -> Observation | None:
        paper = self.papers.get(seen.job.uid)
        if paper is None:
            return None
        if meanwhile := self.meanwhile:
            self.meanwhile = None
            meanwhile()
        if "finalizers" not in paper.metadata:
            paper.metadata["finalizers"] = [names.FINALIZER]
            self._event(paper)
        return paper.seen

    async def read(self, job: JobRef) -> Observation | None:
        paper = self.papers.get(job.uid)
        return paper.seen if paper else None

    async def publish(self, seen: Observation, status: Document) -> Written:
        paper = self.papers[seen.job.uid]
        TrainingJobStatus.from_wire(status)
        paper.apply(OPERATOR, status)
        self._event(paper)
        return Written.WRITTEN

    async def tell(self, job: JobRef, told: Any) -> bool:
        """An Event on an object, or Wishes for a workflow."""
        if isinstance(told, Wishes):
            if self.problem:
                raise TemporalUnavailable(self.problem)
            self._hears(job.uid, told)
        return job.uid in self.running

    async def start(self, request: TrainingInput) -> bool:
        self.queues[request.job.name] = request.kueue_queue
        self.recalled[request.job.name] = request.recalled
        if request.job.uid not in self.running:
            self._hears(request.job.uid, Wishes(generation=request.job.generation, suspend=request.spec.suspend))
        return True

    async def cancel(self, job: JobRef) -> bool:
        paper = self.papers.get(job.uid)
        if job.uid in self.deaf:
            return True
        if self.running.pop(job.uid, None) is None or paper is None:
            return False
        ended = [condition("Succeeded", "False", "Cancelled"), condition("Reconciling", "False", "Finished")]
        self.publish_as_workflow(paper, phase="Failed", reason="Cancelled", message="c", conditions=ended)
        return True

    # time

    def settle(self) -> None:
        """Until there is nothing more to do."""
        self.turns.open()
        asyncio.run(self._settle())

    async def _settle(self) -> None:
        while True:
            while self.keys.waiting:
                await self._reconciler.reconcile(self.keys.waiting.popleft())
            self.turns.give()
            if not self.keys.waiting:
                return

    def _hears(self, uid: str, wishes: Wishes) -> None:
        before = self.running.get(uid)
        if before and wishes.generation <= before.generation:
            return
        self.running[uid] = wishes
        if not wishes.suspend and (before is None or before.suspend):
            self.order.append(self.papers[uid].metadata["name"])
            self.most_at_work = max(self.most_at_work, len(self.at_work))
        if before is None or before.suspend != wishes.suspend:
            self.hear(self.papers[uid])

    def _event(self, paper: Paper) -> None:
        self.tracker.see(paper.seen)
        self.keys.add(paper.metadata["uid"])


def position(paper: Paper) -> int | None:
    return paper.seen.position


def says(paper: Paper) -> tuple[str, str]:
    return paper.status["phase"], paper.status["reason"]


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
    async with asyncio.timeout(10):
        await started.wait()
    giving.cancel()

    assert looks == 1
    assert list(keys.waiting)[:20] == [f"uid-of-ml-job-{number:02}" for number in range(20)]
