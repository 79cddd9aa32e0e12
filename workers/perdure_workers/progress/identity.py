"""Who speaks: a training pod of ours, shown by its token."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from perdure_api.pod import PROGRESS_TOKEN_AUDIENCE
from perdure_control.cluster import TOKEN_REVIEWS, Cluster
from perdure_workers.watching.facts import PodFacts

_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_TRUST_SECONDS: Final = 60.0
_CACHE_SIZE: Final = 20_000


class NotOurs(Exception):
    """The speaker is no training pod; the message says what is wrong with its token."""


class Identifier:
    """Finds the pod behind a token. A verdict, good or bad, holds for a minute: reviews cost the API server."""

    def __init__(
        self, cluster: Cluster, find_pod: Callable[[str], PodFacts | None], clock: Callable[[], float]
    ) -> None:
        self._cluster = cluster
        self._find_pod = find_pod
        self._clock = clock
        self._verdicts: dict[bytes, tuple[float, str | None, str]] = {}

    async def pod_behind(self, token: str) -> PodFacts:
        """The pod that a token was issued to.

        Raises:
            NotOurs: no valid token of our audience, or of a pod that is no attempt's.
            ClusterError: the API server could not be asked.
        """
        uid, problem = await self._review(token)
        if uid is None:
            raise NotOurs(problem)
        pod = self._find_pod(uid)
        if pod is None:
            raise NotOurs("the token is good, but its pod is no training pod, or is gone")
        return pod

    async def _review(self, token: str) -> tuple[str | None, str]:
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verdicts.get(digest)
        if known and known[0] > self._clock():
            return known[1], known[2]
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [PROGRESS_TOKEN_AUDIENCE]},
        }
        status: dict[str, Any] = (await self._cluster.create(TOKEN_REVIEWS.path(), body)).get("status") or {}
        uid, problem = _pod_uid(status)
        if len(self._verdicts) >= _CACHE_SIZE:
            self._verdicts.clear()
        self._verdicts[digest] = (self._clock() + _TRUST_SECONDS, uid, problem)
        return uid, problem


def _pod_uid(status: dict[str, Any]) -> tuple[str | None, str]:
    if not status.get("authenticated"):
        return None, f"the token is not valid: {status.get('error') or 'the API server does not know it'}"
    if PROGRESS_TOKEN_AUDIENCE not in (status.get("audiences") or []):
        return None, f"the token is not for the audience {PROGRESS_TOKEN_AUDIENCE}"
    extra = (status.get("user") or {}).get("extra") or {}
    uids = extra.get(_POD_UID) or []
    return (uids[0], "") if uids else (None, "the token was not issued to a pod")
