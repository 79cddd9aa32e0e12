"""What can be wrong with compressed data."""

from __future__ import annotations

from typing import Final

CUT: Final = "end in the middle; the file was not written or uploaded whole. Upload it again"


class Damaged(Exception):
    """Compressed data cannot be read on; the message goes on from "the data …"."""
