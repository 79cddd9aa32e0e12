"""The metrics that operator, workers and scaler serve, by their own code, and those that an expression asks for."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector

from perdure_control.cluster import JOBS
from perdure_control.health import CheckCollector, Checks
from perdure_control.requests import KubernetesRequests
from perdure_control.tls import Life
from perdure_operator.admission import Limits
from perdure_operator.metrics import GaugeCollector as OperatorGaugeCollector
from perdure_operator.metrics import Gauges as OperatorGauges
from perdure_operator.metrics import make_metrics
from perdure_operator.tracker import Tracker
from perdure_scaler.demand import Queue, Unknown
from perdure_scaler.gauges import DemandGauges
from perdure_scaler.settings import ScaledQueue
from perdure_workers.breakers.board import Breakers
from perdure_workers.dead_letters.keeper import DeadLetterKeeper
from perdure_workers.metrics import GaugeCollector, Gauges, attempts_ended
from perdure_workers.progress.board import ProgressBoard
from perdure_workers.progress.receiver import ProgressReceiver
from perdure_workers.slots import SlotsInUse
from perdure_workers.watching.index import AttemptIndex

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
_METRIC = re.compile(r"\b(?:perdure|process)_[a-z_]+\b")


def of_operator() -> set[str]:
    """Names of the series that an operator serves."""
    registry = _of_both()
    make_metrics(registry)
    gauges = OperatorGauges(Tracker(), Limits(), lambda: 0, lambda: True, lambda: 0.0)
    registry.register(OperatorGaugeCollector(gauges))
    return _names(registry)


def of_worker() -> set[str]:
    """Names of the series that a worker serves."""
    registry = _of_both()
    attempts_ended(registry)
    nobody: Any = None
    ProgressReceiver(nobody, ProgressBoard(), nobody, nobody, nobody, nobody, registry)
    silent: Any = _Informer()
    served: Any = _Certificate()
    registry.register(GaugeCollector(Gauges(AttemptIndex(), [silent], served)))
    SlotsInUse().register(registry)
    Breakers([], {}).register(registry)
    DeadLetterKeeper(nobody).register(registry, ())
    return _names(registry)


def of_scaler() -> set[str]:
    """Names of the series that a scaler serves."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(CheckCollector(Checks(live={}, ready={})))
    queue = ScaledQueue(Queue("default", "perdure-cpu"))
    registry.register(DemandGauges([queue], lambda _: Unknown("nobody asks")))
    return _names(registry)


def served() -> set[str]:
    """Names of the series that any of them serves."""
    return of_operator() | of_worker() | of_scaler()


def asked_for(expression: str) -> set[str]:
    """Names of our series in a PromQL expression."""
    return set(_METRIC.findall(re.sub(r"\{[^}]*\}", "", expression)))


class _Informer:
    path = JOBS.path()

    def heard_seconds_ago(self) -> float:
        return 0.0


class _Certificate:
    life = Life(datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(1, UTC))


def _of_both() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    KubernetesRequests(registry)
    registry.register(CheckCollector(Checks(live={}, ready={})))
    return registry


def _names(registry: CollectorRegistry) -> set[str]:
    return {f"{family.name}{suffix}" for family in registry.collect() for suffix in _SUFFIXES[family.type]}
