"""How an attempt ended: evidence in, one reason and one sentence out."""

from __future__ import annotations

import re
import signal
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from perdure_api.conditions import Reason
from perdure_api.exit_codes import PERMANENT, ExitCode
from perdure_api.model import TolerantModel
from perdure_api.pod import TerminationMessage
from perdure_workers.attempts.stacks import whereabouts
from perdure_workers.watching.facts import Cause, PodFacts, Termination

_EVICTED: Final = "Evicted"
DISRUPTIONS: Final = frozenset(
    {_EVICTED, "NodeLost", "Preempting", "Shutdown", "Terminated", "NodeShutdown", "UnexpectedAdmissionError"}
)
"""Reasons that the kubelet gives a pod when the node, not the program, is why it ended."""
_REFUSED_BY_KUBELET: Final = ("OutOf", "NodeAffinity", "NodePorts", "PodOSNotSupported")
"""Reasons of a pod that a node would not take, or not keep when its kubelet restarted: another node may."""
_OWN_LIMIT: Final = re.compile(r"\bexceed(?:s|ed)\b.*\blimit\b")
"""What a kubelet says of a pod that it evicts because of what the pod itself wrote: of its disk, or of an emptyDir."""
_NEVER_RAN: Final = frozenset({"StartError", "ContainerCannotRun"})
"""What runtimes (containerd, cri-dockerd) say of a container that they could not start."""
_AS_WRITTEN: Final = re.compile(r"\bexec:? |executable file|exec format error|chdir to cwd|invoke a command")
"""What runc and crun say of one that can be started nowhere. All else (a runtime that was killed or restarted in its
midst, a driver that does not answer) is the node's, and another may do better."""
_NAMED: Final[Mapping[int, Reason]] = {
    ExitCode.DIVERGED: Reason.DIVERGED,
    ExitCode.FENCED: Reason.FENCED,
    ExitCode.PEER_LOST: Reason.PEER_LOST,
    ExitCode.OUT_OF_MEMORY: Reason.OUT_OF_MEMORY,
}
"""Exit codes that have a reason of their own."""
_STOPPED: Final = {Reason.SUSPENDED: "suspended", Reason.REGROWN: "ended to go on with all nodes"}
_LOST_BY_NODE: Final = frozenset({"ContainerStatusUnknown", "Unknown"})
"""What a kubelet, and containerd, say of a container that they know no end of, as after a restart of the node."""
_SIGNAL_BASE: Final = 128
_KILLED: Final = _SIGNAL_BASE + signal.SIGKILL
_TERMINATED: Final = _SIGNAL_BASE + signal.SIGTERM


class Outcome(TolerantModel):
    """The end of one attempt."""

    reason: Reason
    message: str
    """One sentence for people."""
    exit_code: int | None = None
    signal: str | None = None
    """Name of the signal that ended the container, such as SIGKILL; None: none that is known."""
    node: str | None = None
    words: TerminationMessage = TerminationMessage()
    """What the container itself left."""
    placed_nodes: int | None = None
    """Of an attempt that found no place: for how many of its pods there was one."""
    pod_remains: bool = False
    """A pod is still there and must be removed before anything else may run."""

    @property
    def completed(self) -> bool:
        """Whether training came to its end."""
        return self.reason is Reason.COMPLETED


def classify(pod: PodFacts, permanent_exit_codes: Collection[int] = ()) -> Outcome:
    """The outcome of an attempt whose pod has ended (or is gone: then its last state).

    The order matters: what the cluster did to a pod explains its exit code, not the other way round.

    Args:
        pod: The pod, ended or gone.
        permanent_exit_codes: The user's own, beside PERMANENT.
    """
    end = pod.termination
    words = TerminationMessage.decode(end.message) if end else TerminationMessage()
    reason, message = _reason(pod, end, words, permanent_exit_codes)
    return Outcome(
        reason=reason,
        message=message,
        exit_code=end.exit_code if end else None,
        signal=_signal(end) if end else None,
        node=pod.node,
        words=words,
    )


def classify_several(pods: Sequence[PodFacts], permanent_exit_codes: Collection[int] = ()) -> Outcome:
    """The outcome of an attempt of several pods, which have all ended or are gone.

    The pod that explains most says why: when one ends, the others end because of it, by their own word or by the Job
    controller's hand. How far the attempt came is the word of the one that came furthest: where a rank was lost, any
    other may have saved what there was.
    """
    outcomes = [(pod, classify(pod, permanent_exit_codes)) for pod in sorted(pods, key=lambda pod: pod.rank)]
    # Of several equals the first, the lowest rank.
    culprit, outcome = max(outcomes, key=lambda each: _weight(*each))
    furthest, reached = max(outcomes, key=lambda each: _reached(each[1].words))
    message = _of_rank(culprit, outcome.message)
    if not outcome.completed:
        message = _with_last_save(message, furthest, reached.words)
    words = outcome.words if reached.words.step is None else reached.words
    return outcome.model_copy(update={"words": words, "message": message})


def of_stopped(outcome: Outcome | None, reason: Reason, *, built_in: bool) -> Outcome:
    """The outcome of an attempt that was told to end because its job is suspended, or has room for all its nodes.

    However it then ended, it was told to: no failure, and no disruption. Only that it came to its end after all counts,
    and of a trainer that is not ours an exit code of 0 does not show that: some end so when they are told to stop.

    Args:
        outcome: How it ended; None: it had not begun, or its pods are on a node that does not answer.
        reason: Why it was told to.
        built_in: Whether our own trainer ran.
    """
    if outcome is None:
        return Outcome(reason=reason, message=f"{_STOPPED[reason]} before it told how far it had come")
    if outcome.completed and built_in:
        return outcome
    saved = outcome.words.checkpoint
    what = f"{_STOPPED[reason]}; the checkpoint of step {saved.step} is saved" if saved else _STOPPED[reason]
    return outcome.model_copy(update={"reason": reason, "message": what, "pod_remains": False})


def of_hung(outcome: Outcome | None, why: str) -> Outcome:
    """The outcome of an attempt that was ended because it made no progress.

    Args:
        outcome: How it then ended; None: it cannot be known, and its pods may be there still.
        why: What was seen of it.
    """
    if outcome is None:
        return Outcome(reason=Reason.HUNG, message=f"{why}; its node does not answer", pod_remains=True)
    if outcome.completed and outcome.words.result_uri:
        return outcome
    where = whereabouts(outcome.words.stacks or "")
    message = f"{why}; it was in {where}" if where else why
    return outcome.model_copy(update={"reason": Reason.HUNG, "message": message})


def _weight(pod: PodFacts, outcome: Outcome) -> int:
    """How much the end of a pod says about the end of all."""
    match outcome.reason:
        case Reason.COMPLETED:
            return 0
        case Reason.DISRUPTED if pod.disruption or pod.cause or pod.silent or _is_of_its_node(pod.termination):
            return 7
        case Reason.DISRUPTED if pod.running:
            return 4  # gone in the midst of its work: the Job controller lets the others tell how they end
        case Reason.DISRUPTED:
            return 1  # told to stop, or deleted: as any pod is once another has failed
        case Reason.PEER_LOST:
            return 2
        case Reason.FAILED:
            return 3  # perhaps only because it lost another, if it is no trainer of ours
        case Reason.OUT_OF_MEMORY | Reason.OUT_OF_DISK:
            return 6
        case _:
            return 5


def _is_of_its_node(end: Termination | None) -> bool:
    """Whether its runtime says of a container what no other pod's end brings about."""
    return end is not None and end.reason in _LOST_BY_NODE | _NEVER_RAN


def _reached(words: TerminationMessage) -> tuple[int, int]:
    """How far a pod came: what it saved counts more than what it did."""
    return (words.checkpoint.step if words.checkpoint else -1, -1 if words.step is None else words.step)


def _with_last_save(message: str, pod: PodFacts, words: TerminationMessage) -> str:
    """The message with who saved the last step, where somebody did. A pod that lost another may say so itself."""
    saved = words.checkpoint
    if saved is None or saved.step != words.step or f"saved step {saved.step}" in message:
        return message
    return f"{message}; rank {pod.rank} saved step {saved.step}"


def _of_rank(pod: PodFacts, message: str) -> str:
    named = pod.rank == 0 or pod.name in message or message.startswith("rank ")
    return message if named else f"rank {pod.rank}: {message}"


def _reason(
    pod: PodFacts, end: Termination | None, words: TerminationMessage, permanent: Collection[int]
) -> tuple[Reason, str]:
    if end and end.exit_code == ExitCode.OK and pod.phase != "Failed":
        # A child killed for memory leaves OOMKilled on a container that ends with 0 all the same: its word counts.
        return Reason.COMPLETED, words.message or "training completed"
    by_cluster = _by_cluster(pod, end)
    if by_cluster:
        return by_cluster
    if end is None:
        return Reason.DISRUPTED, f"pod {pod.name} went away before it told how it ended (node {pod.node or 'none yet'})"
    if end.reason == "OOMKilled":
        return Reason.OUT_OF_MEMORY, _memory_sentence(pod)
    if end.reason in _NEVER_RAN and _AS_WRITTEN.search(end.message):
        return Reason.CANNOT_START, _sentence(
            "the container cannot start; check trainer.command and image", end.message
        )
    if end.reason in _NEVER_RAN:
        return Reason.DISRUPTED, _sentence(f"node {pod.node} could not start pod {pod.name}", end.message)
    if end.reason in _LOST_BY_NODE:
        return Reason.DISRUPTED, f"node {pod.node} lost the container of pod {pod.name}, most often by a restart"
    if pod.deleting and end.exit_code in {_KILLED, _TERMINATED}:
        return Reason.DISRUPTED, f"pod {pod.name} was deleted while it ran"
    return _by_exit_code(end, words, permanent)


def _by_cluster(pod: PodFacts, end: Termination | None) -> tuple[Reason, str] | None:
    """What the cluster did to a pod; None: nothing that anybody tells of."""
    if pod.silent:
        return Reason.DISRUPTED, f"node {pod.node} does not answer; what pod {pod.name} does there counts no more"
    if pod.disruption:
        return Reason.DISRUPTED, _sentence(f"pod {pod.name} was taken away", pod.disruption.message)
    if pod.cause and pod.cause.reason == _EVICTED and _OWN_LIMIT.search(pod.cause.message):
        return Reason.OUT_OF_DISK, _disk_sentence(pod, pod.cause)
    if pod.cause and (
        end is None or pod.cause.reason.startswith(_REFUSED_BY_KUBELET) or pod.cause.reason in DISRUPTIONS
    ):
        return Reason.DISRUPTED, _sentence(f"node {pod.node} ended pod {pod.name}", pod.cause.message)
    return None


def _by_exit_code(end: Termination, words: TerminationMessage, permanent: Collection[int]) -> tuple[Reason, str]:
    code = end.exit_code
    message = _message(end, words)
    if code in permanent:
        return Reason.PERMANENT_ERROR, message
    if code in _NAMED:
        return _NAMED[code], message
    if code in PERMANENT:
        return Reason.PERMANENT_ERROR, message
    if code == _TERMINATED:
        return Reason.DISRUPTED, _sentence("the container was told to stop", words.message)
    return Reason.FAILED, message


def _message(end: Termination, words: TerminationMessage) -> str:
    if not words.message:
        return f"the container ended with {_describe(end)} and left no message; see its log"
    if end.exit_code in set(ExitCode):
        return words.message
    return f"the container ended with {_describe(end)}: {words.message}"


def _describe(end: Termination) -> str:
    name = _signal(end)
    return f"exit code {end.exit_code} ({name})" if name else f"exit code {end.exit_code}"


def _signal(end: Termination) -> str | None:
    """The signal that ended a container: as the runtime says, or by its exit code, which is most often all there is."""
    try:
        return signal.Signals(end.signal or end.exit_code - _SIGNAL_BASE).name
    except ValueError:
        return None


def _memory_sentence(pod: PodFacts) -> str:
    return (
        f"pod {pod.name} used more memory than it may; raise spec.resources.memory, or lower training.batchSize or "
        "sequenceLength"
    )


def _disk_sentence(pod: PodFacts, cause: Cause) -> str:
    said = cause.message.strip().rstrip(".")
    return f"pod {pod.name} wrote more to its node's disk than it may ({said}); raise spec.resources.ephemeralStorage"


def _sentence(what: str, detail: str) -> str:
    return f"{what}: {detail}" if detail else what
