"""The breakers of one worker process: a Temporal worker for each, and what is told of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from temporalio.client import Client
from temporalio.worker import (
    FixedSizeSlotSupplier,
    Interceptor,
    PollerBehaviorSimpleMaximum,
    Worker,
    WorkerDeploymentConfig,
    WorkerTuner,
)

from perdure_api import names
from perdure_control.factory.breaker import Breaker
from perdure_control.factory.entry import activity_type
from perdure_workers.breakers.circuit import Circuit, State
from perdure_workers.breakers.routing import Routing
from perdure_workers.breakers.slots import GuardedSlots
from perdure_workers.breakers.watching import Watching


class Breakers:
    """By type of activity."""

    def __init__(
        self,
        activities: Sequence[Callable[..., Any]],
        breakers: Mapping[str, Breaker],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """All closed.

        Args:
            activities: All that are registered; those whose types have no breaker count for nothing here.
            breakers: By type of activity.
            clock: Seconds, only going on.
        """
        self._clock = clock
        self._activities = {name: each for each in activities if (name := activity_type(each)) in breakers}
        self.circuits: Mapping[str, Circuit] = {name: Circuit(breakers[name], clock) for name in self._activities}

    def routing(self) -> Routing:
        """For the worker that runs the workflows."""
        return Routing({name: names.guarded_queue(name) for name in self._activities})

    def workers(
        self,
        client: Client,
        slots: int,
        interceptors: Sequence[Interceptor],
        grace_seconds: float,
        deployment_config: WorkerDeploymentConfig | None,
    ) -> list[Worker]:
        """One for each type of activity that has a breaker.

        Args:
            client: Temporal's.
            slots: Activities that each does at a time.
            interceptors: Of each.
            grace_seconds: For activities to end when a worker is told to.
            deployment_config: As that of the worker that runs the workflows.
        """
        return [
            Worker(
                client,
                task_queue=names.guarded_queue(name),
                activities=[self._activities[name]],
                activity_executor=ThreadPoolExecutor(slots, f"activity-{name}"),
                interceptors=[*interceptors, Watching(circuit, self._clock)],
                tuner=WorkerTuner.create_composite(
                    workflow_supplier=FixedSizeSlotSupplier(1),
                    activity_supplier=GuardedSlots(circuit, slots),
                    local_activity_supplier=FixedSizeSlotSupplier(1),
                    nexus_supplier=FixedSizeSlotSupplier(1),
                ),
                activity_task_poller_behavior=PollerBehaviorSimpleMaximum(maximum=1),
                graceful_shutdown_timeout=timedelta(seconds=grace_seconds),
                deployment_config=deployment_config,
            )
            for name, circuit in self.circuits.items()
        ]

    def register(self, registry: CollectorRegistry) -> None:
        """Tells Prometheus the state of each."""
        registry.register(_Gauge(self.circuits))


class _Gauge(Collector):
    def __init__(self, circuits: Mapping[str, Circuit]) -> None:
        self._circuits = circuits

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            "perdure_breaker_state",
            "1 for the state that a circuit breaker is in, else 0.",
            labels=["activity", "state"],
        )
        for name, circuit in self._circuits.items():
            for state in State:
                gauge.add_metric([name, str(state)], int(circuit.state is state))
        yield gauge
