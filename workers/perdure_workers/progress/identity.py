"""Who speaks: a training pod of ours, shown by its token."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any, Final

from perdure_api.pod import PROGRESS_TOKEN_AUDIENCE
from perdure_control.cluster import TOKEN_REVIEWS, Cluster
from perdure_workers.progress.buckets import Buckets
from perdure_workers.watching.facts import PodFacts

_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_TRUST_SECONDS: Final = 60.0
_REVIEWS_PER_SECOND: Final = 0.5
"""Sustained, for one pod; with one token it needs one review in a minute."""
_REVIEWS_AT_ONCE: Final = 5.0
_CACHE_SIZE: Final = 20_000


class NotOurs(Exception):
    """The speaker is no training pod; the message says what is wrong with its token."""


class TooManyTokens(Exception):
    """Too many tokens in a short time that say to be of one pod."""


class Identifier:
    """Finds the pod behind a token. A verdict, good or bad, holds for a minute: reviews cost the API server.

    Nor is it asked about a token that does not even say that it was issued to one of our pods, or about one after the
    other that do: whoever invents them would have it work for nothing.
    """

    def __init__(
        self, cluster: Cluster, find_pod: Callable[[str], PodFacts | None], clock: Callable[[], float]
    ) -> None:
        self._cluster = cluster
        self._find_pod = find_pod
        self._clock = clock
        self._verdicts: dict[bytes, tuple[float, str | None, str]] = {}
        self._reviews = Buckets(_REVIEWS_PER_SECOND, _REVIEWS_AT_ONCE, clock)

    async def pod_behind(self, token: str) -> PodFacts:
        """The pod that a token was issued to.

        Raises:
            NotOurs: no valid token of our audience, or of a pod that is no attempt's.
            TooManyTokens: this one was not looked at.
            ClusterError: the API server could not be asked about a token that says to be of a pod of ours.
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
        claimed = _claimed_pod(token)
        if claimed is None or self._find_pod(claimed) is None:
            return None, "the token was issued to no training pod, or to one that is gone"
        # A token that was good is asked about again, whatever others invent.
        if not (known and known[1]) and not self._reviews.take(claimed):
            raise TooManyTokens("too many tokens of one pod; use one for as long as it is valid")
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


def _claimed_pod(token: str) -> str | None:
    """The uid of the pod that a service account's token says it was issued to; the signature is not looked at."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        uid = claims["kubernetes.io"]["pod"]["uid"]
    except (IndexError, KeyError, RecursionError, TypeError, ValueError):
        return None
    return uid if isinstance(uid, str) else None


def _pod_uid(status: dict[str, Any]) -> tuple[str | None, str]:
    if not status.get("authenticated"):
        return None, f"the token is not valid: {status.get('error') or 'the API server does not know it'}"
    if PROGRESS_TOKEN_AUDIENCE not in (status.get("audiences") or []):
        return None, f"the token is not for the audience {PROGRESS_TOKEN_AUDIENCE}"
    extra = (status.get("user") or {}).get("extra") or {}
    uids = extra.get(_POD_UID) or []
    return (uids[0], "") if uids else (None, "the token was not issued to a pod")
