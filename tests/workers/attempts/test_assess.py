"""What an attempt is doing now, by what a real cluster showed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from perdure_api.conditions import Reason
from perdure_workers.attempts.assess import (
    OVERDUE_SECONDS,
    Assessment,
    Ended,
    Running,
    Waiting,
    assess,
    waited_seconds,
)
from perdure_workers.watching.facts import AttemptKey, Cause, JobFacts, PodFacts, pod_facts
from perdure_workers.watching.index import AttemptView
from tests.workers import real_pods

DUE = 1_000_000.0
"""When a pod that is to end should have ended."""
JOB = JobFacts(AttemptKey("ns", "u", 1), "ns", "j-1", "ju", failed=None)


def pod(name: str) -> PodFacts:
    facts = pod_facts(real_pods.document(name))
    assert facts is not None
    return facts


def look(view: AttemptView, waited: float = 1, refusal: str | None = None) -> Assessment:
    return assess(view, waited_seconds=waited, start_seconds=60, refusal=refusal)


def with_pods(*pods: PodFacts) -> AttemptView:
    return AttemptView(JOB, job_was_deleted=False, pods=pods, lost_pods=())


@pytest.mark.parametrize(
    ("name", "reason", "says"),
    [
        ("starting", Reason.STARTING, "is starting"),
        ("image-not-found", Reason.IMAGE_PULL_FAILED, "not found"),
        ("secret-missing", Reason.CANNOT_START, 'secret "nope" not found'),
        ("unschedulable", Reason.NO_CAPACITY, "Insufficient nvidia.com/gpu"),
        ("being-deleted", Reason.DISRUPTED, "can no longer run"),
    ],
)
def test_a_pod_that_does_not_run_yet_is_waited_for_with_a_reason(name: str, reason: Reason, says: str) -> None:
    assessment = look(with_pods(pod(name)))

    assert isinstance(assessment, Waiting)
    assert assessment.reason is reason
    assert says in assessment.message


@pytest.mark.parametrize("name", ["starting", "image-not-found", "secret-missing", "unschedulable"])
def test_past_its_start_deadline_it_ends_and_says_what_it_lacked_and_that_a_pod_remains(name: str) -> None:
    waiting = look(with_pods(pod(name)))
    ended = look(with_pods(pod(name)), waited=60)

    assert isinstance(waiting, Waiting)
    assert isinstance(ended, Ended)
    assert ended.outcome.pod_remains
    assert waiting.message in ended.outcome.message
    assert ended.outcome.reason is (Reason.FAILED if name == "starting" else waiting.reason)


@pytest.mark.parametrize(("refusal", "reason"), [(None, Reason.FAILED), ("quota", Reason.JOB_REFUSED)])
def test_past_its_start_deadline_a_job_without_a_pod_ends_and_leaves_nothing_that_could_still_start(
    refusal: str | None, reason: Reason
) -> None:
    assert isinstance(look(with_pods(), waited=59, refusal=refusal), Waiting)
    ended = look(with_pods(), waited=60, refusal=refusal)

    assert isinstance(ended, Ended)
    assert (ended.outcome.reason, ended.outcome.pod_remains) == (reason, True)


@pytest.mark.parametrize(
    ("kubelet_says", "reason"),
    [
        ("ErrImagePull", Reason.IMAGE_PULL_FAILED),
        ("ImagePullBackOff", Reason.IMAGE_PULL_FAILED),
        ("RegistryUnavailable", Reason.IMAGE_PULL_FAILED),
        ("ImageInspectError", Reason.IMAGE_PULL_FAILED),
        ("CreateContainerConfigError", Reason.CANNOT_START),
        ("CreateContainerError", Reason.CANNOT_START),
        ("RunContainerError", Reason.CANNOT_START),
        ("ContainerCreating", Reason.STARTING),
    ],
)
def test_what_a_container_waits_for_may_come_right(kubelet_says: str, reason: Reason) -> None:
    assessment = look(with_pods(replace(pod("starting"), waiting=Cause(kubelet_says, ""))))

    assert isinstance(assessment, Waiting)
    assert assessment.reason is reason


@pytest.mark.parametrize("kubelet_says", ["InvalidImageName", "ErrImageNeverPull"])
def test_what_can_never_come_right_ends_it_at_once(kubelet_says: str) -> None:
    assessment = look(with_pods(replace(pod("starting"), waiting=Cause(kubelet_says, ""))))

    assert isinstance(assessment, Ended)
    assert (assessment.outcome.reason, assessment.outcome.pod_remains) == (Reason.CANNOT_START, True)


def test_an_image_name_that_can_never_be_pulled_ends_it_at_once() -> None:
    assessment = look(with_pods(pod("image-name-invalid")))

    assert isinstance(assessment, Ended)
    assert assessment.outcome.reason is Reason.CANNOT_START


def test_a_running_pod_runs() -> None:
    facts = pod("running")

    assert look(with_pods(facts), waited=10_000) == Running(facts.name, facts.node or "")


def test_while_a_pod_may_still_run_the_attempt_has_not_ended_whatever_the_deadline_or_the_job_say() -> None:
    failed = replace(JOB, failed=Cause("BackoffLimitExceeded", ""))
    view = AttemptView(failed, job_was_deleted=False, pods=(pod("being-deleted"), pod("exit-1")), lost_pods=())

    assert isinstance(look(view, waited=10_000), Waiting)


def test_a_pod_that_ended_is_judged_by_its_end() -> None:
    assessment = look(with_pods(pod("exit-64-with-message")))

    assert isinstance(assessment, Ended)
    assert assessment.outcome.reason is Reason.PERMANENT_ERROR
    assert not assessment.outcome.pod_remains


@pytest.mark.parametrize(
    ("more", "less", "reason"),
    [
        (pod("exit-1"), pod("running"), Reason.FAILED),
        (pod("exit-1"), pod("evicted-still-running"), Reason.FAILED),
        (pod("evicted"), pod("exit-1"), Reason.DISRUPTED),
    ],
    ids=["one told how it ended", "one told, one was only taken away", "one was taken away as it ended"],
)
def test_of_several_pods_the_one_that_tells_most_explains_the_end(
    more: PodFacts, less: PodFacts, reason: Reason
) -> None:
    for lost in [(more, less), (less, more)]:
        assessment = look(AttemptView(JOB, job_was_deleted=False, pods=(), lost_pods=lost))

        assert isinstance(assessment, Ended)
        assert assessment.outcome.reason is reason


def test_a_job_that_is_not_seen_yet_is_waited_for() -> None:
    assessment = look(AttemptView(None, job_was_deleted=False, pods=(), lost_pods=()))

    assert isinstance(assessment, Waiting)
    assert assessment.reason is Reason.STARTING


def test_a_pod_that_is_gone_is_judged_by_its_last_state() -> None:
    view = AttemptView(JOB, job_was_deleted=False, pods=(), lost_pods=(pod("evicted"),))

    assessment = look(view)

    assert isinstance(assessment, Ended)
    assert assessment.outcome.reason is Reason.DISRUPTED


@pytest.mark.parametrize(
    ("job", "reason", "says"),
    [
        (None, Reason.JOB_DELETED, "its Job was deleted without its pods (--cascade=orphan), which are ended now"),
        (JOB, Reason.DISRUPTED, "somebody took pods from its Job j-1"),
    ],
    ids=["with its Job deleted", "by hand"],
)
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_pod_that_was_taken_from_its_job_ends_the_attempt_and_is_to_be_removed(
    job: JobFacts | None, reason: Reason, says: str, nodes: int
) -> None:
    taken = replace(pod("running"), orphan=True)
    pods = tuple(replace(taken, name=f"{taken.name}-{rank}", uid=str(rank), rank=rank) for rank in range(nodes))
    view = AttemptView(job, job_was_deleted=job is None, pods=pods, lost_pods=())

    assessment = assess(view, waited_seconds=1, start_seconds=60, nodes=nodes)

    assert isinstance(assessment, Ended)
    assert (assessment.outcome.reason, assessment.outcome.pod_remains) == (reason, True)
    assert assessment.outcome.message == (
        f"{says}: {', '.join(each.name for each in pods)}"
        if job is None
        else f"{says}, which would make others beside them: {', '.join(each.name for each in pods)}"
    )


@pytest.mark.parametrize(("name", "reason"), [("completed", Reason.COMPLETED), ("exit-1", Reason.FAILED)])
def test_a_pod_that_ended_after_it_was_taken_from_its_job_is_judged_by_its_end(name: str, reason: Reason) -> None:
    view = AttemptView(None, job_was_deleted=True, pods=(replace(pod(name), orphan=True),), lost_pods=())

    assessment = look(view)

    assert isinstance(assessment, Ended)
    assert assessment.outcome.reason is reason


def test_a_job_that_was_deleted_before_it_had_a_pod_is_told_as_deleted() -> None:
    assessment = look(AttemptView(None, job_was_deleted=True, pods=(), lost_pods=()))

    assert isinstance(assessment, Ended)
    assert assessment.outcome.reason is Reason.JOB_DELETED


def test_a_job_whose_pods_are_refused_says_who_refuses_them() -> None:
    assessment = look(with_pods(), refusal="exceeded quota: q")

    assert assessment == Waiting(Reason.JOB_REFUSED, "exceeded quota: q")


def test_a_failed_job_whose_pod_nobody_saw_is_disrupted() -> None:
    failed = replace(JOB, failed=Cause("BackoffLimitExceeded", "Job has reached the specified backoff limit"))

    assessment = look(AttemptView(failed, job_was_deleted=False, pods=(), lost_pods=()))

    assert isinstance(assessment, Ended)
    assert assessment.outcome.reason is Reason.DISRUPTED


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_job_that_is_complete_has_done_its_work_though_its_pods_are_gone(nodes: int) -> None:
    complete = replace(JOB, completed=True)
    view = AttemptView(complete, job_was_deleted=False, pods=(), lost_pods=())

    assessment = assess(view, waited_seconds=100_000, start_seconds=60, nodes=nodes)

    assert isinstance(assessment, Ended)
    assert assessment.outcome.completed


def several(*pods: PodFacts, lost: tuple[PodFacts, ...] = (), job: JobFacts | None = JOB, **options: Any) -> Assessment:
    """What an attempt of two pods is doing."""
    view = AttemptView(job, job_was_deleted=False, pods=pods, lost_pods=lost)
    return assess(view, start_seconds=60, nodes=2, **{"waited_seconds": 1, **options})


def of_rank(rank: int, name: str) -> PodFacts:
    return replace(pod(name), rank=rank, name=f"job-1-{rank}-{name}")


def test_several_pods_run_when_all_run_and_rank_0_stands_for_them() -> None:
    first = of_rank(0, "running")

    assert several(of_rank(1, "running"), first, waited_seconds=10_000) == Running(first.name, first.node or "")


def test_a_pod_that_is_done_does_not_stop_those_that_go_on() -> None:
    assert isinstance(several(of_rank(0, "running"), of_rank(1, "completed"), waited_seconds=10_000), Running)


@pytest.mark.parametrize("other", ["running", "completed"])
def test_several_pods_wait_for_the_one_that_cannot_start(other: str) -> None:
    assessment = several(of_rank(0, other), of_rank(1, "unschedulable"))

    assert isinstance(assessment, Waiting)
    assert assessment.reason is Reason.NO_CAPACITY
    overdue = several(of_rank(0, other), of_rank(1, "unschedulable"), waited_seconds=60)
    assert isinstance(overdue, Ended)
    assert (overdue.outcome.reason, overdue.outcome.pod_remains) == (Reason.NO_CAPACITY, True)


STARTING, RUNS, NO_ROOM, NO_IMAGE = "starting", "running", "unschedulable", "image-not-found"


@pytest.mark.parametrize(
    ("names", "reason", "who"),
    [
        ([RUNS, NO_ROOM], Reason.NO_CAPACITY, "r1 (1 of 2 pods): no node can take the pod"),
        ([STARTING, NO_ROOM], Reason.NO_CAPACITY, "r1 (1 of 2 pods): no node can take the pod"),
        ([NO_ROOM, NO_IMAGE], Reason.NO_CAPACITY, "r0 (1 of 2 pods): no node can take the pod"),
        ([NO_IMAGE, NO_ROOM, NO_IMAGE], Reason.IMAGE_PULL_FAILED, "r0, r2 (2 of 3 pods): ErrImagePull"),
        ([RUNS, *[NO_ROOM] * 5], Reason.NO_CAPACITY, "r1, r2, r3 and 2 others (5 of 6 pods): no node can take"),
        ([RUNS, STARTING], Reason.STARTING, "pod r1 is starting on node"),
    ],
    ids=["one", "beside one that starts", "two that lack different things", "two the same", "many", "only slow"],
)
def test_which_of_several_pods_holds_the_others_up_is_said(names: list[str], reason: Reason, who: str) -> None:
    pods = tuple(replace(of_rank(rank, name), name=f"r{rank}") for rank, name in enumerate(names))

    waiting = assess(with_pods(*pods), waited_seconds=1, start_seconds=60, nodes=len(pods))
    overdue = assess(with_pods(*pods), waited_seconds=60, start_seconds=60, nodes=len(pods))

    assert isinstance(waiting, Waiting)
    assert (waiting.reason, waiting.message[: len(who)]) == (reason, who)
    assert isinstance(overdue, Ended)
    assert who.partition(":")[0] in overdue.outcome.message
    assert overdue.outcome.reason is (Reason.FAILED if reason is Reason.STARTING else reason)


def test_a_pod_that_was_not_created_yet_is_waited_for() -> None:
    for there in (of_rank(0, "running"), of_rank(0, "completed")):
        assert isinstance(several(there), Waiting)
        assert several(there, refusal="exceeded quota: q") == Waiting(Reason.JOB_REFUSED, "exceeded quota: q")
        overdue = several(there, waited_seconds=60)
        assert isinstance(overdue, Ended)
        assert overdue.outcome.pod_remains


def test_one_of_several_that_ended_unseen_neither_ends_those_that_run_nor_is_it_waited_for() -> None:
    """Somebody removed the pod of a rank that was done, and the monitor that saw it end is gone."""
    while_it_runs = several(of_rank(0, "running"), waited_seconds=10_000, ran=True)
    before_the_job_knows = several(of_rank(0, "completed"), waited_seconds=10_000, ran=True)
    complete = several(of_rank(0, "completed"), job=replace(JOB, completed=True), waited_seconds=10_000, ran=True)

    assert isinstance(while_it_runs, Running)
    assert isinstance(before_the_job_knows, Waiting)
    assert isinstance(complete, Ended)
    assert complete.outcome.completed


@pytest.mark.parametrize("nodes", [1, 2])
def test_an_attempt_that_ran_is_not_said_to_have_been_too_slow_to_start(nodes: int) -> None:
    """Its Job was told by hand to have no pods, while nobody watched."""
    assessment = assess(with_pods(), waited_seconds=10_000, start_seconds=60, nodes=nodes, ran=True)

    assert isinstance(assessment, Ended)
    assert (assessment.outcome.reason, assessment.outcome.pod_remains) == (Reason.DISRUPTED, True)
    assert assessment.outcome.message == "its pods are gone, and its Job makes no others"


def test_several_pods_are_done_when_all_are() -> None:
    assessment = several(of_rank(0, "completed"), lost=(of_rank(1, "completed"),))

    assert isinstance(assessment, Ended)
    assert assessment.outcome.completed


def test_when_one_of_several_has_failed_the_others_are_waited_for_and_it_is_said_why() -> None:
    assessment = several(of_rank(0, "running"), of_rank(1, "out-of-memory"), waited_seconds=10_000)

    assert isinstance(assessment, Waiting)
    assert assessment.reason is Reason.OUT_OF_MEMORY
    assert assessment.message.endswith("its other pods are being ended: job-1-0-running")


def test_when_none_of_several_can_run_any_more_the_attempt_has_ended() -> None:
    assessment = several(of_rank(1, "out-of-memory"), lost=(of_rank(0, "deleted-while-running"),))

    assert isinstance(assessment, Ended)
    assert (assessment.outcome.reason, assessment.outcome.pod_remains) == (Reason.OUT_OF_MEMORY, False)


def test_a_pod_that_failed_before_another_was_created_ends_it_and_none_may_come_after() -> None:
    assessment = several(of_rank(0, "exit-1"))

    assert isinstance(assessment, Ended)
    assert (assessment.outcome.reason, assessment.outcome.pod_remains) == (Reason.FAILED, True)


def test_a_failed_job_of_which_one_pod_was_not_seen_is_disrupted() -> None:
    failed = replace(JOB, failed=Cause("BackoffLimitExceeded", ""))
    assessment = several(of_rank(1, "completed"), job=failed, waited_seconds=10_000)

    assert isinstance(assessment, Ended)
    assert assessment.outcome.reason is Reason.DISRUPTED


@pytest.mark.parametrize("name", ["starting", "being-deleted"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_pods_whose_job_is_deleted_are_being_ended_whatever_they_say(name: str, nodes: int) -> None:
    view = AttemptView(None, job_was_deleted=True, pods=(pod(name),), lost_pods=())

    assessment = assess(view, waited_seconds=100, start_seconds=60, nodes=nodes)

    assert isinstance(assessment, Waiting)
    assert assessment.reason is Reason.STOPPING
    assert pod(name).name in assessment.message


@pytest.mark.parametrize("name", ["completed", "exit-1"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_pod_whose_container_ended_a_moment_ago_is_not_late_however_long_it_ran(name: str, nodes: int) -> None:
    """The kubelet says that a container has ended before it says so of its pod."""
    ending = replace(pod(name), phase="Running")
    other = replace(ending, name="other", uid="other", rank=1)

    assessment = assess(with_pods(*[ending, other][:nodes]), waited_seconds=100_000, start_seconds=60, nodes=nodes)

    assert isinstance(assessment, Running)


def lost(rank: int = 0, **parts: Any) -> PodFacts:
    """A pod that is to end, on a node that does not answer."""
    return replace(of_rank(rank, "running"), **{"deleting": True, "due_at": DUE, "silent": True, **parts})


@pytest.mark.parametrize(
    ("pod_of_it", "at"),
    [(lost(), DUE - 20), (lost(silent=False), DUE + OVERDUE_SECONDS + 1)],
    ids=["its node is given up", "nothing was heard of its end"],
)
def test_on_a_node_that_does_not_answer_a_fenced_attempt_has_ended_and_any_other_may_run(
    pod_of_it: PodFacts, at: float
) -> None:
    timing = {"waited_seconds": 10_000, "start_seconds": 60}
    fenced = assess(with_pods(pod_of_it), **timing, fenced_at=at)
    unfenced = assess(with_pods(pod_of_it), **timing)

    assert isinstance(fenced, Ended)
    assert (fenced.outcome.reason, fenced.outcome.pod_remains) == (Reason.DISRUPTED, False)
    assert isinstance(unfenced, Waiting)
    assert "delete the node object" in unfenced.message


def test_from_the_silence_of_a_node_that_is_cut_off_nothing_is_concluded_and_what_was_done_meanwhile_counts() -> None:
    """skypilot#6133: an outage of the network runs a job again that had succeeded."""
    silent = replace(pod("running"), silent=True)
    given_up = replace(silent, deleting=True, due_at=DUE)
    heard_again = replace(pod("completed"), deleting=True)

    during = [look(with_pods(each), waited=1_000_000) for each in (silent, given_up)]
    after = look(with_pods(heard_again), waited=1_000_000)

    assert [type(each) for each in during] == [Running, Waiting]
    assert isinstance(after, Ended)
    assert (after.outcome.reason, after.outcome.pod_remains) == (Reason.COMPLETED, False)


def test_a_pod_that_ends_in_its_time_is_waited_for() -> None:
    in_time = lost(silent=False)

    assert isinstance(several(in_time, of_rank(1, "running"), fenced_at=DUE + OVERDUE_SECONDS), Waiting)


def test_a_node_that_may_yet_answer_is_given_time_and_it_is_said() -> None:
    silent = lost(1, deleting=False, due_at=None)
    assessment = several(of_rank(0, "running"), silent, fenced_at=DUE)

    assert assessment == Running(silent.name, silent.node or "", silent=True)


def test_of_several_pods_those_on_nodes_that_answer_end_first() -> None:
    still = several(of_rank(0, "running"), lost(1), fenced_at=DUE)
    over = several(of_rank(0, "deleted-while-running"), lost(1), fenced_at=DUE)

    assert isinstance(still, Waiting)
    assert "its other pods are being ended: job-1-0-running" in still.message
    assert isinstance(over, Ended)
    assert (over.outcome.reason, over.outcome.pod_remains) == (Reason.DISRUPTED, False)
    assert "does not answer" in over.outcome.message


KUEUE = replace(JOB, kueue_queue="research", suspended=True)
TAKEN = replace(pod("deleted-while-running"), deleting=True)


def with_job(
    job: JobFacts, *pods: PodFacts, lost: tuple[PodFacts, ...] = (), nodes: int = 1, ran: bool = False
) -> Assessment:
    view = AttemptView(job, job_was_deleted=False, pods=pods, lost_pods=lost)
    return assess(view, waited_seconds=0, start_seconds=60, nodes=nodes, ran=ran)


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (KUEUE, "waiting for Kueue to let it run: queue research"),
        (replace(JOB, suspended=True), "somebody has suspended its Job j-1; it goes on when that is taken back"),
    ],
    ids=["by Kueue", "by hand"],
)
def test_a_job_that_may_have_no_pods_yet_is_waited_for(job: JobFacts, says: str) -> None:
    assert with_job(job) == Waiting(Reason.QUEUED, says)
    assert with_job(job, nodes=2) == Waiting(Reason.QUEUED, says)
    let_go_on = with_job(replace(job, suspended=False))
    assert let_go_on == Waiting(Reason.STARTING, "waiting for its pod")


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (None, 900),
        (JOB, 900),
        (replace(JOB, started_at=500.0), 900),
        (KUEUE, 0),
        (replace(JOB, suspended=True), 0),
        (replace(KUEUE, suspended=False), 0),
        (replace(KUEUE, suspended=False, started_at=940.0), 60),
    ],
    ids=[
        "not seen yet",
        "plain",
        "plain, and its controller was slow",
        "Kueue has no room for it",
        "suspended by hand",
        "Kueue has just let it go on",
        "Kueue let it go on a minute ago",
    ],
)
def test_waiting_for_kueue_is_no_part_of_the_time_in_which_pods_must_run(job: JobFacts | None, expected: float) -> None:
    assert waited_seconds(job, asked_at=100.0, now=1000.0) == expected


def test_a_job_that_is_suspended_while_its_pods_run_is_waited_for_until_they_are_gone() -> None:
    assessment = with_job(KUEUE, replace(pod("running"), deleting=True))

    assert isinstance(assessment, Waiting)
    assert assessment.reason is Reason.STOPPING
    assert "its Job is suspended, and its pods are being ended: " in assessment.message


@pytest.mark.parametrize(
    ("pods", "lost", "nodes", "ran"),
    [
        ((TAKEN,), (), 1, True),
        ((), (TAKEN,), 1, True),
        ((replace(pod("completed"), deleting=True),), (), 1, True),
        ((), (replace(pod("unschedulable"), deleting=True),), 1, False),
        ((), (), 1, True),
        ((), (replace(TAKEN, rank=0), replace(TAKEN, rank=1)), 2, True),
    ],
    ids=[
        "its pod has ended",
        "its pod is gone",
        "its pod ended with 0 when it was told to stop",
        "its pod had not begun",
        "its pod was gone before this monitor looked",
        "several pods",
    ],
)
def test_an_attempt_whose_job_was_suspended_is_disrupted_and_its_job_must_go(
    pods: tuple[PodFacts, ...],
    lost: tuple[PodFacts, ...],
    nodes: int,
    ran: bool,  # noqa: FBT001
) -> None:
    """Were it let go on, its new pods would write where the old ones did."""
    assessment = with_job(KUEUE, *pods, lost=lost, nodes=nodes, ran=ran)

    assert isinstance(assessment, Ended)
    assert (assessment.outcome.reason, assessment.outcome.pod_remains) == (Reason.DISRUPTED, True)
    assert assessment.outcome.message == "Kueue (queue research) suspended its Job, so its pods were taken away"


@pytest.mark.parametrize(("name", "reason"), [("completed", Reason.COMPLETED), ("exit-1", Reason.FAILED)])
def test_a_pod_that_ended_by_itself_before_its_job_was_suspended_counts(name: str, reason: Reason) -> None:
    assessment = with_job(KUEUE, pod(name), ran=True)

    assert isinstance(assessment, Ended)
    assert assessment.outcome.reason is reason
