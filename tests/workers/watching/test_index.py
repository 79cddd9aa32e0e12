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
    index.pods.put({"metadata": {"name": "x", "namespace": "ns", "uid": "x", "labels": {}}, "status": {}})

    assert len(index.pods) == 0
