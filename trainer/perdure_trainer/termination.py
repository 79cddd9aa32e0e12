"""The last words of the container, where the kubelet looks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from perdure_api.pod import TERMINATION_MESSAGE_PATH, TerminationMessage

DEFAULT_PATH: Final = Path(TERMINATION_MESSAGE_PATH)


def leave(message: TerminationMessage, path: Path = DEFAULT_PATH) -> None:
    """Writes the message where the kubelet has mounted a file for it; elsewhere there is nobody to read it."""
    if path != DEFAULT_PATH or path.exists():
        try:
            path.write_text(message.encode())
        except OSError:
            # The exit code still says the most; there is no place left to complain in.
            return
