"""The end, asked for while a program is still being loaded."""

from __future__ import annotations

import os
import signal
from types import FrameType


def end_on_sigterm(exit_code: int) -> None:
    """Ends the process on SIGTERM until somebody else takes the signal over.

    The first process of a container ignores every signal that it has no handler for: without one, a pod that is told
    to stop while its program is imported stays until it is killed.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        os._exit(exit_code)

    signal.signal(signal.SIGTERM, end)
