"""Where every thread is when the end is asked for: of a trainer that hangs, nothing else tells why."""

from __future__ import annotations

import faulthandler
import signal
from pathlib import Path
from typing import Final

LIMIT_CHARACTERS: Final = 3000
"""Of what is told; the thread that got the signal stands last in a dump, and says most."""


class Stacks:
    """Dumps the stacks on SIGTERM, by code that needs no interpreter: also where Python itself no longer gets a turn.

    The dump lies where the kubelet reads the last words, so that it is told also when these are never written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def install(self) -> None:
        """Begins. The handler that is installed by then is called afterwards."""
        if self._file.exists():
            # Never closed: it must be writable whatever has become of this process.
            stream = self._file.open("w")
            faulthandler.register(signal.SIGTERM, file=stream, all_threads=True, chain=True)

    def told(self) -> str | None:
        """The end of the dump, if there is one."""
        try:
            return self._file.read_text(errors="replace")[-LIMIT_CHARACTERS:] or None
        except OSError:
            return None
