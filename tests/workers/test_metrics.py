"""What a worker tells Prometheus of its watches and its certificate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry

from perdure_control.cluster import JOBS, PODS
from perdure_control.tls import Life
from perdure_workers.metrics import GaugeCollector, Gauges, attempts_ended
from perdure_workers.watching.index import AttemptIndex


@dataclass(frozen=True)
class Silent:
    """An informer that has heard nothing for so long."""

    path: str
    seconds: float

    def heard_seconds_ago(self) -> float:
        return self.seconds


@dataclass(frozen=True)
class Served:
    life: Life | None


def told(informers: list[Silent], certificate: Served | None = None) -> CollectorRegistry:
    registry = CollectorRegistry()
    silent: Any = informers
    served: Any = certificate
    registry.register(GaugeCollector(Gauges(AttemptIndex(), silent, served)))
    return registry


def test_of_the_watches_of_several_namespaces_the_most_silent_counts() -> None:
    registry = told([Silent(JOBS.path("a"), 5), Silent(JOBS.path("b"), 500), Silent(PODS.path("a"), 7)])

    for resource, seconds in (("jobs", 500), ("pods", 7)):
        assert registry.get_sample_value("perdure_watch_heard_age_seconds", {"resource": resource}) == seconds


def test_the_certificate_is_told_of_once_it_is_served() -> None:
    name = "perdure_progress_certificate_{}_timestamp_seconds"
    life = Life(datetime.fromtimestamp(100, UTC), datetime.fromtimestamp(200, UTC))

    for nothing in (None, Served(None)):
        assert told([], nothing).get_sample_value(name.format("not_after")) is None
    served = told([], Served(life))
    assert served.get_sample_value(name.format("not_before")) == 100
    assert served.get_sample_value(name.format("not_after")) == 200


def test_what_never_happened_is_told_too_so_that_its_first_time_counts() -> None:
    registry = CollectorRegistry()

    attempts_ended(registry)

    assert registry.get_sample_value("perdure_attempts_ended_total", {"reason": "OutOfMemory"}) == 0
