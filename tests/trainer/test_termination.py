from __future__ import annotations

import json
from pathlib import Path

from perdure_api.pod import TerminationMessage
from perdure_trainer.termination import leave


def test_the_last_words_are_json_that_the_kubelet_does_not_cut(tmp_path: Path) -> None:
    leave(TerminationMessage(message="x" * 10_000, step=3), tmp_path / "log")
    content = (tmp_path / "log").read_bytes()
    assert len(content) <= 4096
    assert json.loads(content)["step"] == 3


def test_nowhere_to_write_is_no_second_failure(tmp_path: Path) -> None:
    leave(TerminationMessage(message="x"), tmp_path / "none" / "log")
