"""All of the operator but its two clients: a cluster and a Temporal of paper.

A status is kept by field managers as the API server keeps it, so that what one leaves behind is seen.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry

from perdure_api import names
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import JobRef, TrainingInput, Wishes
from perdure_control.statuses import Written
from perdure_operator.admission import Limits
from perdure_operator.metrics import make_metrics
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
