"""A list and a watch of one collection, kept up through everything that a watch can suffer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import structlog

from perdure_control.cluster import Cluster, ClusterError, ClusterUnavailable, Gone

Document = dict[str, Any]

PAGE_SIZE: Final = 500
WATCH_SECONDS: Final = 300
"""The server ends a watch after this; a fresh one is cheap and finds a fresh server."""
IDLE_SECONDS: Final = 100.0
"""Bookmarks come about once a minute: a longer silence is a dead connection, not a quiet cluster."""
FIRST_PAUSE_SECONDS: Final = 0.5
MAX_PAUSE_SECONDS: Final = 15.0

log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Where an informer puts what it sees. Called on the event loop, must not block."""

    def replace(self, documents: Iterable[Document]) -> None:
        """This is everything there is: forget what is not in it."""

    def put(self, document: Document) -> None:
        """Added or changed."""

    def remove(self, document: Document) -> None:
        """Deleted; the document is the object's last state."""


class Informer:
    """Keeps a sink in step with a collection.

    A watch that ends, silently or with an error, goes on from the last resourceVersion seen: the API server ends slow
    watches in bursts without a word. Only 410 (too far back) makes it list again.
    """

    def __init__(
        self,
        cluster: Cluster,
        path: str,
        sink: Sink,
        *,
        label_selector: str,
        on_failure: Callable[[ClusterError], None] = lambda _: None,
    ) -> None:
        self._cluster = cluster
        self.path = path
        """Of the collection."""
        self._sink = sink
        self._label_selector = label_selector
        self._on_failure = on_failure
        self._synced = asyncio.Event()
        self._heard_at = time.monotonic()
        self._version = ""
        """The resourceVersion that the sink is at; empty when it must list."""
        self._pause_seconds = 0.0
        """Before the next try; grows while tries bring nothing."""

    @property
    def synced(self) -> bool:
        """Whether the sink has held the whole collection at least once."""
        return self._synced.is_set()

    def heard_seconds_ago(self) -> float:
        """How long ago the API server last listed the collection or said anything in the watch.

        Before that: since there is an informer.
        """
        return time.monotonic() - self._heard_at

    async def run(self) -> None:
        """Never returns; end it by cancelling."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                self._pause_seconds = 0.0
            except Gone:
                self._version = ""
            except ClusterUnavailable as error:
                self._on_failure(error)
                self._pause_seconds = min(MAX_PAUSE_SECONDS, self._pause_seconds * 2 or FIRST_PAUSE_SECONDS)
                log.warning("watch_interrupted", path=self.path, error=error.message, pause_seconds=self._pause_seconds)
            except ClusterError as error:
                # Refused: most often RBAC that is being put right. The list tells in clear what is missing.
                self._on_failure(error)
                self._pause_seconds = MAX_PAUSE_SECONDS
                log.warning("watch_refused", path=self.path, error=error.message, status=error.status)
                self._version = ""
            if self._pause_seconds:
                await asyncio.sleep(self._pause_seconds * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _list(self) -> None:
        documents: list[Document] = []
        query: dict[str, str | int] = {"labelSelector": self._label_selector, "limit": PAGE_SIZE}
        while True:
            page = await self._cluster.get(self.path, **query)
            documents += page.get("items") or []
            following = page["metadata"].get("continue")
            if not following:
                break
            query["continue"] = following
        self._sink.replace(documents)
        self._synced.set()
        self._heard_at = time.monotonic()
        self._version = page["metadata"]["resourceVersion"]

    async def _watch(self) -> None:
        events = self._cluster.watch(
            self.path,
            idle_seconds=IDLE_SECONDS,
            labelSelector=self._label_selector,
            resourceVersion=self._version,
            allowWatchBookmarks="true",
            timeoutSeconds=WATCH_SECONDS,
        )
        async for event in events:
            # A watch that lived and broke is one misfortune, however many there were before it: where each breaks after
            # a minute, the ends of attempts would be seen later and later.
            self._pause_seconds = 0.0
            self._heard_at = time.monotonic()
            document: Document = event["object"]
            match event["type"]:
                case "ADDED" | "MODIFIED":
                    self._sink.put(document)
                case "DELETED":
                    self._sink.remove(document)
            self._version = document["metadata"]["resourceVersion"]
