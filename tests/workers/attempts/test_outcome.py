"""Evidence → outcome. Every pod here is one that a real cluster showed, or such a one with a word changed.

What a node says when it shuts down, or has no room after all, was not brought about: those words are Kubernetes' own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from perdure_api.conditions import Reason
from perdure_api.pod import CheckpointRef, TerminationMessage
from perdure_workers.attempts.outcome import classify, classify_several
from perdure_workers.watching.facts import Cause, PodFacts, pod_facts
from tests.workers import real_pods


def pod(name: str, **status: Any) -> PodFacts:
    document = real_pods.document(name)
    document["status"].update(status)
    facts = pod_facts(document)
    assert facts is not None
    return facts


def with_end(facts: PodFacts, **end: Any) -> PodFacts:
    """The pod, its container ended in another way."""
    assert facts.termination is not None
    return replace(facts, termination=replace(facts.termination, **end))


@pytest.mark.parametrize(
    ("name", "reason", "exit_code", "says"),
    [
        ("completed", Reason.COMPLETED, 0, "training completed"),
        ("exit-1", Reason.FAILED, 1, "exit code 1"),
        ("exit-64-with-message", Reason.PERMANENT_ERROR, 64, "bad flag"),
        ("log-as-message", Reason.FAILED, 3, "boom"),
        ("garbage-message", Reason.FAILED, 1, "that is no text"),
        ("command-not-found", Reason.CANNOT_START, 128, "no such file or directory"),
        ("out-of-memory", Reason.OUT_OF_MEMORY, 137, "spec.resources.memory"),
        ("out-of-memory-child-only", Reason.COMPLETED, 0, "training completed"),
        ("sigkill", Reason.FAILED, 137, "SIGKILL"),
        ("segv", Reason.FAILED, 139, "SIGSEGV"),
        ("deleted-while-running", Reason.DISRUPTED, 137, "was deleted while it ran"),
        ("evicted", Reason.DISRUPTED, 137, "Eviction API: evicting"),
        ("preempted", Reason.DISRUPTED, 143, "preempting to accommodate a higher priority pod"),
        ("silent-node", Reason.DISRUPTED, None, "node n3 does not answer"),
        ("on-a-lost-node", Reason.DISRUPTED, None, "node n3 does not answer"),
        ("node-restarted", Reason.DISRUPTED, 255, "node n3 lost the container"),
    ],
)
def test_a_pod_that_ended_is_classified_by_what_the_cluster_shows(
    name: str, reason: Reason, exit_code: int | None, says: str
) -> None:
    outcome = classify(pod(name))

    assert (outcome.reason, outcome.exit_code) == (reason, exit_code)
    assert says in outcome.message


def test_an_exit_code_that_the_user_lists_is_permanent() -> None:
    assert classify(pod("log-as-message"), {3}).reason is Reason.PERMANENT_ERROR


@pytest.mark.parametrize("exit_code", [1, 75, 76, 79, 80, 81, 143])
def test_what_the_user_lists_counts_more_than_what_the_contract_says(exit_code: int) -> None:
    assert classify(with_end(pod("exit-1"), exit_code=exit_code), {exit_code}).reason is Reason.PERMANENT_ERROR


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (2, Reason.FAILED),
        (64, Reason.PERMANENT_ERROR),
        (65, Reason.PERMANENT_ERROR),
        (75, Reason.FAILED),
        (76, Reason.FENCED),
        (78, Reason.PERMANENT_ERROR),
        (79, Reason.DIVERGED),
        (81, Reason.OUT_OF_MEMORY),
        (80, Reason.PEER_LOST),
        (143, Reason.DISRUPTED),
    ],
)
def test_an_exit_code_means_what_the_contract_says(exit_code: int, reason: Reason) -> None:
    outcome = classify(with_end(pod("exit-1"), exit_code=exit_code))

    assert (outcome.reason, outcome.exit_code) == (reason, exit_code)


@pytest.mark.parametrize(
    ("runtime_says", "reason"),
    [
        ("ContainerStatusUnknown", Reason.DISRUPTED),
        ("Unknown", Reason.DISRUPTED),
        ("Error", Reason.FAILED),
    ],
)
def test_what_the_runtime_says_of_a_container_explains_its_exit_code(runtime_says: str, reason: Reason) -> None:
    assert classify(with_end(pod("sigkill"), reason=runtime_says)).reason is reason


@pytest.mark.parametrize("runtime_says", ["StartError", "ContainerCannotRun"])
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('unable to start container process: exec: "train": executable file not found in $PATH', Reason.CANNOT_START),
        ('unable to start container process: exec: "/data": permission denied', Reason.CANNOT_START),
        ("exec /train.sh: exec format error", Reason.CANNOT_START),
        ('chdir to cwd ("/work") set in config.json failed: no such file or directory', Reason.CANNOT_START),
        ("crun: executable file `train` not found in $PATH: No such file or directory", Reason.CANNOT_START),
        ("failed to create shim task: context canceled: unknown", Reason.DISRUPTED),
        ("failed to create containerd task: failed to start shim: ttrpc: closed", Reason.DISRUPTED),
        ("error running prestart hook #0: nvidia-container-cli: driver rpc error: timed out", Reason.DISRUPTED),
        ("", Reason.DISRUPTED),
    ],
)
def test_a_container_that_its_node_could_not_start_is_tried_elsewhere_but_for_one_that_can_start_nowhere(
    message: str, reason: Reason, runtime_says: str
) -> None:
    outcome = classify(with_end(pod("command-not-found"), reason=runtime_says, message=message))

    assert outcome.reason is reason
    assert message in outcome.message


def test_a_node_that_lost_or_could_not_start_one_rank_explains_that_the_others_lost_it() -> None:
    other = replace(with_end(pod("exit-1"), exit_code=80), rank=0)
    for runtime_says in ("Unknown", "StartError"):
        lost = replace(with_end(pod("node-restarted"), reason=runtime_says, message="shim: closed"), rank=1)
        assert classify_several([other, lost]).reason is Reason.DISRUPTED


@pytest.mark.parametrize(
    ("exit_code", "signal", "name", "says"),
    [
        (137, 0, "SIGKILL", "exit code 137 (SIGKILL)"),
        (139, 0, "SIGSEGV", "exit code 139 (SIGSEGV)"),
        (1, 9, "SIGKILL", "exit code 1 (SIGKILL)"),
        (128, 0, None, "exit code 128 and"),
        (255, 0, None, "exit code 255 and"),
        (3, 0, None, "exit code 3 and"),
    ],
)
def test_a_signal_is_named_where_there_was_one(exit_code: int, signal: int, name: str | None, says: str) -> None:
    outcome = classify(with_end(pod("exit-1"), exit_code=exit_code, signal=signal))

    assert outcome.signal == name
    assert says in outcome.message


def test_the_node_is_told() -> None:
    facts = pod("exit-1")

    assert facts.node
    assert classify(facts).node == facts.node


def test_last_words_of_a_container_that_completed_are_its_message() -> None:
    assert classify(with_end(pod("completed"), message="2.1 epochs")).message == "2.1 epochs"


def test_a_container_that_ends_with_0_on_its_way_out_of_an_evicting_node_has_not_completed() -> None:
    evicted = pod("exit-1", phase="Failed", reason="Evicted", message="low on memory")

    assert classify(with_end(evicted, exit_code=0)).reason is Reason.DISRUPTED


def test_a_pod_that_completed_while_it_was_being_taken_away_has_completed() -> None:
    taken = replace(pod("completed"), disruption=Cause("PreemptionByScheduler", ""), deleting=True)

    assert classify(taken).reason is Reason.COMPLETED


def test_a_deletion_does_not_excuse_an_error_of_the_containers_own() -> None:
    assert classify(replace(pod("exit-1"), deleting=True)).reason is Reason.FAILED


def test_a_pod_that_vanished_with_its_error_told_but_its_phase_not_yet_changed_has_failed() -> None:
    assert classify(pod("exit-1", phase="Running")).reason is Reason.FAILED


@pytest.mark.parametrize(
    "cause",
    [
        "Evicted",
        "NodeLost",
        "Preempting",
        "Shutdown",
        "Terminated",
        "NodeShutdown",
        "NodeAffinity",
        "NodePorts",
        "OutOfcpu",
        "OutOfnvidia.com/gpu",
        "PodOSNotSupported",
        "UnexpectedAdmissionError",
    ],
)
def test_a_pod_that_its_node_ended_is_disrupted_not_failed(cause: str) -> None:
    facts = pod("exit-1", reason=cause, message="the node was low on something")

    outcome = classify(facts)

    assert outcome.reason is Reason.DISRUPTED
    assert "low on something" in outcome.message


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Pod ephemeral local storage usage exceeds the total limit of containers 50Gi. ", Reason.OUT_OF_DISK),
        ('Container trainer exceeded its local ephemeral storage limit "50Gi". ', Reason.OUT_OF_DISK),
        ('Usage of EmptyDir volume "scratch" exceeds the limit "50Gi". ', Reason.OUT_OF_DISK),
        ("The node was low on resource: ephemeral-storage. Container trainer was using 3Gi. ", Reason.DISRUPTED),
    ],
)
def test_a_pod_that_wrote_more_than_it_may_is_told_from_one_whose_node_was_full(said: str, reason: Reason) -> None:
    outcome = classify(pod("sigkill", phase="Failed", reason="Evicted", message=said))

    assert outcome.reason is reason
    assert said.strip().rstrip(".") in outcome.message


def test_a_reason_that_is_not_the_nodes_is_no_excuse() -> None:
    assert classify(pod("exit-1", reason="DeadlineExceeded", message="m")).reason is Reason.FAILED


def test_a_node_that_would_not_take_a_pod_is_quoted_whatever_its_reason() -> None:
    words = "Pod was rejected: Resources cannot be allocated with Topology locality"
    refused = pod("starting", phase="Failed", reason="TopologyAffinityError", message=words, containerStatuses=[])

    outcome = classify(refused)

    assert outcome.reason is Reason.DISRUPTED
    assert words in outcome.message


def test_a_pod_that_vanished_without_a_word_is_disrupted() -> None:
    assert classify(pod("running")).reason is Reason.DISRUPTED


def test_the_containers_own_json_is_read() -> None:
    document = real_pods.document("exit-1")
    state = document["status"]["containerStatuses"][0]["state"]["terminated"]
    state |= {"exitCode": 65, "message": '{"message":"line 3 is broken","step":12,"fromStep":10}'}
    facts = pod_facts(document)
    assert facts

    outcome = classify(facts)

    assert (outcome.reason, outcome.message) == (Reason.PERMANENT_ERROR, "line 3 is broken")
    assert (outcome.words.step, outcome.words.from_step) == (12, 10)


def told(exit_code: int, message: str = "", rank: int = 0, **change: Any) -> PodFacts:
    """A pod of several that ended by itself."""
    facts = with_end(pod("exit-1"), exit_code=exit_code, message=message)
    return replace(
        facts, rank=rank, name=f"job-1-{rank}-x", **{"phase": "Failed" if exit_code else "Succeeded"} | change
    )


KILLED = {"exit_code": 137, "deleting": True}
EVICTED = Cause("EvictionByEvictionAPI", "drained")
PEER = '{"message": "rank 1 (job-1-1) is gone: no sign of life for 16 s", "step": 7, "fromStep": 0}'


@pytest.mark.parametrize(
    ("pods", "reason", "says"),
    [
        pytest.param([told(0), told(0, rank=1)], Reason.COMPLETED, "training completed", id="all done"),
        pytest.param([told(80, PEER), told(**KILLED, rank=1)], Reason.PEER_LOST, "rank 1 (job-1-1) is gone", id="hung"),
        pytest.param(
            [told(80, PEER), told(143, rank=1, disruption=EVICTED)],
            Reason.DISRUPTED,
            "job-1-1-x was taken",
            id="evicted",
        ),
        pytest.param([told(143), told(143, rank=1)], Reason.DISRUPTED, "told to stop", id="stopped"),
        pytest.param(
            [replace(pod("running"), name="job-1-0-x"), told(80, "rank 0 (job-1-0) is gone", rank=1)],
            Reason.DISRUPTED,
            "pod job-1-0-x went away before it told how it ended",
            id="deleted by force, or lost with its node",
        ),
        pytest.param(
            [replace(pod("running"), name="job-1-0-x"), told(1, "connection closed by peer", rank=1)],
            Reason.DISRUPTED,
            "pod job-1-0-x went away",
            id="the same, of a trainer that says only that it lost the other",
        ),
        pytest.param(
            [told(80, PEER), replace(pod("out-of-memory"), rank=1, name="job-1-1-x")],
            Reason.OUT_OF_MEMORY,
            "pod job-1-1-x used more memory",
            id="out of memory",
        ),
        pytest.param(
            [told(1, "connection closed by peer"), replace(pod("out-of-memory"), rank=1)],
            Reason.OUT_OF_MEMORY,
            "used more memory",
            id="a trainer that says only that it lost the other",
        ),
        pytest.param(
            [told(143), told(78, "no such layer", rank=1)], Reason.PERMANENT_ERROR, "rank 1: no such", id="spec"
        ),
        pytest.param([told(79, "nan"), told(79, "nan", rank=1)], Reason.DIVERGED, "nan", id="diverged on all"),
        pytest.param([told(0), told(1, "boom", rank=1)], Reason.FAILED, "rank 1: boom", id="one failed"),
        pytest.param(
            [told(**KILLED), replace(pod("deleted-while-running"), rank=1, termination=None)],
            Reason.DISRUPTED,
            "was deleted while it ran",
            id="deleted",
        ),
    ],
)
def test_of_several_pods_the_one_that_explains_most_says_why(pods: list[PodFacts], reason: Reason, says: str) -> None:
    for order in (pods, pods[::-1]):
        outcome = classify_several(order)
        assert (outcome.reason, says in outcome.message) == (reason, True), outcome.message


def words(step: int, checkpoint: int | None = None, message: str = "stopped by SIGTERM") -> str:
    saved = None if checkpoint is None else CheckpointRef(uri=f"s3://b/step-{checkpoint}", step=checkpoint)
    return TerminationMessage(message=message, step=step, from_step=0, checkpoint=saved).encode()


GONE = replace(pod("running"), name="job-1-0-x")


@pytest.mark.parametrize(
    ("pods", "step", "checkpoint"),
    [
        pytest.param([told(80, words(7)), replace(pod("out-of-memory"), rank=1)], 7, None, id="one has told"),
        pytest.param([told(80, words(7, 5)), told(80, words(7), rank=1)], 7, 5, id="rank 0 saves"),
        pytest.param([GONE, told(80, words(7, 7), rank=1)], 7, 7, id="rank 0 is lost, and another saves"),
        pytest.param([told(81, words(7, 5)), told(80, words(7, 7), rank=1)], 7, 7, id="rank 0 ends, and another saves"),
        pytest.param([GONE, told(80, words(6), rank=1), told(80, words(7, 7), rank=2)], 7, 7, id="by a step further"),
        pytest.param([told(1, words(0)), told(80, "boom", rank=1)], 0, None, id="not a step"),
    ],
)
def test_how_far_several_came_is_what_the_one_says_that_came_furthest(
    pods: list[PodFacts], step: int, checkpoint: int | None
) -> None:
    for order in (pods, pods[::-1]):
        outcome = classify_several(order)
        saved = outcome.words.checkpoint
        assert (outcome.words.step, saved.step if saved else None) == (step, checkpoint)


@pytest.mark.parametrize(
    ("pods", "ends"),
    [
        pytest.param(
            [GONE, told(80, words(7, 7), rank=1)], "before it told how it ended (node {}); rank 1 saved step 7"
        ),
        pytest.param([told(143, words(7, 7)), replace(GONE, rank=1)], "(node {}); rank 0 saved step 7"),
        pytest.param(
            [told(80, words(7, 7, "rank 1 (x) hangs; rank 0 saved step 7")), told(**KILLED, rank=1)],
            "rank 1 (x) hangs; rank 0 saved step 7",
        ),
        pytest.param([GONE, told(80, words(7, 5), rank=1)], "before it told how it ended (node {})"),
    ],
    ids=["rank 0 lost", "rank 1 lost", "said by the trainer", "not the last step"],
)
def test_who_saved_the_last_step_when_a_pod_was_lost_is_said_once(pods: list[PodFacts], ends: str) -> None:
    assert classify_several(pods).message.endswith(ends.format(GONE.node))


def test_of_several_that_have_done_their_work_nobody_is_said_to_have_saved() -> None:
    done = [told(0, words(9, 9, "finished after 9 steps")), told(0, words(9, message="done"), rank=1)]

    assert classify_several(done).message == "finished after 9 steps"
