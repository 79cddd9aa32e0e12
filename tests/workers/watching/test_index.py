from __future__ import annotations

import itertools
from typing import Any

import pytest

from perdure_api import names
from perdure_workers.watching.facts import AttemptKey
from perdure_workers.watching.index import AttemptIndex

KEY = AttemptKey("ns", "u", 1)


VERSIONS = itertools.count(1)


def pod(
    uid: str = "p", attempt: int = 1, version: int | None = None, owners: tuple[str, ...] = ("u",), **status: Any
) -> dict[str, Any]:
    """A pod, or a Job: for the index they differ in nothing. Each is newer than the last one, unless it is said not."""
    metadata = {
        "name": uid,
        "namespace": "ns",
        "uid": uid,
        "labels": {names.LABEL_JOB_UID: "u", names.LABEL_ATTEMPT: str(attempt)},
        "resourceVersion": str(next(VERSIONS) if version is None else version),
        "ownerReferences": [{"kind": "Job", "name": "j", "uid": owner, "controller": True} for owner in owners],
    }
    return {"metadata": metadata, "status": status}


def elsewhere(document: dict[str, Any], namespace: str = "foreign") -> dict[str, Any]:
    return {**document, "metadata": {**document["metadata"], "namespace": namespace}}


def test_an_object_is_found_by_its_attempt() -> None:
    index = AttemptIndex()
    index.pods.put(pod("a"))
    index.pods.put(pod("b", attempt=2))

    assert [facts.uid for facts in index.view(KEY).pods] == ["a"]


async def test_news_wakes_everyone_who_waits() -> None:
    index = AttemptIndex()
    with index.watching(KEY) as one, index.watching(KEY) as other:
        news = [one.next_news(), other.next_news()]
        index.pods.put(pod())

        assert all(each.is_set() for each in news)


async def test_what_is_seen_a_second_time_is_no_news() -> None:
    index = AttemptIndex()
    with index.watching(KEY) as watcher:
        index.pods.put(pod())
        news = watcher.next_news()
        index.pods.put(pod())

        assert not news.is_set()


def test_the_last_state_of_what_is_gone_is_kept_while_somebody_watches() -> None:
    index = AttemptIndex()
    with index.watching(KEY):
        index.pods.put(pod(phase="Running"))
        index.pods.remove(pod(phase="Failed"))

        assert [facts.phase for facts in index.view(KEY).lost_pods] == ["Failed"]
    with index.watching(KEY):
        assert index.view(KEY).lost_pods == ()


def test_what_nobody_watched_leaves_nothing_behind() -> None:
    index = AttemptIndex()
    index.pods.put(pod())
    index.pods.remove(pod())

    assert len(index.pods) == 0
    assert index.view(KEY).lost_pods == ()
    assert not index.pods._present


def test_when_nobody_watches_any_more_nothing_of_what_goes_is_kept() -> None:
    index = AttemptIndex()
    with index.watching(KEY), index.watching(KEY):
        index.pods.put(pod())
        index.jobs.put(pod())
    index.pods.remove(pod())
    index.jobs.remove(pod())

    assert index.view(KEY).lost_pods == ()
    assert not index.view(KEY).job_was_deleted


def test_a_watcher_that_leaves_does_not_end_anothers_watch() -> None:
    index = AttemptIndex()
    with index.watching(KEY):
        with index.watching(KEY):
            index.pods.put(pod())
        index.pods.remove(pod())

        assert len(index.view(KEY).lost_pods) == 1


def test_a_job_is_told_from_one_that_was_never_seen_and_from_one_that_is_gone() -> None:
    index = AttemptIndex()
    with index.watching(KEY):
        assert (index.view(KEY).job, index.view(KEY).job_was_deleted) == (None, False)

        index.jobs.put(pod("first"))
        seen = index.view(KEY)
        assert seen.job
        assert (seen.job.uid, seen.job_was_deleted) == ("first", False)

        index.jobs.remove(pod("first"))
        assert (index.view(KEY).job, index.view(KEY).job_was_deleted) == (None, True)

        index.jobs.put(pod("second"))
        made_again = index.view(KEY)
        assert made_again.job
        assert (made_again.job.uid, made_again.job_was_deleted) == ("second", False)
        index.jobs.remove(pod("second"))
    assert not index.view(KEY).job_was_deleted


def test_one_pod_that_goes_leaves_the_others_of_its_attempt() -> None:
    index = AttemptIndex()
    index.pods.put(pod("a"))
    index.pods.put(pod("b"))
    index.pods.remove(pod("a"))

    assert [facts.uid for facts in index.view(KEY).pods] == ["b"]
    assert (index.pods.by_uid("a"), len(index.pods)) == (None, 1)


def test_the_newest_attempt_of_a_job_is_known_while_something_of_it_is_there() -> None:
    index = AttemptIndex()
    assert index.jobs.newest(KEY) == 0
    for attempt in (1, 3, 2):
        index.jobs.put(pod(f"j{attempt}", attempt=attempt))
        index.jobs.put(pod(f"j{attempt}", attempt=attempt, active=1))
    assert (index.jobs.newest(KEY), index.jobs.newest(AttemptKey("ns", "other", 1))) == (3, 0)

    for attempt, newest in ((3, 2), (1, 2), (2, 0)):
        index.jobs.remove(pod(f"j{attempt}", attempt=attempt))
        index.jobs.remove(pod(f"j{attempt}", attempt=attempt))
        assert index.jobs.newest(KEY) == newest


def test_a_pod_is_found_by_its_uid() -> None:
    index = AttemptIndex()
    index.pods.put(pod("a"))

    found = index.pods.by_uid("a")
    assert found
    assert found.key == KEY


def test_a_fresh_list_keeps_and_renews_what_is_in_it() -> None:
    index = AttemptIndex()
    with index.watching(KEY):
        index.pods.put(pod("a", phase="Pending"))
        index.pods.replace([pod("a", phase="Running"), pod("b")])

        assert [(facts.uid, facts.phase) for facts in index.view(KEY).pods] == [("a", "Running"), ("b", "Pending")]
        assert index.view(KEY).lost_pods == ()


def test_a_fresh_list_forgets_what_is_not_in_it_and_says_so() -> None:
    index = AttemptIndex()
    with index.watching(KEY) as watcher:
        index.pods.put(pod("old"))
        news = watcher.next_news()
        index.pods.replace([pod("new", attempt=2)])

        assert news.is_set()
        assert index.view(KEY).pods == ()
        assert [facts.uid for facts in index.view(KEY).lost_pods] == ["old"]


def test_an_object_without_our_labels_is_none_of_ours() -> None:
    index = AttemptIndex()
    foreign = {
        "metadata": {"name": "x", "namespace": "ns", "uid": "x", "labels": {}, "resourceVersion": "1"},
        "status": {},
    }
    index.pods.put(foreign)
    index.pods.remove(foreign)

    assert len(index.pods) == 0


def test_whoever_bears_the_labels_of_an_attempt_in_another_namespace_is_none_of_it() -> None:
    """Anybody may set labels in a namespace of their own: the uid of a TrainingJob is no secret."""
    index = AttemptIndex()
    with index.watching(KEY) as watcher:
        index.jobs.put(pod("job"))
        index.pods.put(pod("own", phase="Running"))
        seen, news = index.view(KEY), watcher.next_news()

        index.jobs.put(elsewhere(pod("forged-job", attempt=9)))
        index.pods.put(elsewhere(pod("forged-pod", owners=(), phase="Running")))

        assert (index.view(KEY), news.is_set()) == (seen, False)
        assert not index.is_overtaken(KEY)
        speaker = index.pods.by_uid("forged-pod")
        assert speaker
        assert speaker.key == AttemptKey("foreign", "u", 1), "it speaks of an attempt that there is not"


def test_what_bears_the_labels_of_an_attempt_and_is_anothers_is_none_of_it() -> None:
    index = AttemptIndex()
    copied_pod, copied_job = pod("copied-pod"), pod("copied-job", attempt=9, owners=("another",))
    copied_pod["metadata"]["ownerReferences"][0]["kind"] = "ReplicaSet"
    with index.watching(KEY):
        index.pods.put(copied_pod)
        index.pods.replace([copied_pod])
        index.pods.remove(copied_pod)
        index.jobs.put(copied_job)

        assert (index.view(KEY).pods, index.view(KEY).lost_pods) == ((), ())
        assert (index.pods.by_uid("copied-pod"), index.jobs.newest(KEY)) == (None, 0)


def test_what_was_an_attempts_stays_so_whoever_takes_it_over() -> None:
    """It may still run, and must not beside the next attempt."""
    index = AttemptIndex()
    index.pods.put(pod())
    taken_over = pod(phase="Running")
    taken_over["metadata"]["ownerReferences"][0]["kind"] = "ReplicaSet"
    index.pods.put(taken_over)
    index.pods.replace([taken_over])

    assert [facts.phase for facts in index.view(KEY).pods] == ["Running"]
    index.pods.remove(taken_over)
    assert index.view(KEY).pods == ()


def test_a_pod_that_was_taken_from_its_job_is_its_attempts_also_when_it_is_seen_so_first() -> None:
    index = AttemptIndex()
    index.pods.put(pod(owners=()))

    assert [facts.orphan for facts in index.view(KEY).pods] == [True]


def test_what_comes_late_changes_nothing() -> None:
    index = AttemptIndex()
    with index.watching(KEY) as watcher:
        index.pods.put(pod(version=10, phase="Succeeded"))
        news = watcher.next_news()
        index.pods.put(pod(version=9, phase="Running"))
        index.pods.remove(pod(version=8, phase="Running"))

        assert [facts.phase for facts in index.view(KEY).pods] == ["Succeeded"]
        assert not news.is_set()


@pytest.mark.parametrize("version", [9, 11], ids=["from before it ended", "once more as it ended"])
def test_what_is_gone_does_not_come_back_with_a_late_word(version: int) -> None:
    index = AttemptIndex()
    with index.watching(KEY):
        index.pods.put(pod(version=10, phase="Running"))
        index.pods.remove(pod(version=11, phase="Failed"))
        index.pods.put(pod(version=version, phase="Running"))

        view = index.view(KEY)
        assert (view.pods, [facts.phase for facts in view.lost_pods]) == ((), ["Failed"])
    assert not index.pods._versions


def test_what_got_its_labels_back_is_there_again() -> None:
    """To a watch by labels an object whose labels are taken away is deleted, and added when they are put back."""
    index = AttemptIndex()
    with index.watching(KEY):
        index.pods.put(pod())
        index.pods.remove(pod())
        index.pods.put(pod(phase="Running"))

        view = index.view(KEY)
        assert ([facts.phase for facts in view.pods], view.lost_pods) == (["Running"], ())


def test_a_fresh_list_holds_however_old_its_versions_are() -> None:
    """An etcd that was restored from a backup counts on from there."""
    index = AttemptIndex()
    with index.watching(KEY):
        index.pods.put(pod("there", version=100, phase="Succeeded"))
        index.pods.put(pod("gone", version=101))
        index.pods.remove(pod("gone", version=102))
        index.pods.replace([pod("there", version=7, phase="Running"), pod("gone", version=8, phase="Running")])
        assert [facts.phase for facts in index.view(KEY).pods] == ["Running", "Running"]

        index.pods.put(pod("there", version=9, phase="Failed"))
        view = index.view(KEY)
        assert ({facts.uid: facts.phase for facts in view.pods}, view.lost_pods) == (
            {"there": "Failed", "gone": "Running"},
            (),
        )


def test_a_list_of_one_namespace_says_nothing_of_the_others() -> None:
    index = AttemptIndex()
    one, other = (index.pods.of_namespace(namespace) for namespace in ("ns", "other"))
    one.replace([pod("a"), pod("b")])
    other.replace([elsewhere(pod("c"), "other")])
    assert [facts.uid for facts in index.view(KEY).pods] == ["a", "b"]

    one.replace([pod("b")])
    assert [index.pods.by_uid(uid) is not None for uid in ("a", "b", "c")] == [False, True, True]


def test_an_attempt_is_overtaken_when_a_newer_one_of_the_same_trainingjob_has_begun() -> None:
    index = AttemptIndex()
    index.jobs.put(pod("job"))
    assert not index.is_overtaken(KEY)

    index.jobs.put(pod("next", attempt=2))
    assert index.is_overtaken(KEY)
    assert not index.is_overtaken(AttemptKey("ns", "u", 2))
