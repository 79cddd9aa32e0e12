"""Everything the process knows of attempts' Jobs and pods, by attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from perdure_api.progress import AttemptCommand
from perdure_workers.watching.facts import AttemptKey, JobFacts, PodFacts, job_facts, pod_facts

Document = dict[str, Any]


class _Keyed(Protocol):
    @property
    def key(self) -> AttemptKey: ...

    @property
    def uid(self) -> str: ...

    @property
    def foreign(self) -> bool: ...


F = TypeVar("F", bound=_Keyed)


@dataclass(frozen=True)
class AttemptView:
    """What the cluster shows of one attempt at one moment."""

    job: JobFacts | None
    job_was_deleted: bool
    """The Job has been seen, and is gone."""
    pods: tuple[PodFacts, ...]
    lost_pods: tuple[PodFacts, ...]
    """Last state of pods that are gone."""


class _Shelf(Generic[F]):
    """Facts of one collection by attempt, then uid; with the last state of what is gone while somebody watches.

    What is foreign is left out, unless it was an attempt's before: what was taken from an attempt may still run.
    """

    def __init__(self, parse: Callable[[Document], F | None], watched: Callable[[AttemptKey], Watcher | None]) -> None:
        self._parse = parse
        self._watched = watched
        self._present: dict[AttemptKey, dict[str, F]] = {}
        self._attempts: dict[tuple[str, str], set[int]] = {}
        self._gone: dict[AttemptKey, dict[str, F]] = {}
        self._by_uid: dict[str, F] = {}
        self._versions: dict[str, int] = {}
        """resourceVersion by uid, of what is there and of what is gone while somebody watches."""

    def replace(self, documents: Iterable[Document], namespace: str | None = None) -> None:
        """Takes a whole list: it holds whatever was seen before, be its versions older (etcd may be a restored one).

        Args:
            documents: The list.
            namespace: The only one that it is of; None: it is of all.
        """
        kept = set()
        for document in documents:
            kept.add(document["metadata"]["uid"])
            self._take(document)
        listed = [facts for facts in self._by_uid.values() if namespace in {None, facts.key.namespace}]
        for facts in listed:
            if facts.uid not in kept:
                self._drop(facts)

    def of_namespace(self, namespace: str | None) -> _Part[F]:
        """Where the informer of one namespace puts what it sees; None: the one informer of all namespaces."""
        return _Part(self, namespace)

    def put(self, document: Document) -> None:
        """Takes an object that was added or changed, unless something newer of it is known, be it that it is gone."""
        if _version(document) > self._versions.get(document["metadata"]["uid"], -1):
            self._take(document)

    def remove(self, document: Document) -> None:
        """Takes an object's last state."""
        facts, version = self._parse(document), _version(document)
        if facts is None or version < self._versions.get(facts.uid, -1):
            return
        if facts.foreign and facts.uid not in self._by_uid:
            return
        self._versions[facts.uid] = version
        self._drop(facts)

    def present(self, key: AttemptKey) -> tuple[F, ...]:
        """What is there."""
        return tuple(self._present.get(key, {}).values())

    def newest(self, key: AttemptKey) -> int:
        """The newest attempt of an attempt's TrainingJob of which something is there; 0: none."""
        return max(self._attempts.get(key.trainingjob, ()), default=0)

    def gone(self, key: AttemptKey) -> tuple[F, ...]:
        """What was there while somebody watched."""
        return tuple(self._gone.get(key, {}).values())

    def by_uid(self, uid: str) -> F | None:
        """One object."""
        return self._by_uid.get(uid)

    def forget(self, key: AttemptKey) -> None:
        """Drops last states: nobody watches any more."""
        for uid in self._gone.pop(key, ()):
            self._versions.pop(uid, None)

    def __len__(self) -> int:
        """How many objects are there."""
        return len(self._by_uid)

    def _take(self, document: Document) -> None:
        facts = self._parse(document)
        if facts is None or (facts.foreign and facts.uid not in self._by_uid):
            return
        self._versions[facts.uid] = _version(document)
        if self._by_uid.get(facts.uid) == facts:
            return
        self._present.setdefault(facts.key, {})[facts.uid] = facts
        self._attempts.setdefault(facts.key.trainingjob, set()).add(facts.key.attempt)
        self._by_uid[facts.uid] = facts
        self._gone.get(facts.key, {}).pop(facts.uid, None)
        self._wake(facts.key)

    def _drop(self, facts: F) -> None:
        self._by_uid.pop(facts.uid, None)
        present = self._present.get(facts.key, {})
        present.pop(facts.uid, None)
        if not present and self._present.pop(facts.key, None) is not None:
            numbers = self._attempts[facts.key.trainingjob]
            numbers.discard(facts.key.attempt)
            if not numbers:
                del self._attempts[facts.key.trainingjob]
        if self._watched(facts.key) is not None:
            self._gone.setdefault(facts.key, {})[facts.uid] = facts
        else:
            self._versions.pop(facts.uid, None)
        self._wake(facts.key)

    def _wake(self, key: AttemptKey) -> None:
        watcher = self._watched(key)
        if watcher is not None:
            watcher.wake()


class _Part(Generic[F]):
    """One namespace's part of a shelf: a list of one says nothing of the others."""

    def __init__(self, shelf: _Shelf[F], namespace: str | None) -> None:
        self.put = shelf.put
        self.remove = shelf.remove
        self._shelf = shelf
        self._namespace = namespace

    def replace(self, documents: Iterable[Document]) -> None:
        """Takes a whole list."""
        self._shelf.replace(documents, self._namespace)


def _version(document: Document) -> int:
    """Kubernetes lets them be compared as numbers within one collection (KEP-5504)."""
    return int(document["metadata"]["resourceVersion"])


class Watcher:
    """Those who wait for news of one attempt. Any number may wait: each is woken by each piece of news."""

    def __init__(self) -> None:
        self.holders = 0
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Tells everybody, those included who will only ask for the next news later."""
        self._news.set()
        self._news = asyncio.Event()

    def next_news(self) -> asyncio.Event:
        """An event that is set by the next news after this call: take it, look, then wait for it."""
        return self._news


class AttemptIndex:
    """Jobs and pods by attempt; the sinks of two informers, read by monitors and by the progress receiver."""

    def __init__(self) -> None:
        self._watchers: dict[AttemptKey, Watcher] = {}
        self.jobs: _Shelf[JobFacts] = _Shelf(job_facts, self._watchers.get)
        self.pods: _Shelf[PodFacts] = _Shelf(pod_facts, self._watchers.get)

    def view(self, key: AttemptKey) -> AttemptView:
        """What is known of an attempt now."""
        jobs = self.jobs.present(key)
        return AttemptView(
            job=jobs[0] if jobs else None,
            job_was_deleted=not jobs and bool(self.jobs.gone(key)),
            pods=self.pods.present(key),
            lost_pods=self.pods.gone(key),
        )

    def is_overtaken(self, key: AttemptKey) -> bool:
        """Whether a newer attempt has begun."""
        return self.jobs.newest(key) > key.attempt

    def command(self, key: AttemptKey) -> AttemptCommand | None:
        """What the pods of an attempt are to be told."""
        return next((job.command for job in self.jobs.present(key)), None)

    @contextmanager
    def watching(self, key: AttemptKey) -> Iterator[Watcher]:
        """News of an attempt while the context lasts; two monitors of one attempt share it and both hear."""
        watcher = self._watchers.setdefault(key, Watcher())
        watcher.holders += 1
        try:
            yield watcher
        finally:
            watcher.holders -= 1
            if not watcher.holders:
                del self._watchers[key]
                self.jobs.forget(key)
                self.pods.forget(key)
