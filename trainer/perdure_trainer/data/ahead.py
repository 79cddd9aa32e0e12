"""Work that is done ahead of those who wait for it, in a thread."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from queue import Full, Queue
from threading import Event, Thread
from typing import Final, TypeVar

T = TypeVar("T")

_LOOK_SECONDS: Final = 0.5
"""How often a thread that waits for room looks whether anybody still wants what it makes."""


class _End:
    """Nothing comes after it; with the error that was the reason, if there was one."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """The same items, of which up to `depth` are made before anybody asks for them.

    An error appears where the item would have. Closing the iterator ends the thread behind its current item.
    """
    queue: Queue[T | _End] = Queue(depth)
    abandoned = Event()
    Thread(target=_fill, args=(items, queue, abandoned), daemon=True, name="ahead").start()
    try:
        while True:
            item = queue.get()
            if isinstance(item, _End):
                if item.error:
                    raise item.error
                return
            yield item
    finally:
        abandoned.set()


def _fill(items: Iterable[T], queue: Queue[T | _End], abandoned: Event) -> None:
    end = _End()
    try:
        for item in items:
            if not _put(queue, item, abandoned):
                return
    except BaseException as error:  # noqa: BLE001 - it is raised again where it can be dealt with
        end = _End(error)
    _put(queue, end, abandoned)


def _put(queue: Queue[T | _End], item: T | _End, abandoned: Event) -> bool:
    while not abandoned.is_set():
        try:
            queue.put(item, timeout=_LOOK_SECONDS)
        except Full:
            continue
        return True
    return False
