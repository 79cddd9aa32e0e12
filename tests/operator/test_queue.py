from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from perdure_operator.queue import ReconcileQueue, retry_delay_seconds


class Looks:
    """A reconcile function that notes what it is given, and can be held or made to fail."""

    def __init__(self, *, failures: int = 0) -> None:
        self.keys: list[str] = []
        self.running = 0
        self.most_running = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._failures = failures
        self._changed = asyncio.Condition()

    async def __call__(self, key: str) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        async with self._changed:
            self.keys.append(key)
            self._changed.notify_all()
        await self.gate.wait()
        self.running -= 1
        if self._failures:
            self._failures -= 1
            raise LookupError("this time not")

    async def count(self, number: int) -> None:
        """Until it was called so often."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: len(self.keys) >= number)


@asynccontextmanager
async def working(queue: ReconcileQueue, reconcile: Callable[[str], Awaitable[None]]) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run(reconcile))
    yield
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_key_that_waits_is_looked_at_once_however_often_it_was_added() -> None:
    queue, looks = ReconcileQueue(workers=1), Looks()
    for key in ("a", "a", "b", "a"):
        queue.add(key)

    async with working(queue, looks):
        await looks.count(2)
        queue.add("end")
        await looks.count(3)

    assert looks.keys == ["a", "b", "end"]


async def test_a_key_added_while_it_is_looked_at_is_looked_at_again_but_not_twice_at_a_time() -> None:
    queue, looks = ReconcileQueue(workers=3), Looks()
    looks.gate.clear()

    async with working(queue, looks):
        queue.add("a")
        await looks.count(1)
        queue.add("a")
        queue.add("a")
        looks.gate.set()
        await looks.count(2)

    assert looks.keys == ["a", "a"]
    assert looks.most_running == 1


async def test_a_failed_key_is_tried_again_and_holds_up_nobody() -> None:
    queue, looks = ReconcileQueue(workers=1), Looks(failures=2)
    queue.add("a")
    queue.add("b")

    with capture_logs() as logs:
        async with working(queue, looks):
            await looks.count(4)

    assert looks.keys[:2] == ["a", "b"]
    assert sorted(looks.keys[2:]) == ["a", "b"]
    assert [event["failures"] for event in logs] == [1, 1]


async def test_a_later_look_is_brought_forward_by_an_earlier_one() -> None:
    queue, looks = ReconcileQueue(workers=1), Looks()
    queue.add_after("a", 3600)
    queue.add_after("a", 0.01)
    queue.add_after("a", 3600)

    async with working(queue, looks):
        await looks.count(1)

    assert looks.keys == ["a"]


async def test_a_forgotten_key_is_not_looked_at_later() -> None:
    queue, looks = ReconcileQueue(workers=1), Looks()
    queue.add_after("a", 0)
    queue.forget("a")
    queue.add_after("b", 0)

    async with working(queue, looks):
        await looks.count(1)

    assert looks.keys == ["b"]


@pytest.mark.parametrize(
    ("failures", "longest"), [(1, 0.2), (2, 0.4), (5, 3.2), (50, 60)], ids=["first", "second", "fifth", "many"]
)
def test_retries_come_ever_later_but_at_least_once_a_minute(failures: int, longest: float) -> None:
    assert longest / 2 <= retry_delay_seconds(failures) <= longest
