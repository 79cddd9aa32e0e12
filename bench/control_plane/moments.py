"""When what was seen of each job, by watches: objects' own times are whole seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bench.cluster.api import Document
from bench.cluster.workload import PLAIN
from perdure_api import names

_JOB_OF_A_POD = "batch.kubernetes.io/job-name"


@dataclass
class Moments:
    """Of one job, in seconds since the run began; None: not seen (yet)."""

    applied: float | None = None
    """Just before it was sent."""
    pod: float | None = None
    """Its first pod is there."""
    ended: float | None = None
    """The pod has succeeded."""
    completed: float | None = None
    """The Job is Complete."""
    succeeded: float | None = None
    """The TrainingJob is Succeeded; of a plain Job: it is Complete."""

    @property
    def seen(self) -> bool:
        """Whether everything of it was seen."""
        return None not in asdict(self).values()


class Witness:
    """Takes the events of three watches, and writes down what is seen for the first time."""

    def __init__(self, kind: str, now: Callable[[], float] = time.monotonic) -> None:
        self._kind = kind
        self._now = now
        self._began = now()
        self.jobs: dict[str, Moments] = {}
        self.failed: dict[str, str] = {}
        """Jobs that came to another end, with what they say of it."""

    def applies(self, name: str) -> None:
        """The job is about to be sent."""
        self.jobs[name] = Moments(applied=self._elapsed())

    def take_pod(self, event: Document) -> None:
        """An event of the watch of pods."""
        pod = event["object"]
        label = _JOB_OF_A_POD if self._kind == PLAIN else names.LABEL_JOB
        self._see(pod["metadata"].get("labels", {}).get(label), "pod")
        if pod.get("status", {}).get("phase") == "Succeeded":
            self._see(pod["metadata"]["labels"].get(label), "ended")

    def take_job(self, event: Document) -> None:
        """An event of the watch of Jobs."""
        job = event["object"]
        metadata = job["metadata"]
        name = metadata["name"] if self._kind == PLAIN else metadata.get("labels", {}).get(names.LABEL_JOB)
        if _is_true(job, "Complete"):
            self._see(name, "completed")
            if self._kind == PLAIN:
                self._see(name, "succeeded")
        elif _is_true(job, "Failed"):
            self.failed[name] = f"its Job failed: {_message(job, 'Failed')}"

    def take_trainingjob(self, event: Document) -> None:
        """An event of the watch of TrainingJobs."""
        job = event["object"]
        name = job["metadata"]["name"]
        if _is_true(job, "Succeeded"):
            self._see(name, "succeeded")
        elif any(each["type"] == "Succeeded" and each["status"] == "False" for each in _conditions(job)):
            self.failed[name] = _message(job, "Succeeded")

    @property
    def done(self) -> bool:
        """Whether all that were applied were seen to their end."""
        return all(moments.seen for moments in self.jobs.values())

    @property
    def missing(self) -> list[str]:
        """Those that were not, in order."""
        return [name for name, moments in self.jobs.items() if not moments.seen]

    def _elapsed(self) -> float:
        return self._now() - self._began

    def _see(self, name: str | None, what: str) -> None:
        moments = self.jobs.get(name or "")
        if moments and getattr(moments, what) is None:
            setattr(moments, what, round(self._elapsed(), 4))


def _conditions(job: Document) -> list[Mapping[str, Any]]:
    return (job.get("status") or {}).get("conditions") or []


def _is_true(job: Document, type_: str) -> bool:
    return any(each["type"] == type_ and each["status"] == "True" for each in _conditions(job))


def _message(job: Document, type_: str) -> str:
    return next((each.get("message", "") for each in _conditions(job) if each["type"] == type_), "")
