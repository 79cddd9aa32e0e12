"""The one place where kopf meets Perdure: how it logs in, how it watches, and what an event leads to."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any, Final

import kopf
from kubernetes.aio.client import Configuration

from perdure_api import names
from perdure_control.cluster import load_configuration
from perdure_operator.observation import observe
from perdure_operator.queue import ReconcileQueue
from perdure_operator.tracker import Tracker

_BACKOFFS_SECONDS: Final = (0.5, 1, 2, 3, 5, 8, 13)
_LONGEST_BACKOFF_SECONDS: Final = 15


class _ForEver:
    """Backoffs without an end: the API server being away is no reason for the operator to go."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain(_BACKOFFS_SECONDS, itertools.repeat(_LONGEST_BACKOFF_SECONDS))


class _NoProgress(kopf.ProgressStorage):
    """Keeps nothing: there are no handlers whose progress would have to be kept."""

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> None:  # noqa: ARG002
        return None

    def store(self, **_: Any) -> None:
        return

    def purge(self, **_: Any) -> None:
        return

    def touch(self, **_: Any) -> None:
        return

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


class _NoDiffBase(kopf.DiffBaseStorage):
    """Compares nothing: what an object needs follows from its newest state alone."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return


def kopf_settings() -> kopf.OperatorSettings:
    """How kopf is to behave: watch, and write nothing."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.error_backoffs = _ForEver()
    # With our finalizer here kopf would take it off again, since none of its own handlers needs one.
    settings.persistence.finalizer = f"{names.GROUP}/kopf-has-none"
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.diffbase_storage = _NoDiffBase()
    return settings


def make_registry(tracker: Tracker, queue: ReconcileQueue) -> kopf.OperatorRegistry:
    """Kopf's handlers.

    One, of the lowest level: it is given every event as it comes, keeps nothing on the object, and hands over to the
    queue at once, so that no event waits behind a slow object.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        # Called again after a 401, so that a rotated token is read anew.
        return await connection_info(await load_configuration())

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def see(event: kopf.RawEvent, **_: Any) -> None:
        seen = observe(dict(event["object"]))
        tracked = tracker.see(seen)
        tracked.watched_version = seen.resource_version
        tracked.gone = event["type"] == "DELETED"
        queue.add(seen.job.uid)

    return registry


async def connection_info(configuration: Configuration) -> kopf.ConnectionInfo:
    """Kopf's form of the official client's configuration: both log in the same way."""
    header = await configuration.get_api_key_with_prefix("BearerToken")
    scheme, _, token = (header or "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        username=configuration.username or None,
        password=configuration.password or None,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )


def quiet_kopf() -> None:
    """Leaves kopf its warnings: its own account of every event says less than ours."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
