"""How a run can end other than well. Each class is one exit code, which the control plane reads.

TrainerError            1   unforeseen: tried again
├── UsageError         64
├── DataError          65
├── TemporaryError     75   tried again
├── Fenced             76   a newer attempt has taken over
├── ConfigError        78
├── Diverged           79
└── Stopped           143   saved, and may go on later
"""

from __future__ import annotations

from typing import ClassVar

from perdure_api.exit_codes import ExitCode
from perdure_data.datasets import DatasetError
from perdure_data.errors import AccessDenied, NotFound, StoreError, Unavailable
from perdure_data.models import ModelError


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
    """A store was away for longer than anyone would wait in a pod that holds GPUs."""

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
        case Unavailable():
            return TemporaryError(str(error))
        case AccessDenied() | NotFound():
            return ConfigError(str(error))
        case StoreError():
            return TrainerError(str(error))
        case MemoryError():
            return TrainerError(
                f"out of memory ({error}); lower training.batchSize or sequenceLength, or give the pod more memory"
            )
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which must not be imported only to be named
        return TrainerError(
            f"out of GPU memory ({str(error).splitlines()[0]}); lower training.batchSize or sequenceLength and raise "
            "gradientAccumulationSteps instead"
        )
    return TrainerError(f"unforeseen {type(error).__name__}: {error}; the log has the traceback")
