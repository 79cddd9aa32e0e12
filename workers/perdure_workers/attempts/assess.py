"""What an attempt is doing now: still waiting (for what?), running, or ended (how?)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from perdure_api.conditions import Reason
from perdure_workers.attempts.outcome import Outcome, classify, classify_several
from perdure_workers.watching.facts import Cause, JobFacts, PodFacts
from perdure_workers.watching.index import AttemptView

_PULL_PROBLEMS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
_HOPELESS: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
OVERDUE_SECONDS: Final = 30.0
"""So long after it should have ended a pod of which nothing was heard is on a node that does not answer."""
_START_PROBLEMS: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_LACKS: Final = frozenset({Reason.NO_CAPACITY, Reason.IMAGE_PULL_FAILED, Reason.CANNOT_START})
"""What keeps a pod from running, in sentences that do not name the pod."""
_ONLY_SLOW: Final = frozenset({Reason.STARTING, Reason.FAILED})
"""Of one that is on its way, and of one that was so for too long: nobody says that it lacks anything."""
_PODS_NAMED: Final = 3
"""Of several pods that lack the same, so many are named."""


@dataclass(frozen=True)
class Waiting:
    """Not running; the reason and sentence say what it lacks."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Running:
    """Its pods run. Where a node does not answer, one may have ended for all that is known."""

    pod: str
    node: str
    silent: bool = False
    """Whether its node does not answer."""


@dataclass(frozen=True)
class Ended:
    """It is over. No pod of it can run any more, unless the outcome says so, or it is fenced and its node is lost."""

    outcome: Outcome


Assessment = Waiting | Running | Ended


def waited_seconds(job: JobFacts | None, asked_at: float, now: float) -> float:
    """How long an attempt's Job could have had pods by now: the time that it waits for Kueue is none of it.

    Args:
        job: Its Job, as far as it is known.
        asked_at: When it was asked for, in Unix seconds.
        now: The time, in Unix seconds.
    """
    if job is None or not (job.suspended or job.kueue_queue):
        return now - asked_at
    return 0.0 if job.suspended or job.started_at is None else now - max(asked_at, job.started_at)


def assess(
    view: AttemptView,
    *,
    waited_seconds: float,
    start_seconds: float,
    refusal: str | None = None,
    permanent_exit_codes: Collection[int] = (),
    nodes: int = 1,
    fenced_at: float | None = None,
    ran: bool = False,
) -> Assessment:
    """What the attempt is doing.

    Args:
        view: What the cluster shows.
        waited_seconds: Time for which its Job could have had pods.
        start_seconds: The time it may take to get a pod to run.
        refusal: What the Job controller says of pods that it may not create (quota, admission).
        permanent_exit_codes: The user's own.
        nodes: Pods that it consists of.
        fenced_at: The time, in Unix seconds, for a trainer that changes nothing any more once a newer attempt has
            begun: its pods on nodes that do not answer count as gone. None: it may run on there and do harm.
        ran: Whether it has been seen to run, by this or an earlier monitor.
    """
    overdue = waited_seconds >= start_seconds
    live = [pod for pod in view.pods if not (pod.ended or _is_lost(pod, fenced_at))]
    ended = [*(pod for pod in view.pods if pod not in live), *view.lost_pods]
    if live and (assessment := _assess_parted(view, live)):
        return assessment
    if view.job and view.job.suspended and (assessment := _assess_suspended(view.job, live, ended, ran=ran)):
        return assessment
    if nodes > 1:
        if assessment := _assess_several(live, ended, permanent_exit_codes, nodes, overdue=overdue, ran=ran):
            return assessment
    elif live:
        return _assess_live(live[0], overdue)
    elif ended:
        return Ended(classify(_most_telling(ended), permanent_exit_codes))
    if assessment := _assess_job(view):
        return assessment
    if ran and (ended or overdue):
        return _without_pods(ended)
    waiting = Waiting(Reason.JOB_REFUSED, refusal) if refusal else Waiting(Reason.STARTING, "waiting for its pod")
    return _unless_overdue(waiting, overdue)


def _assess_job(view: AttemptView) -> Ended | None:
    """What its Job tells of an attempt whose pods tell nothing; None while it does not say either."""
    if view.job_was_deleted:
        return Ended(Outcome(reason=Reason.JOB_DELETED, message="its Job was deleted before a pod of it ran"))
    if view.job and view.job.completed:
        # Nobody watched while its pods ended, and somebody has removed them since.
        return Ended(Outcome(reason=Reason.COMPLETED, message="training completed; its pods are gone"))
    if view.job and view.job.failed:
        return Ended(
            Outcome(
                reason=Reason.DISRUPTED,
                message=f"its pod is gone and left no trace ({view.job.failed.reason}: {view.job.failed.message})",
            )
        )
    return None


def _without_pods(ended: list[PodFacts]) -> Assessment:
    """An attempt that ran, of which nothing runs any more, and of whose end its Job does not tell."""
    if ended:
        # These have done their work; others ended unseen, and of them the Job tells in a moment.
        return Waiting(Reason.STARTING, "its pods have ended; waiting for what its Job says of them")
    message = "its pods are gone, and its Job makes no others"
    return Ended(Outcome(reason=Reason.DISRUPTED, message=message, pod_remains=True))


def _assess_parted(view: AttemptView, live: list[PodFacts]) -> Assessment | None:
    """An attempt whose pods may run while their Job is gone, or is theirs no more; None where all is as it was."""
    if orphans := [pod for pod in live if pod.orphan and not pod.deleting]:
        return Ended(_taken_from_its_job(orphans, view.job))
    if not view.job_was_deleted:
        return None
    names = ", ".join(sorted(pod.name for pod in live))
    return Waiting(Reason.STOPPING, f"its Job is deleted, and its pods are being ended: {names}")


def _taken_from_its_job(orphans: list[PodFacts], job: JobFacts | None) -> Outcome:
    """What became of an attempt whose pods nobody ends any more: clean-up does."""
    names = ", ".join(sorted(pod.name for pod in orphans))
    if job is None:
        message = f"its Job was deleted without its pods (--cascade=orphan), which are ended now: {names}"
        return Outcome(reason=Reason.JOB_DELETED, message=message, pod_remains=True)
    message = f"somebody took pods from its Job {job.name}, which would make others beside them: {names}"
    return Outcome(reason=Reason.DISRUPTED, message=message, pod_remains=True)


def _is_lost(pod: PodFacts, now: float | None) -> bool:
    """Whether a pod that is to end is on a node that does not answer."""
    if now is None or pod.due_at is None:
        return False
    return pod.silent or now > pod.due_at + OVERDUE_SECONDS


def _assess_suspended(job: JobFacts, live: list[PodFacts], ended: list[PodFacts], *, ran: bool) -> Assessment | None:
    """An attempt whose Job may have no pods; None where its pods ended by themselves.

    One whose pods were taken away is over: were its Job let go on, new pods would write where the old ones did. So the
    Job goes, and that of the next attempt waits in its place.
    """
    if live:
        names = ", ".join(sorted(pod.name for pod in live))
        return Waiting(Reason.STOPPING, f"its Job is suspended, and its pods are being ended: {names}")
    taken = [pod for pod in ended if pod.deleting]
    if taken or (ran and not ended):
        who = f"Kueue (queue {job.kueue_queue})" if job.kueue_queue else "somebody"
        outcome = Outcome(reason=Reason.DISRUPTED, message=f"{who} suspended its Job, so its pods were taken away")
        told = classify_several(taken) if taken else outcome
        return Ended(outcome.model_copy(update={"words": told.words, "node": told.node, "pod_remains": True}))
    if ended:
        return None
    if job.kueue_queue:
        return Waiting(Reason.QUEUED, f"waiting for Kueue to let it run: queue {job.kueue_queue}")
    return Waiting(Reason.QUEUED, f"somebody has suspended its Job {job.name}; it goes on when that is taken back")


def _assess_several(
    live: list[PodFacts],
    ended: list[PodFacts],
    permanent_exit_codes: Collection[int],
    nodes: int,
    *,
    overdue: bool,
    ran: bool,
) -> Assessment | None:
    """An attempt of several pods runs when all do, has done its work when all have, and fails when one does.

    None while that depends on pods that are not there yet. One that ran has had all of them: one that is missing has
    ended while nobody looked, and its Job tells how, when the others have ended too.
    """
    outcome = classify_several(ended, permanent_exit_codes) if ended else None
    if outcome and not outcome.completed:
        if live:
            names = ", ".join(sorted(pod.name for pod in live))
            return Waiting(outcome.reason, f"{outcome.message}; its other pods are being ended: {names}")
        # There may be a pod that was not even created: with the Job gone, none ever will be.
        return Ended(outcome.model_copy(update={"pod_remains": len(ended) < nodes}))
    if outcome and len({pod.rank for pod in ended}) == nodes:
        return Ended(outcome)
    in_order = sorted(live, key=lambda pod: pod.rank)
    if held_up := _what_holds_up(in_order, nodes, overdue=overdue):
        return _with_room(held_up, sum(each.node is not None for each in live))
    if not live or (len({pod.rank for pod in [*live, *ended]}) < nodes and not ran):
        return None
    return _running(next((pod for pod in in_order if pod.silent), in_order[0]))


def _what_holds_up(live: list[PodFacts], nodes: int, *, overdue: bool) -> Assessment | None:
    """What the pods lack that do not run, and which these are; what only takes its time comes last. None: all run."""
    lacks = [(pod, _assess_live(pod, overdue)) for pod in live if pod.deleting or not (pod.running or pod.termination)]
    if not lacks:
        return None
    first = next((lack for _, lack in lacks if _reason(lack) not in _ONLY_SLOW), lacks[0][1])
    if _reason(first) not in _LACKS:
        return first  # says which pod it is about
    same = [pod.name for pod, lack in lacks if _reason(lack) is _reason(first)]
    others = f" and {len(same) - _PODS_NAMED} others" if len(same) > _PODS_NAMED else ""
    who = f"{', '.join(same[:_PODS_NAMED])}{others} ({len(same)} of {nodes} pods)"
    match first:
        case Waiting(reason, message):
            return Waiting(reason, f"{who}: {message}")
        case Ended(outcome):
            return Ended(outcome.model_copy(update={"message": f"{who}: {outcome.message}"}))
        case Running():
            return first


def _reason(assessment: Assessment) -> Reason:
    match assessment:
        case Waiting(reason, _):
            return reason
        case Ended(outcome):
            return outcome.reason
        case Running():
            return Reason.POD_RUNNING


def _with_room(assessment: Assessment, placed_nodes: int) -> Assessment:
    if not isinstance(assessment, Ended) or assessment.outcome.reason is not Reason.NO_CAPACITY:
        return assessment
    return Ended(assessment.outcome.model_copy(update={"placed_nodes": placed_nodes}))


def _assess_live(pod: PodFacts, overdue: bool) -> Assessment:  # noqa: FBT001
    if pod.deleting:
        return Waiting(
            Reason.DISRUPTED,
            f"pod {pod.name} is being removed from node {pod.node or '(none)'}; the next attempt starts when it can no "
            "longer run. If that node is lost for good, delete the node object",
        )
    if pod.running or pod.termination:
        # Its container may have ended a moment before the pod has: until then it counts as running.
        return _running(pod)
    if pod.waiting and pod.waiting.reason in _HOPELESS:
        return Ended(_not_started(Reason.CANNOT_START, _explain(pod.waiting)))
    return _unless_overdue(_lacking(pod), overdue)


def _running(pod: PodFacts) -> Running:
    return Running(pod.name, pod.node or "", silent=pod.silent)


def _lacking(pod: PodFacts) -> Waiting:
    if pod.waiting and pod.waiting.reason in _PULL_PROBLEMS:
        return Waiting(Reason.IMAGE_PULL_FAILED, _explain(pod.waiting))
    if pod.waiting and pod.waiting.reason in _START_PROBLEMS:
        return Waiting(Reason.CANNOT_START, _explain(pod.waiting))
    if pod.unschedulable is not None:
        return Waiting(Reason.NO_CAPACITY, f"no node can take the pod: {pod.unschedulable}")
    why = f": {pod.hindrance}" if pod.hindrance else ""
    return Waiting(Reason.STARTING, f"pod {pod.name} is starting on node {pod.node or '(none yet)'}{why}")


def _unless_overdue(waiting: Waiting, overdue: bool) -> Assessment:  # noqa: FBT001
    if not overdue:
        return waiting
    # What only took too long may be a node's doing, or a controller's: another attempt may meet another one.
    reason = Reason.FAILED if waiting.reason is Reason.STARTING else waiting.reason
    return Ended(_not_started(reason, f"not running within deadlines.startSeconds: {waiting.message}"))


def _not_started(reason: Reason, message: str) -> Outcome:
    return Outcome(reason=reason, message=message, pod_remains=True)


def _explain(cause: Cause) -> str:
    return f"{cause.reason}: {cause.message}" if cause.message else cause.reason


def _most_telling(pods: list[PodFacts]) -> PodFacts:
    """The pod whose end explains the attempt's: one that told how it ended before one that vanished."""
    return max(pods, key=lambda pod: (pod.termination is not None, pod.disruption is not None))
