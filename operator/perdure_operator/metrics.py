"""What the operator tells Prometheus."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from perdure_api.conditions import ConditionType, Phase, Reason
from perdure_operator.admission import Limits, Slot
from perdure_operator.observation import Observation
from perdure_operator.tracker import Tracker

_LAG_BUCKETS_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_WAIT_BUCKETS_SECONDS: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


@dataclass(frozen=True)
class Metrics:
    """What is counted where it happens."""

    reconciles: prometheus_client.Counter
    status_writes: prometheus_client.Counter
    start_lag_seconds: prometheus_client.Histogram
    finalizer_wait_seconds: prometheus_client.Histogram
    drift_repairs: prometheus_client.Counter


@dataclass(frozen=True)
class Gauges:
    """What is read when Prometheus asks."""

    tracker: Tracker
    limits: Limits
    queue_length: Callable[[], int]
    temporal_up: Callable[[], bool]
    watch_checked_seconds_ago: Callable[[], float | None]
    worker_versions: Callable[[], Mapping[str, str]] = dict
    """State by build."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def make_metrics(registry: prometheus_client.CollectorRegistry) -> Metrics:
    """The metrics, registered."""
    return Metrics(
        reconciles=prometheus_client.Counter(
            "perdure_operator_reconciles",
            "Looks at a TrainingJob, by what came of them.",
            ["result"],
            registry=registry,
        ),
        status_writes=prometheus_client.Counter(
            "perdure_operator_status_writes",
            "Writes to a TrainingJob's status by the operator.",
            ["result"],
            registry=registry,
        ),
        start_lag_seconds=prometheus_client.Histogram(
            "perdure_operator_start_lag_seconds",
            "From the creation of a TrainingJob to the start of its workflow. Creation times have whole seconds.",
            buckets=_LAG_BUCKETS_SECONDS,
            registry=registry,
        ),
        finalizer_wait_seconds=prometheus_client.Histogram(
            "perdure_operator_finalizer_wait_seconds",
            "From the cancellation of a deleted TrainingJob's workflow to the end of its clean-up.",
            buckets=_WAIT_BUCKETS_SECONDS,
            registry=registry,
        ),
        drift_repairs=prometheus_client.Counter(
            "perdure_operator_drift_repairs",
            "Objects that were looked at again because a comparison found something that no event had told.",
            ["kind"],
            registry=registry,
        ),
    )


class GaugeCollector(Collector):
    """The gauges, read at the time of the scrape."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every gauge."""
        yield self._objects()
        yield self._unfinished()
        yield from self._slots()
        yield self._worker_versions()
        yield GaugeMetricFamily(
            "perdure_operator_queue_length", "TrainingJobs that wait to be looked at.", self._gauges.queue_length()
        )
        yield GaugeMetricFamily(
            "perdure_operator_temporal_up", "1 when Temporal answers, else 0.", int(self._gauges.temporal_up())
        )
        age = self._gauges.watch_checked_seconds_ago()
        if age is not None:
            yield GaugeMetricFamily(
                "perdure_operator_watch_checked_age_seconds",
                "Since the watch was last found to miss nothing.",
                age,
            )

    def _objects(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("perdure_operator_trainingjobs", "TrainingJobs, by phase.", labels=["phase"])
        counts = Counter(tracked.seen.phase for tracked in self._gauges.tracker if not tracked.gone)
        for phase in Phase:
            family.add_metric([phase.value], counts[phase])
        return family

    def _unfinished(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "perdure_operator_unfinished_trainingjobs",
            "TrainingJobs that are not finished, by the reason that they tell; reasons that none tells are left out.",
            labels=["reason"],
        )
        counts = Counter(
            _reason_of(tracked.seen) for tracked in self._gauges.tracker if not (tracked.gone or tracked.seen.terminal)
        )
        for reason, count in sorted(counts.items()):
            family.add_metric([reason], count)
        return family

    def _slots(self) -> Iterator[GaugeMetricFamily]:
        counts = Counter(tracked.slot for tracked in self._gauges.tracker if not tracked.gone)
        cluster = self._gauges.limits.cluster
        yield GaugeMetricFamily(
            "perdure_operator_waiting_jobs", "TrainingJobs that wait for their turn.", counts[Slot.WANTED]
        )
        yield GaugeMetricFamily(
            "perdure_operator_oldest_waiting_age_seconds",
            "Age of the oldest TrainingJob that waits for its first turn; 0: none waits.",
            self._oldest_waiting_age_seconds(),
        )
        yield GaugeMetricFamily(
            "perdure_operator_slots_used", "TrainingJobs that count against the limits.", counts[Slot.HELD]
        )
        yield GaugeMetricFamily(
            "perdure_operator_slots",
            "TrainingJobs that may run at a time in the cluster; +Inf: any number.",
            math.inf if cluster is None else cluster,
        )

    def _oldest_waiting_age_seconds(self) -> float:
        """One that was suspended is left out: since when it waits again is written nowhere."""
        created = [
            tracked.seen.created
            for tracked in self._gauges.tracker
            if tracked.slot is Slot.WANTED and not (tracked.gone or tracked.seen.begun) and tracked.seen.created
        ]
        return (self._gauges.now() - min(created)).total_seconds() if created else 0.0

    def _worker_versions(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "perdure_operator_worker_versions",
            "Deployed versions of the workers: 1 each. Waiting: installed, but not current yet.",
            labels=["build", "state"],
        )
        for build, state in sorted(self._gauges.worker_versions().items()):
            family.add_metric([build, state], 1)
        return family


def _reason_of(seen: Observation) -> str:
    """What an unfinished job does, or waits for; Running tells of pods what Reconciling only tells of attempts."""
    reconciling, running = seen.condition(ConditionType.RECONCILING), seen.condition(ConditionType.RUNNING)
    if reconciling is None:
        return Reason.PENDING
    if reconciling.reason == Reason.STARTING and running is not None:
        return running.reason
    return reconciling.reason
