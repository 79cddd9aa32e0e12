"""How a training container says why it ended, so that the control plane need not guess."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the built-in trainer; any other trainer may use them too.

    Values below 100 follow BSD's sysexits.h where it has a word for the case.
    """

    OK = 0
    """Training is complete."""
    FAILED = 1
    """Anything unforeseen: tried again."""
    USAGE = 64
    """The command line or environment is wrong: not tried again."""
    DATA = 65
    """The dataset is wrong: not tried again."""
    TEMPORARY = 75
    """A store or service could not be reached for long, or has no room left: tried again."""
    FENCED = 76
    """A newer attempt has taken over: this one's end does not matter."""
    CONFIG = 78
    """The spec cannot work (model, LoRA targets, sizes): not tried again."""
    DIVERGED = 79
    """The loss is no longer a number: not tried again."""
    PEER_LOST = 80
    """Another rank of this attempt is gone or hangs, as the message says: tried again."""
    OUT_OF_MEMORY = 81
    """More memory was needed than there is, of the machine or of the GPU: tried again."""
    STOPPED = 143
    """Ended on SIGTERM after saving: 128 + 15, what a shell reports for it."""


PERMANENT: frozenset[int] = frozenset({ExitCode.USAGE, ExitCode.DATA, ExitCode.CONFIG, ExitCode.DIVERGED})
"""Exit codes after which another attempt can only end in the same way."""
