"""Which task queues count as the CPU pool's own."""

from __future__ import annotations

import dataclasses

from perdure_control.factory import Breaker, Registry
from perdure_scaler.demand import Queue
from perdure_scaler.guarded import with_guarded
from perdure_scaler.settings import ScaledQueue
from tests.control.factory.workflows import FAIL, GREET

CPU, ELSEWHERE = ScaledQueue(Queue("default", "perdure-cpu")), ScaledQueue(Queue("other", "perdure-cpu"))
OTHER = ScaledQueue(Queue("default", "x"))


def registry(**changes: object) -> Registry:
    guarded = dataclasses.replace(FAIL, **{"breaker": Breaker(), **changes})  # type: ignore[arg-type]
    return Registry({"fail": guarded, "greet": GREET}, {"fail": "a", "greet": "a"})


def test_what_waits_for_an_activity_with_a_breaker_counts_as_the_pools() -> None:
    assert with_guarded([CPU, ELSEWHERE, OTHER], "default", registry()) == (
        dataclasses.replace(CPU, guarded=("perdure-cpu.try_it",)),
        ELSEWHERE,
        OTHER,
    )


def test_without_a_breaker_or_with_workers_of_their_own_there_is_no_such_queue() -> None:
    assert with_guarded([CPU], "default", registry(breaker=None)) == (CPU,)
    assert with_guarded([CPU], "default", registry(queue="elsewhere")) == (CPU,)
