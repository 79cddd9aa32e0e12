"""How a run can end other than well. Each class is one exit code, which the control plane reads.

TrainerError            1   unforeseen: tried again
├── UsageError         64
├── DataError          65
├── TemporaryError     75   tried again
├── Fenced             76   a newer attempt has taken over
├── ConfigError        78
├── Diverged           79
├── PeerLost           80   tried again
├── OutOfMemory        81   tried again
└── Stopped           143   saved, and may go on later
"""

from __future__ import annotations

import errno
from typing import ClassVar, Final

from perdure_api.exit_codes import ExitCode
from perdure_data.datasets import DatasetError
from perdure_data.errors import AccessDenied, NoSpace, NotFound, StoreError, Unavailable
from perdure_data.models import ModelError

_NO_MEMORY: Final = "can't allocate memory"
"""What torch says on a CPU, in a plain RuntimeError."""
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_SPACE_TEXT: Final = "No space left on device"
"""What libraries in other languages say, in exceptions of their own."""
_FORBIDDEN: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class TrainerError(Exception):
    """The run ends here; the message is the sentence that the job's status will show."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class UsageError(TrainerError):
    """The command line or the environment is wrong."""

    exit_code = ExitCode.USAGE


class DataError(TrainerError):
    """The dataset is wrong."""

    exit_code = ExitCode.DATA


class TemporaryError(TrainerError):
    """A store is full, or was away for longer than anyone would wait in a pod that holds GPUs."""

    exit_code = ExitCode.TEMPORARY


class Fenced(TrainerError):
    """A newer attempt works on this run."""

    exit_code = ExitCode.FENCED


class ConfigError(TrainerError):
    """The spec cannot work, however often it is tried."""

    exit_code = ExitCode.CONFIG


class Diverged(TrainerError):
    """The loss is no longer a number."""

    exit_code = ExitCode.DIVERGED


class OutOfMemory(TrainerError):
    """The machine or its GPU has too little memory for this run."""

    exit_code = ExitCode.OUT_OF_MEMORY


class PeerLost(TrainerError):
    """Another rank is gone or hangs."""

    exit_code = ExitCode.PEER_LOST


class Stopped(TrainerError):
    """Somebody asked for the end."""

    exit_code = ExitCode.STOPPED


def failure_of(error: BaseException) -> TrainerError:
    """The TrainerError that any exception amounts to, so that nobody ever gets only a traceback."""
    match error:
        case TrainerError():
            return error
        case DatasetError():
            return DataError(str(error))
        case ModelError():
            return ConfigError(str(error))
        case Unavailable() | NoSpace():
            return TemporaryError(str(error))
        case AccessDenied() | NotFound():
            return ConfigError(str(error))
        case StoreError():
            return TrainerError(str(error))
    return _failure_of_machine(error) or TrainerError(
        f"unforeseen {type(error).__name__}: {error}; the log has the traceback"
    )


def _failure_of_machine(error: BaseException) -> TrainerError | None:
    """What the machine had too little of, or would not do; None when it is not to blame."""
    text = str(error).partition("\n")[0]
    number, name = (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
    # By its name, as torch must not be imported only to name it.
    if type(error).__name__ == "OutOfMemoryError" or "CUDA error: out of memory" in text:
        return OutOfMemory(
            f"out of GPU memory ({text}); lower training.batchSize or sequenceLength and raise "
            "gradientAccumulationSteps instead"
        )
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _NO_MEMORY in text:
        found = text.rpartition(_NO_MEMORY)[2].strip(": ") or "the system gave no reason"
        return OutOfMemory(
            f"out of memory ({found}); lower training.batchSize or sequenceLength, or give the trainer more memory"
        )
    if number in _NO_SPACE or _NO_SPACE_TEXT in text:
        # Of a write, the system does not say where; everything but these files is written through a store.
        place = name or "the folder for temporary files (PERDURE_SCRATCH)"
        return TemporaryError(f"{place}: no space left on the file system; make room or mount a larger volume")
    if number in _FORBIDDEN:
        return ConfigError(
            f"{name or text}: this process may not read or write there; check owner and mount of the folder"
        )
    return None
