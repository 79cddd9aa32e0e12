"""Why an attempt has no pod, or a node does not start the one that it has: Kubernetes says so in Events only."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from perdure_control.cluster import EVENTS, Cluster, ClusterError, Document
from perdure_workers.watching.facts import PodFacts
from perdure_workers.watching.index import AttemptView

SLOW_SECONDS: Final = 30.0
"""After this it is asked why a pod is still on its way to run."""
ASK_SECONDS: Final = 20.0
"""Between two such questions."""
_LIMIT: Final = 500
_OF_NO_NODE: Final = "FailedScheduling"
"""What a pod lacked before it had a node."""


class Hindrances:
    """What keeps one attempt from running."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._refusal: str | None = None
        self._hindered: PodFacts | None = None
        """The pod that was last asked about, with the answer."""
        self._asked_at = -math.inf
        self.is_known = False
        """Whether what was seen last has in it why a node does not start a pod."""

    async def why_no_pod(self, view: AttemptView) -> str | None:
        """What the Job controller says of pods that it may not create; as far as it is known where nobody answers."""
        if view.job is None:
            return None
        try:
            events = await self._events(view.job.namespace, f"involvedObject.uid={view.job.uid},reason=FailedCreate")
        except ClusterError:
            return self._refusal
        newest = _newest(events)
        self._refusal = f"the pod is refused: {newest['message']}" if newest else None
        return self._refusal

    async def seen_in(self, view: AttemptView, waited_seconds: float) -> AttemptView:
        """The view, with why a node does not start one of its pods, where that takes long."""
        self.is_known = False
        slow = next((pod for pod in view.pods if pod.on_its_way), None)
        if slow is None or waited_seconds < SLOW_SECONDS:
            return view
        if time.monotonic() - self._asked_at >= ASK_SECONDS:
            self._asked_at = time.monotonic()
            self._hindered = _latest(self._hindered, replace(slow, hindrance=await self._why_not_started(slow)))
        if self._hindered is None or self._hindered.uid != slow.uid:
            return view
        self.is_known = bool(self._hindered.hindrance)
        told = replace(slow, hindrance=self._hindered.hindrance)
        return replace(view, pods=tuple(told if pod is slow else pod for pod in view.pods))

    async def _why_not_started(self, pod: PodFacts) -> str:
        """Empty: nobody says anything, or nobody could be asked."""
        try:
            events = await self._events(pod.namespace, f"involvedObject.uid={pod.uid}")
        except ClusterError:
            return ""
        newest = _newest(event for event in events if event["type"] == "Warning" and event["reason"] != _OF_NO_NODE)
        return f"{newest['reason']}: {newest['message']}"[:_LIMIT] if newest else ""

    async def _events(self, namespace: str, selector: str) -> list[Document]:
        answer = await self._cluster.get(EVENTS.path(namespace), fieldSelector=selector)
        items: list[Document] = answer.get("items") or []
        return items


def _newest(events: Iterable[Document]) -> Document | None:
    return max(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "", default=None)


def _latest(before: PodFacts | None, now: PodFacts) -> PodFacts:
    """What is known of the pod that does not start: the words of before where they are of the same kind.

    Some bear another id with each try, and would be told, and written, again and again.
    """
    kinds = {pod.hindrance.partition(":")[0] for pod in (before, now) if pod}
    return before if before and before.uid == now.uid and len(kinds) == 1 else now
