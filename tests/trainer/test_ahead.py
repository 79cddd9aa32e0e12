from __future__ import annotations

import threading
from collections.abc import Iterator
from threading import Event

import pytest

from perdure_trainer.data.ahead import ahead


def test_the_items_come_in_their_order() -> None:
    assert list(ahead(range(100), 3)) == list(range(100))


def test_items_are_made_before_anybody_asks_for_them() -> None:
    made = Event()

    def items() -> Iterator[int]:
        yield 1
        yield 2
        made.set()
        yield 3

    waiting = ahead(items(), 2)
    assert next(waiting) == 1
    assert made.wait(30)


def test_an_error_appears_behind_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("two")

    found = ahead(items(), 5)
    assert next(found) == 1
    with pytest.raises(ValueError, match="two"):
        next(found)


def test_nothing_more_is_made_once_nobody_wants_it() -> None:
    def items() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    before = set(threading.enumerate())
    found = ahead(items(), 2)
    next(found)
    (thread,) = set(threading.enumerate()) - before
    found.close()
    thread.join(30)
    assert not thread.is_alive()
