"""What `describe` tells: what was asked, what happened and why, how it is now, what comes next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Final

from perdure_api.conditions import ConditionStatus, ConditionType, Phase, Reason
from perdure_api.spec import DeletionPolicy
from perdure_api.status import AttemptStatus
from perdure_cli import bar, phrases
from perdure_cli.job import Job

_EVENTS_SHOWN: Final = 10
_DELETION_WAITS_FOR: Final = frozenset({Reason.TEMPORAL_UNAVAILABLE, Reason.STORE_UNAVAILABLE, Reason.ACCESS_DENIED})

ADVICE: Final[Mapping[str, str]] = {
    Reason.INVALID_SPEC: "Correct the spec and create it as a new TrainingJob.",
    Reason.DATASET_NOT_FOUND: "Put the dataset where spec.dataset.uri says, or correct the URI in a new TrainingJob.",
    Reason.DATASET_EMPTY: "Give it a dataset with something in it, in a new TrainingJob.",
    Reason.DATASET_BROKEN: "Mend the dataset as the message says, then create the TrainingJob again.",
    Reason.MODEL_NOT_FOUND: "Put the model where spec.model.uri says, or correct the URI in a new TrainingJob.",
    Reason.MODEL_BROKEN: "Give it a complete model folder, in a new TrainingJob.",
    Reason.OUTPUT_NOT_FOUND: "Create the bucket of spec.output.uri, or correct the URI in a new TrainingJob.",
    Reason.ACCESS_DENIED: "Check the credentials for the object store, then create the TrainingJob again.",
    Reason.STORE_UNAVAILABLE: "Nothing, unless the object store stays away: it goes on by itself.",
    Reason.TEMPORAL_UNAVAILABLE: "Nothing, unless Temporal stays away: it starts by itself.",
    Reason.QUEUED: "Nothing: it starts by itself. A higher spec.priority lets it go sooner, unless Kueue decides.",
    Reason.OUT_OF_MEMORY: "Give it more memory (spec.resources), or a smaller batchSize or sequenceLength.",
    Reason.OUT_OF_DISK: "Give it more disk (spec.resources.ephemeralStorage), or have it write less below /scratch.",
    Reason.PEER_LOST: "Look at the log and the node of the rank that the message names; it is tried again.",
    Reason.HUNG: "Look at where its threads were, as the message says; raise deadlines.progressSeconds if it was slow.",
    Reason.NO_CAPACITY: "Ask for less, name resources.alternatives or minNodes, or add nodes that have what it needs.",
    Reason.IMAGE_PULL_FAILED: "Check the image's name, and that the nodes may pull it.",
    Reason.CANNOT_START: "Correct what the message names (command, Secret, …) in a new TrainingJob.",
    Reason.JOB_REFUSED: "Ask whoever set the quota or policy that refuses it; the message names it.",
    Reason.DIVERGED: "Lower learningRate, or look at the data: the loss became infinite or not a number.",
    Reason.PERMANENT_ERROR: "Correct what the message says; trying the same again would fail the same way.",
    Reason.PROTOCOL_ERROR: "See that the trainer leaves what the message says was expected.",
    Reason.DEADLINE_EXCEEDED: "Give it longer (spec.deadlines), or less to do.",
    Reason.MAX_ATTEMPTS_REACHED: "Read the logs of its attempts; raise retry.maxAttempts only for bad luck.",
    Reason.WORKFLOW_LOST: "Look at the workflow's history in Temporal, then delete the job and create it again.",
    Reason.WORKFLOW_FAILING: "Tell whoever runs Perdure: other workers are needed, of a release that does not fail.",
    Reason.RECALLED: "Nothing for this job. Ask whoever runs Temporal what became of its data.",
    Reason.CANCELLED: "Create it again if that was a mistake.",
}
"""What a person can do about a reason."""


@dataclass(frozen=True)
class Section:
    """A heading and its lines."""

    title: str
    lines: list[str]


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event."""

    when: datetime | None
    type: str
    reason: str
    message: str


def read_event(document: dict[str, Any]) -> Event:
    """The Event of an object as the API server sends it."""
    time = document.get("lastTimestamp") or document.get("eventTime") or document["metadata"].get("creationTimestamp")
    return Event(
        when=phrases.moment(time),
        type=document.get("type") or "Normal",
        reason=document.get("reason") or "",
        message=document.get("message") or "",
    )


def tell(job: Job, events: Sequence[Event], now: datetime, zone: tzinfo | None = None) -> list[Section]:
    """The story of a job.

    Args:
        job: The job.
        events: Its Events, in any order.
        now: The time.
        zone: Time zone for times of day; None: the machine's own.
    """
    sections = [
        Section(_headline(job, now), []),
        Section("What was asked", list(_asked(job.spec))),
        Section("What happened", [f"{phrases.clock(when, zone, today=now)}  {text}" for when, text in _happened(job)]),
        Section("Now", list(_now(job))),
        Section("What you can do", list(_can_do(job))),
    ]
    if events:
        sections.append(Section("Events", _events(events, now)))
    return sections


def _headline(job: Job, now: datetime) -> str:
    if job.ended is not None:
        since = f"{phrases.duration((now - job.ended).total_seconds())} ago"
    else:
        since = f"made {phrases.duration((now - job.created).total_seconds())} ago"
    return f"{job.namespace}/{job.name}: {job.phase}, {since}"


def _asked(spec: dict[str, Any]) -> Iterator[str]:
    trainer = spec.get("trainer") or {}
    if trainer.get("command"):
        command = shlex.join([*trainer["command"], *trainer.get("args", [])])
        image = f"image {trainer['image']}" if trainer.get("image") else "the installation's own image"
        yield f"Run a trainer of your own: {command}, in {image}."
    else:
        yield from _asked_of_built_in(spec)
    yield from _asked_of_nodes(spec.get("resources") or {})
    if spec.get("priority"):
        yield f"Where jobs wait for their turn: {_ahead(spec['priority'])}."
    if (spec.get("retry") or {}).get("maxAttempts"):
        yield f"Give up after {phrases.counted(spec['retry']['maxAttempts'], 'failed attempt')}."
    if spec.get("ttlSecondsAfterFinished") is not None:
        yield f"Delete this object {phrases.duration(spec['ttlSecondsAfterFinished'])} after it finished."
    if _deletes_checkpoints(spec):
        yield "Delete its checkpoints with this object."


def _ahead(priority: int) -> str:
    """What a priority is worth: each point is a day in line."""
    days = phrases.counted(abs(priority), "day")
    return f"before those that came up to {days} earlier" if priority > 0 else f"as if it had come {days} later"


def _asked_of_nodes(resources: dict[str, Any]) -> Iterator[str]:
    nodes, gpus = resources.get("nodes", 1), resources.get("gpusPerNode", 0)
    needs = [
        phrases.counted(gpus, "GPU") if gpus else None,
        f"{resources['cpu']} CPU" if resources.get("cpu") else None,
        f"{resources['memory']} memory" if resources.get("memory") else None,
        f"{resources['ephemeralStorage']} of disk" if resources.get("ephemeralStorage") else None,
    ]
    each = ", ".join(need for need in needs if need)
    if nodes > 1:
        fewer = f", or on {resources['minNodes']} at least" if resources.get("minNodes") else ""
        yield f"On {nodes} nodes{fewer}, with {each} on each." if each else f"On {nodes} nodes{fewer}."
    elif each:
        yield f"With {each}."


def _asked_of_built_in(spec: dict[str, Any]) -> Iterator[str]:
    rank = (spec.get("lora") or {}).get("rank", 16)
    training = spec.get("training") or {}
    steps, epochs = training.get("maxSteps"), training.get("epochs")
    long = phrases.counted(steps, "step") if steps else f"{phrases.number(epochs or 0)} epochs"
    yield f"Train a LoRA adapter of rank {rank} for {long}."
    for what, part in (("Base model", "model"), ("Dataset", "dataset"), ("Work is kept in", "output")):
        if (spec.get(part) or {}).get("uri"):
            yield f"{what}: {spec[part]['uri']}"


def _happened(job: Job) -> list[tuple[datetime, str]]:
    """What happened, in the order of time."""
    told = [(job.created, "created"), *_milestones(job)]
    hidden = job.attempts_started - len(job.status.attempts)
    for attempt in job.status.attempts:
        told.extend(_attempt(attempt))
    if hidden > 0 and job.attempt:
        began = phrases.moment(job.status.attempts[0].start_time) or job.created
        told.append((began, f"({phrases.counted(hidden, 'earlier attempt')} no longer shown)"))
    if job.ended is not None:
        verdict = "succeeded" if job.succeeded else f"failed for good: {job.status.reason}"
        told.append((job.ended, verdict))
    return sorted(told, key=lambda each: each[0])


def _milestones(job: Job) -> Iterator[tuple[datetime, str]]:
    taken_up = phrases.moment(job.status.start_time)
    if taken_up is not None:
        yield taken_up, "taken up"
    dataset = job.status.condition(ConditionType.DATASET_READY)
    when = phrases.moment(dataset.last_transition_time) if dataset else None
    if dataset is None or when is None or dataset.reason == Reason.NOT_CHECKED:
        return
    if dataset.status is ConditionStatus.TRUE:
        yield when, f"dataset checked{_because(dataset.message)}"
    elif dataset.status is ConditionStatus.FALSE:
        yield when, f"dataset refused{_because(dataset.message)}"


def _attempt(attempt: AttemptStatus) -> Iterator[tuple[datetime, str]]:
    began, ended = phrases.moment(attempt.start_time), phrases.moment(attempt.end_time)
    if began is not None:
        resumed = f", resuming from step {phrases.number(attempt.from_step)}" if attempt.from_step else ""
        yield began, f"attempt {attempt.number} began{resumed} (Job {attempt.job})"
    if ended is None:
        return
    where = f" on node {attempt.node}" if attempt.node else ""
    step = f" at step {phrases.number(attempt.to_step)}" if attempt.to_step is not None else ""
    if attempt.checkpoint_step is not None and attempt.checkpoint_step != attempt.to_step:
        step += f" (saved: step {phrases.number(attempt.checkpoint_step)})"
    code = f" (exit code {attempt.exit_code})" if attempt.exit_code is not None else ""
    yield ended, f"attempt {attempt.number} ended{step}{where}: {attempt.reason}{code}{_because(attempt.message)}"


def _now(job: Job) -> Iterator[str]:
    if job.deleting:
        yield "It is being deleted; its workflow cleans up first."
        waits = job.status.condition(ConditionType.RECONCILING)
        if waits and waits.status is ConditionStatus.TRUE and waits.reason in _DELETION_WAITS_FOR:
            yield waits.message
    elif job.succeeded is not None:
        yield bar.last_line(job)
    else:
        yield f"{bar.plain_line(job)}."
        if job.phase == Phase.RETRYING:
            yield "The next attempt starts by itself, from the newest checkpoint."
    checkpoint = job.status.checkpoint
    if checkpoint is not None and not job.succeeded:
        yield f"Newest checkpoint: step {phrases.number(checkpoint.step)}, {checkpoint.uri}"


def _can_do(job: Job) -> Iterator[str]:
    scope = f"-n {job.namespace} {job.name}"
    advice = ADVICE.get(job.status.reason or "")
    if advice and not job.succeeded:
        yield advice
    if job.succeeded is None and not job.deleting:
        if job.spec.get("suspend") is True:
            yield f"perdure resume {scope}"
        yield f"perdure watch {scope}"
    if job.attempts_started:
        yield f"perdure logs {scope}"
    if job.succeeded and job.status.result and job.status.result.adapter_uri:
        yield f"Load the adapter: PeftModel.from_pretrained(model, …), from {job.status.result.adapter_uri}"
    if not job.deleting:
        keeps = ""
        if _deletes_checkpoints(job.spec):
            keeps = "   (its checkpoints go, too; all else in the object store stays)"
        elif job.spec.get("output"):
            keeps = "   (what is in the object store stays)"
        yield f"kubectl delete trainingjob {scope}{keeps}"


def _deletes_checkpoints(spec: dict[str, Any]) -> bool:
    return bool(spec.get("output")) and spec.get("deletionPolicy") == DeletionPolicy.DELETE_CHECKPOINTS


def _events(events: Sequence[Event], now: datetime) -> list[str]:
    newest = sorted((event for event in events if event.when), key=lambda event: event.when or now)[-_EVENTS_SHOWN:]
    width = max((len(event.reason) for event in newest), default=0)
    return [
        f"{phrases.age((now - (event.when or now)).total_seconds()):>4}  {event.type:<7}  "
        f"{event.reason:<{width}}  {event.message}"
        for event in newest
    ]


def _because(message: str | None) -> str:
    return f": {message}" if message else ""
