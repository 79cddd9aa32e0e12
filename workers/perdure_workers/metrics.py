"""What a worker tells Prometheus, beside what is counted where it happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from perdure_api.conditions import Reason
from perdure_control.requests import resource_of
from perdure_control.tls import Certificate
from perdure_workers.watching.index import AttemptIndex
from perdure_workers.watching.informer import Informer

_ENDINGS: Final = (
    Reason.COMPLETED,
    Reason.FAILED,
    Reason.PERMANENT_ERROR,
    Reason.DISRUPTED,
    Reason.OUT_OF_MEMORY,
    Reason.OUT_OF_DISK,
    Reason.PEER_LOST,
    Reason.HUNG,
    Reason.NO_CAPACITY,
    Reason.IMAGE_PULL_FAILED,
    Reason.CANNOT_START,
    Reason.JOB_REFUSED,
    Reason.JOB_DELETED,
    Reason.FENCED,
    Reason.DIVERGED,
    Reason.SUSPENDED,
    Reason.REGROWN,
)


def attempts_ended(registry: CollectorRegistry) -> Counter:
    """The count of attempts that ended, registered.

    Each usual reason is there from the start: of a series that begins with its first attempt, Prometheus would see no
    increase, and count it for none.
    """
    counter = Counter("perdure_attempts_ended", "Attempts that ended, by how.", ["reason"], registry=registry)
    for reason in _ENDINGS:
        counter.labels(reason=str(reason))
    return counter


@dataclass(frozen=True)
class Gauges:
    """What is read when Prometheus asks."""

    index: AttemptIndex
    informers: Sequence[Informer]
    certificate: Certificate | None
    """The progress receiver's; None: nothing is received."""


class GaugeCollector(Collector):
    """The gauges, read at the time of the scrape."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every gauge."""
        index = self._gauges.index
        yield GaugeMetricFamily("perdure_watched_jobs", "Jobs of attempts in this process's index.", len(index.jobs))
        yield GaugeMetricFamily("perdure_watched_pods", "Training pods in this process's index.", len(index.pods))
        yield self._heard()
        yield from self._certificate()

    def _heard(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "perdure_watch_heard_age_seconds",
            "Since the API server last said anything in a watch, of several the one that is silent longest; it says "
            "something about once a minute.",
            labels=["resource"],
        )
        oldest: dict[str, float] = {}
        for informer in self._gauges.informers:
            resource = resource_of(informer.path)
            oldest[resource] = max(oldest.get(resource, 0.0), informer.heard_seconds_ago())
        for resource, age in oldest.items():
            family.add_metric([resource], age)
        return family

    def _certificate(self) -> Iterator[GaugeMetricFamily]:
        life = self._gauges.certificate.life if self._gauges.certificate else None
        if life is None:
            return
        for name, moment in (("not_before", life.begins), ("not_after", life.ends)):
            yield GaugeMetricFamily(
                f"perdure_progress_certificate_{name}_timestamp_seconds",
                f"The progress receiver's certificate: {name.replace('_', ' ')}.",
                moment.timestamp(),
            )
