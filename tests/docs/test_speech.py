"""The page on speech, followed as it stands, with a few of the recordings."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docs.markdown import ROOT, blocks
from tests.trainer.speech import tiny

pytestmark = pytest.mark.slow

SHELL: Final = [block.text for block in blocks("sh") if block.page == "docs/speech.md"]
RATES: Final = {"wer", "cer", "recordings_wer", "recordings_cer"}


def typed(folder: Path, command: str) -> str:
    """What a command says that runs in a folder, on a machine where nothing is set; it must succeed."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(folder / "tmp"),
        "OMP_NUM_THREADS": "1",
    }
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def package(tmp_path: Path) -> str:
    """Arguments that name recordings as Debian has them."""
    transcripts = tmp_path / "core-sounds-en.txt.gz"
    records = [json.loads(line) for line in tiny.CLIPS.read_text().splitlines()]
    said = (f"{record['audio'].removesuffix('.wav')}: {record['text']}\n" for record in records)
    lines = [
        "; Core Asterisk Sounds in English\n",
        "\n",
        "beep: [a simple beep tone]\n",
        "not-there: Nobody says this.\n",
    ]
    transcripts.write_bytes(gzip.compress("".join([*lines, *said]).encode()))
    return f"--sounds {tiny.CLIPS.parent} --transcripts {transcripts}"


def test_what_the_page_says_ends_with_error_rates_of_both_models(tmp_path: Path, package: str) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    installs, writes, trains = SHELL
    prepares = installs.splitlines()[-1]

    assert "speech: 5 recordings to train on, 1 held out" in typed(tmp_path, f"{prepares} {package}")
    typed(tmp_path, writes)
    typed(tmp_path, trains)

    result: dict[str, Any] = json.loads((tmp_path / "speech/out/runs/prompts/attempts/1/result.json").read_text())
    assert result["metrics"].keys() >= RATES
    assert result["baseMetrics"].keys() >= RATES
    assert result["evalCounts"]["sentences"] == 1
    assert result["metrics"]["eval_loss"] < result["baseMetrics"]["eval_loss"]
    card = (tmp_path / "speech/out/runs/prompts/attempts/1/adapter/README.md").read_text()
    assert "| `wer` |" in card
