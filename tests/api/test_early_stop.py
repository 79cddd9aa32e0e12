from __future__ import annotations

import subprocess
import sys

import pytest

TOLD_TO_STOP_WHILE_LOADING = """
import os, runpy, signal, sys, types

loading = types.ModuleType("{package}.main")
loading.main = lambda: os.kill(os.getpid(), signal.SIGTERM) or 99
sys.modules["{package}.main"] = loading
runpy.run_module("{package}", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("package", "exit_code"),
    [("perdure_operator", 0), ("perdure_workers", 0), ("perdure_scaler", 0), ("perdure_trainer", 143)],
)
def test_a_program_that_is_still_being_loaded_ends_when_it_is_told_to(package: str, exit_code: int) -> None:
    result = subprocess.run(
        [sys.executable, "-c", TOLD_TO_STOP_WHILE_LOADING.format(package=package)], check=False, timeout=60
    )

    assert result.returncode == exit_code
