"""Say what is being done, and how long it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(sentence: str) -> None:
    """Print one line for the person; standard output is kept for answers."""
    print(sentence, file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Announce a step, then say its seconds."""
    say(f"  {name} ...")
    started = time.monotonic()
    yield
    say(f"  {name}: {time.monotonic() - started:.1f} s")
