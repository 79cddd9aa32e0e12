"""The page on training without a cluster, followed as it stands."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from perdure_api.exit_codes import ExitCode
from tests.docs.markdown import blocks
from tests.trainer import tiny

pytestmark = pytest.mark.slow

SHELL: Final = [block.text for block in blocks("sh") if block.page == "docs/laptop.md"]
SECONDS: Final = 240


@contextmanager
def typed(folder: Path, command: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs in a folder, on a machine where nothing is set."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(folder / "tmp"),
        "OMP_NUM_THREADS": "1",
    }
    shell = ["bash", "-euo", "pipefail", "-c", command]
    with subprocess.Popen(shell, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(folder: Path, command: str) -> tuple[int, str]:
    """Exit code and log of a command."""
    with typed(folder, command) as process:
        _, log = process.communicate(timeout=SECONDS)
        return process.returncode, log


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def laptop(tmp_path: Path) -> Path:
    tiny.write_model(tmp_path / "model")
    tiny.write_dataset(tmp_path / "train.jsonl")
    (tmp_path / "tmp").mkdir()
    (writes,) = (text for text in SHELL if text.startswith("cat > trainingjob.yaml"))
    assert ended(tmp_path, writes) == (0, "")
    return tmp_path


def trainer() -> str:
    (command,) = (text for text in SHELL if text.startswith("python -m perdure_trainer"))
    return f"exec {command}"


def test_training_can_be_stopped_and_goes_on_with_the_same_command(laptop: Path) -> None:
    attempts = laptop / "out/runs/verses/attempts"
    with typed(laptop, trainer()) as first:
        deadline = time.monotonic() + SECONDS
        while not (attempts / "1/progress.json").exists():
            assert first.poll() is None, first.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        first.send_signal(signal.SIGINT)
        _, log = first.communicate(timeout=SECONDS)
    assert first.returncode == ExitCode.STOPPED, log
    stopped_at = json.loads((attempts / "1/progress.json").read_text())["perdure"]["step"]

    code, log = ended(laptop, trainer())
    assert code == 0, log
    resumed = [json.loads(line) for line in log.splitlines() if '"training_resumed"' in line]
    assert [event["step"] for event in resumed] == [stopped_at]
    assert {path.name for path in (attempts / "2").iterdir()} >= {
        "adapter",
        "checkpoints",
        "tensorboard",
        "progress.json",
        "result.json",
    }
    assert {path.name for path in (attempts / "2/adapter").iterdir()} >= {
        "adapter_model.safetensors",
        "README.md",
        "loss.png",
    }
    assert list((laptop / "tmp").iterdir()) == []


def test_several_processes_train_as_one(laptop: Path) -> None:
    (command,) = (text for text in SHELL if text.startswith("export PET_NNODES"))
    code, log = ended(laptop, command.replace("127.0.0.1", f"127.0.0.1 PET_MASTER_PORT={free_port()}"))
    assert code == 0, log
    met = [json.loads(line) for line in log.splitlines() if '"ranks_met"' in line]
    assert sorted(event["rank"] for event in met) == [0, 1]
    assert [path.name for path in (laptop / "out/runs/verses/attempts").iterdir()] == ["1"]
    assert (laptop / "out/runs/verses/attempts/1/result.json").exists()


def test_what_is_wrong_is_said_in_a_sentence(laptop: Path) -> None:
    (laptop / "train.jsonl").unlink()
    code, log = ended(laptop, trainer())
    assert code == ExitCode.DATA, log
    last = json.loads(log.splitlines()[-1])
    assert last["event"] == "run_ended"
    assert last["message"].startswith(f"dataset file://{laptop}/train.jsonl was not found")
    assert "Traceback" not in log
