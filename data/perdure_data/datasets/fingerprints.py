"""What identifies the content of a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def combined(digests: Sequence[bytes]) -> str:
    """The SHA-256 of a dataset, in hex, from those of its files: names do not matter, order and content do.

    Of one file it is the file's own, so that `sha256sum` says the same.
    """
    return digests[0].hex() if len(digests) == 1 else hashlib.sha256(b"".join(digests)).hexdigest()
