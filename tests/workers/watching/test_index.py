from __future__ import annotations

from typing import Any

from perdure_api import names
from perdure_workers.watching.facts import AttemptKey
from perdure_workers.watching.index import AttemptIndex

KEY = AttemptKey("u", 1)


def pod(uid: str = "p", attempt: int = 1, **status: Any) -> dict[str, Any]:
    labels = {names.LABEL_JOB_UID: "u", names.LABEL_ATTEMPT: str(attempt)}
    return {"metadata": {"name": uid, "namespace": "ns", "uid": uid, "labels": labels}, "status": status}


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
    assert index.jobs.newest("u") == 0
    for attempt in (1, 3, 2):
        index.jobs.put(pod(f"j{attempt}", attempt=attempt))
        index.jobs.put(pod(f"j{attempt}", attempt=attempt, active=1))
    assert (index.jobs.newest("u"), index.jobs.newest("other")) == (3, 0)

    for attempt, newest in ((3, 2), (1, 2), (2, 0)):
        index.jobs.remove(pod(f"j{attempt}", attempt=attempt))
        index.jobs.remove(pod(f"j{attempt}", attempt=attempt))
        assert index.jobs.newest("u") == newest


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
    foreign = {"metadata": {"name": "x", "namespace": "ns", "uid": "x", "labels": {}}, "status": {}}
    index.pods.put(foreign)
    index.pods.remove(foreign)

    assert len(index.pods) == 0
