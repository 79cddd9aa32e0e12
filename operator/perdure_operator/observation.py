"""What the operator reads off a TrainingJob."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from perdure_api import names
from perdure_api.conditions import Condition, ConditionStatus, ConditionType, Phase, Reason, is_terminal, phase_of
from perdure_api.spec import DeletionPolicy
from perdure_api.workflow import JobRef, PurgeInput, Wishes


@dataclass(frozen=True)
class Observation:
    """One TrainingJob as it was last seen."""

    job: JobRef
    resource_version: str = ""
    created: datetime | None = None
    deleting: bool = False
    force_delete: bool = False
    cancel: bool = False
    """Somebody wants it to end for good."""
    checkpoint_request: str = ""
    """What somebody has written when asking for a checkpoint; empty: nobody has."""
    kueue_queue: str = ""
    """The queue of Kueue that decides when it runs; empty: none."""
    finalizers: tuple[str, ...] = ()
    held_for: str = ""
    """The uid that our finalizer was put on for; empty: nobody said so (an older release)."""
    annotated: bool = False
    """Whether it has any annotation."""
    spec: dict[str, Any] = field(default_factory=dict)
    """As it was stored: parsed only when a workflow is to be started with it."""
    status: dict[str, Any] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    """Those of types that this version knows."""

    @property
    def held(self) -> bool:
        """Whether our finalizer is on it."""
        return names.FINALIZER in self.finalizers

    @property
    def restored(self) -> bool:
        """Whether it came with the finalizer that was put on another object: it was restored from a backup."""
        return self.held and self.held_for not in {"", self.job.uid}

    @property
    def terminal(self) -> bool:
        """Whether it is finished for good."""
        return is_terminal(self.conditions)

    @property
    def phase(self) -> Phase:
        """The phase that its conditions amount to."""
        return phase_of(self.conditions)

    @property
    def finished(self) -> datetime | None:
        """When it finished; None while it goes on."""
        succeeded = self.condition(ConditionType.SUCCEEDED)
        if not self.terminal or succeeded is None:
            return None
        return moment(self.status.get("completionTime")) or moment(succeeded.last_transition_time)

    @property
    def ttl_seconds(self) -> int | None:
        """How long it is kept after it finished; None: for ever."""
        value = self.spec.get("ttlSecondsAfterFinished")
        return value if isinstance(value, int) else None

    @property
    def priority(self) -> int:
        """Its points in line."""
        value = self.spec.get("priority")
        return value if isinstance(value, int) else 0

    @property
    def suspend(self) -> bool:
        """Whether it is to be suspended."""
        return self.spec.get("suspend") is True

    @property
    def wishes(self) -> Wishes:
        """What may change while the job runs."""
        return Wishes(generation=self.job.generation, suspend=self.suspend, kueue_queue=self.kueue_queue)

    @property
    def purge(self) -> PurgeInput | None:
        """What is to be deleted from the store before it goes; None: nothing."""
        output = self.spec.get("output")
        uri = output.get("uri") if isinstance(output, dict) else None
        if self.spec.get("deletionPolicy") != DeletionPolicy.DELETE_CHECKPOINTS or not isinstance(uri, str):
            return None
        return PurgeInput(job=self.job, output_uri=uri)

    @property
    def observed_generation(self) -> int:
        """The generation of the spec that the status speaks of."""
        value = self.status.get("observedGeneration")
        return value if isinstance(value, int) else 0

    @property
    def spoken_for(self) -> bool:
        """Whether its own workflow has spoken; what a backup brought back is of another object's, of another uid."""
        workflow = self.status.get("workflow")
        return isinstance(workflow, dict) and workflow.get("id") == self.job.workflow_id

    @property
    def taken_up(self) -> bool:
        """Whether a workflow has ever spoken: then its spec was good once, whatever this version thinks of it."""
        if self.status.get("workflow"):
            return self.spoken_for
        return self.condition(ConditionType.ACCEPTED) is not None

    @property
    def begun(self) -> bool:
        """Whether there is a workflow, or is about to be: our finalizer is put on before it is started."""
        return (self.held and not self.restored) or self.taken_up

    @property
    def suspended(self) -> bool:
        """Whether its workflow says that nothing of it runs, nor will, until it is told to go on."""
        suspended = self.condition(ConditionType.SUSPENDED)
        return suspended is not None and suspended.status is ConditionStatus.TRUE

    @property
    def resuming(self) -> bool:
        """Whether it says that its turn to go on has come, although its workflow may not have heard of it."""
        return self._now_doing(Reason.RESUMED)

    @property
    def position(self) -> int | None:
        """Which place in line is told of it."""
        queue = self.status.get("queue")
        value = queue.get("position") if isinstance(queue, dict) else None
        return value if isinstance(value, int) else None

    @property
    def queued(self) -> bool:
        """Whether it says anything of a line."""
        return "queue" in self.status or self._now_doing(Reason.QUEUED)

    @property
    def message(self) -> str:
        """What people read first."""
        return str(self.status.get("message") or "")

    @property
    def waits_for_temporal(self) -> bool:
        """Whether it says that it waits for Temporal."""
        reconciling = self.condition(ConditionType.RECONCILING)
        return reconciling is not None and reconciling.reason == Reason.TEMPORAL_UNAVAILABLE

    @property
    def says_that_it_fails(self) -> bool:
        """Whether it says that the code of its workflow fails."""
        return self._now_doing(Reason.WORKFLOW_FAILING)

    @property
    def still_waits(self) -> bool:
        """Whether it says something that the operator once said of its waiting."""
        return self.queued or self._now_doing(Reason.TEMPORAL_UNAVAILABLE, Reason.PENDING, Reason.WORKFLOW_FAILING)

    def condition(self, type_: ConditionType) -> Condition | None:
        """The condition of one type."""
        return next((condition for condition in self.conditions if condition.type is type_), None)

    def _now_doing(self, *reasons: Reason) -> bool:
        reconciling = self.condition(ConditionType.RECONCILING)
        return (
            reconciling is not None
            and reconciling.status is ConditionStatus.TRUE
            and reconciling.reason in set(reasons)
        )


def observe(document: dict[str, Any]) -> Observation:
    """The observation of an object as the API server sends it."""
    metadata = document["metadata"]
    annotations = metadata.get("annotations") or {}
    status = document.get("status") or {}
    return Observation(
        job=JobRef(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            generation=metadata.get("generation", 1),
        ),
        resource_version=metadata.get("resourceVersion", ""),
        created=moment(metadata.get("creationTimestamp")),
        deleting=bool(metadata.get("deletionTimestamp")),
        force_delete=annotations.get(names.ANNOTATION_FORCE_DELETE) == "true",
        cancel=annotations.get(names.ANNOTATION_CANCEL) == "true",
        checkpoint_request=annotations.get(names.ANNOTATION_CHECKPOINT, ""),
        kueue_queue=(metadata.get("labels") or {}).get(names.LABEL_KUEUE_QUEUE, ""),
        finalizers=tuple(metadata.get("finalizers") or ()),
        held_for=annotations.get(names.ANNOTATION_HELD_FOR, ""),
        annotated=bool(annotations),
        spec=document.get("spec") or {},
        status=status,
        conditions=tuple(_known_conditions(status.get("conditions") or [])),
    )


def moment(text: object) -> datetime | None:
    """The time that an RFC 3339 text names, in UTC; None when it is none."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _known_conditions(documents: list[dict[str, Any]]) -> list[Condition]:
    """The conditions that this version understands: after a downgrade a newer one's must not stop anything."""
    conditions = []
    for document in documents:
        try:
            conditions.append(Condition.from_wire(document))
        except ValidationError:
            continue
    return conditions
