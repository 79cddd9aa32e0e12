"""What a dump of all threads' stacks says in a few words."""

from __future__ import annotations

import re
from typing import Final

FRAMES_SHOWN: Final = 3
_FRAME: Final = re.compile(r'File "(?:[^"]*/)?(?P<file>[^"/]+)", line (?P<line>\d+) in (?P<function>.+)')
_CURRENT: Final = re.compile(r"^Current thread 0x", re.MULTILINE)


def whereabouts(stacks: str) -> str:
    """The innermost frames of the thread that got the signal: `read (ssl.py:1099), in …`; empty where none are."""
    current = _CURRENT.search(stacks)
    block = stacks[current.start() if current else 0 :].split("\n\n", maxsplit=1)[0]
    frames = [f"{found['function']} ({found['file']}:{found['line']})" for found in _FRAME.finditer(block)]
    return ", called by ".join(frames[:FRAMES_SHOWN])
