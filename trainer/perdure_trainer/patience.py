"""Waiting for a store that is away, for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from perdure_data.errors import Unavailable
from perdure_trainer.failures import TemporaryError

_log = structlog.get_logger()
_FIRST_WAIT_SECONDS: Final = 0.5
_LONGEST_WAIT_SECONDS: Final = 15.0

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long to wait in all; clock and sleep are given by tests."""

    seconds: float = 300.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def call(self, action: Callable[[], T]) -> T:
        """What the action returns, once no store is Unavailable any more.

        Raises:
            TemporaryError: a store stayed away; another attempt may find it back.
        """
        deadline = self.clock() + self.seconds
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                return action()
            except Unavailable as error:
                if self.clock() + wait > deadline:
                    raise TemporaryError(f"{error} (waited {self.seconds:.0f} s for it)") from error
                _log.warning("store_unavailable", message=str(error), wait_seconds=wait)
            self.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
