"""What the scaler tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from perdure_scaler.demand import Known, Queue, Unknown
from perdure_scaler.metrics_api import METRIC
from perdure_scaler.settings import ScaledQueue

_LABELS = ("queue", "temporal_namespace")


class DemandGauges(Collector):
    """Read at the time of the scrape. What is not known is left out: a 0 would be taken for one."""

    def __init__(self, queues: Sequence[ScaledQueue], demand_of: Callable[[Queue], Known | Unknown]) -> None:
        self._queues = tuple(queues)
        self._demand_of = demand_of

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every gauge."""
        demand = GaugeMetricFamily(METRIC, "Backlog and slots in use; absent: not known.", labels=_LABELS)
        backlog = GaugeMetricFamily("perdure_task_queue_backlog", "Tasks that wait; absent: not known.", labels=_LABELS)
        slots = GaugeMetricFamily(
            "perdure_task_queue_slots_used", "Tasks that are being done; absent: not known.", labels=_LABELS
        )
        known = GaugeMetricFamily(
            "perdure_task_queue_demand_known", "1 when the demand is known, else 0.", labels=_LABELS
        )
        for scaled in self._queues:
            labels = list(scaled.labels.values())
            found = self._demand_of(scaled.queue)
            known.add_metric(labels, int(isinstance(found, Known)))
            if isinstance(found, Known):
                demand.add_metric(labels, found.total)
                backlog.add_metric(labels, found.backlog)
                slots.add_metric(labels, found.slots)
        yield from (demand, backlog, slots, known)
