"""A small measurement with a real Temporal and a real worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.temporal import __main__ as program
from bench.temporal.results import MEMORY, SERVER, STORES, WORKER, load

HISTORY = Path(__file__).parents[2] / "workers/histories/0.1.0/own-command.json"

pytestmark = [pytest.mark.temporal, pytest.mark.slow]


def test_workflows_are_those_of_real_jobs_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "BUILD", tmp_path / "build")
    path, place = tmp_path / "results.json", tmp_path / "data"
    place.mkdir()
    without = [word for store in STORES if store != MEMORY for word in ("--without", store)]
    wish = [*without, "--sizes=3", "--one-by-one=1", "--turns=1", "--open=0", f"--folder={place}", f"--results={path}"]

    assert program.main(wish) == 0

    found = load(path)
    assert [run.plan.load for run in found.runs] == ["1 one by one", "3 at once"]
    for run in found.runs:
        assert run.story["events"] == len(json.loads(HISTORY.read_text())["events"])
        assert len(run.lasted) == run.plan.workflows
        assert all(0 < lasted <= run.seconds for lasted in run.lasted)
        assert run.memory[SERVER]["most"] > run.memory[WORKER]["most"] // 100 > 0
    assert "workflows/s" in capsys.readouterr().out
    assert list(place.iterdir()) == []
