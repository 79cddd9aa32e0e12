from __future__ import annotations

import errno

import pytest
import torch
from safetensors import SafetensorError

from perdure_api.exit_codes import PERMANENT, ExitCode
from perdure_data.datasets import DatasetBroken
from perdure_data.errors import AccessDenied, BucketNotFound, NoSpace, Unavailable
from perdure_data.models import ModelNotFound
from perdure_trainer.failures import Diverged, failure_of


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DatasetBroken("x"), ExitCode.DATA),
        (ModelNotFound("x"), ExitCode.CONFIG),
        (Unavailable("x"), ExitCode.TEMPORARY),
        (AccessDenied("x"), ExitCode.CONFIG),
        (BucketNotFound("x"), ExitCode.CONFIG),
        (NoSpace("x"), ExitCode.TEMPORARY),
        (Diverged("x"), ExitCode.DIVERGED),
        (MemoryError("x"), ExitCode.OUT_OF_MEMORY),
        (RuntimeError("enforce fail: CPUAllocator: can't allocate memory: x"), ExitCode.OUT_OF_MEMORY),
        (OSError(errno.ENOMEM, "x"), ExitCode.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory: x\nmore"), ExitCode.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory, x"), ExitCode.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "full", "x"), ExitCode.TEMPORARY),
        (SafetensorError("No space left on device, x"), ExitCode.TEMPORARY),
        (OSError(errno.EROFS, "read-only", "x"), ExitCode.CONFIG),
        (OSError(errno.EIO, "x"), ExitCode.FAILED),
        (ZeroDivisionError("x"), ExitCode.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
def test_every_exception_has_an_exit_code_and_a_sentence(error: Exception, code: ExitCode) -> None:
    failure = failure_of(error)
    assert failure.exit_code == code
    assert "x" in str(failure) or "no space left" in str(failure)
    assert "\n" not in str(failure)


def test_what_may_pass_is_tried_again() -> None:
    assert failure_of(Unavailable("x")).exit_code not in PERMANENT
    assert failure_of(MemoryError("x")).exit_code not in PERMANENT
    assert failure_of(NoSpace("x")).exit_code not in PERMANENT
