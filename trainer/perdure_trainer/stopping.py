"""SIGTERM and SIGINT: the end is near, save what there is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from perdure_trainer.failures import Stopped


class StopSignal:
    """Whether somebody asked for the end.

    While there is nothing to save, a signal raises Stopped at once. Where there is, it only sets a flag, and whoever
    works looks at it often.
    """

    def __init__(self) -> None:
        self.because = ""
        """Who asked for the end; empty when nobody did."""
        self._deferred = False

    @property
    def requested(self) -> bool:
        """Whether the end was asked for."""
        return bool(self.because)

    def install(self) -> None:
        """Takes over the signals of this process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def request(self, because: str) -> None:
        """Asks for the end."""
        self.because = self.because or because

    def raise_if_requested(self) -> None:
        """Raises Stopped when the end was asked for."""
        if self.because:
            raise Stopped(self.because)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, signals only set the flag."""
        self.raise_if_requested()
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            # Who presses Ctrl-C again does not want to wait. What is saved is whole at any moment.
            signal.signal(number, signal.SIG_DFL)
        self.request(f"stopped by {signal.Signals(number).name}")
        if not self._deferred:
            self.raise_if_requested()
