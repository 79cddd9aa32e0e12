"""Task queues of activities that have a circuit breaker: the workers of the CPU pool serve them too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from perdure_api import names
from perdure_control.factory.entry import activity_type
from perdure_control.factory.registry import Registry
from perdure_scaler.demand import Queue
from perdure_scaler.settings import ScaledQueue


def with_guarded(queues: Sequence[ScaledQueue], temporal_namespace: str, registry: Registry) -> tuple[ScaledQueue, ...]:
    """The same queues; with that of the CPU pool count those of its activities.

    Args:
        queues: As the settings have them.
        temporal_namespace: That the workers of this release are in.
        registry: The workflows that are installed here, as they are in the workers: both run one image.
    """
    guarded = {
        names.guarded_queue(activity_type(function))
        for entry in registry.brought()
        if entry.breaker and entry.queue == names.TASK_QUEUE_CPU
        for function in entry.activities
    }
    pool = Queue(temporal_namespace, names.TASK_QUEUE_CPU)
    return tuple(
        replace(scaled, guarded=tuple(sorted(guarded))) if scaled.queue == pool else scaled for scaled in queues
    )
