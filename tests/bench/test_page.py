"""No figure of the control plane's is typed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import page
from bench.cluster.errors import BenchError
from bench.cluster.installation import ROOT
from bench.pools.results import Results as Pools
from bench.watch.results import Results as Running
from tests.bench.control_plane.test_results import both
from tests.bench.pools.test_pools import CONDITIONS as OF_POOLS
from tests.bench.pools.test_pools import DROP
from tests.bench.watch.test_watch import CONDITIONS as OF_WATCH
from tests.bench.watch.test_watch import HELD

PAGE = "before\n<!-- made by make bench-page: watch -->\n\nold\n\n<!-- end of watch -->\nafter\n"


def measured(build: Path) -> None:
    """What the benchmarks leave."""
    both().save(build / "control-plane/results.json")
    (build / "control-plane/results.png").write_bytes(b"a picture")
    Running(dict(OF_WATCH), [HELD]).save(build / "watch/results.json")
    Pools(dict(OF_POOLS), [DROP]).save(build / "pools/results.json")
    (build / "pools/results.png").write_bytes(b"another")


def test_the_pages_are_what_the_kept_results_say() -> None:
    assert page.main(["--check"]) == 0


def test_a_page_that_says_something_else_is_found_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("docs/benchmarks.md", "docs/scale.md", "docs/scaling.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    measured(tmp_path / "build")
    monkeypatch.setattr(page, "ROOT", tmp_path)
    monkeypatch.setattr(page, "FIGURES", tmp_path / "docs/figures")
    monkeypatch.setattr(page, "BUILD", tmp_path / "build")
    assert page.main([]) == 0
    shown = (tmp_path / "docs/benchmarks.md").read_text()
    assert "| CPU per job, ms | 2,000 | 5,000 | 2.50 |" in shown
    assert "![CPU of a job by process](figures/control-plane.png)" in shown
    assert "10,000 running and 1,000 starts a minute need" in (tmp_path / "docs/scale.md").read_text()
    scaling = (tmp_path / "docs/scaling.md").read_text()
    assert "more workers were wanted after 9.00 s" in scaling
    assert "(figures/pools.png)" in scaling
    assert page.main(["--check"]) == 0

    (tmp_path / "docs/benchmarks.md").write_text(shown.replace("2.50", "2.40"))

    assert page.main(["--check"]) == 1
    assert "docs/benchmarks.md is not what docs/figures has; run: make bench-page" in capsys.readouterr().err


def test_the_same_results_are_the_same_file(tmp_path: Path) -> None:
    measured(tmp_path / "build")
    files = []
    for _ in range(2):
        assert page.keep("watch", tmp_path / "build", tmp_path / "figures")
        files.append(page.raw("watch", tmp_path / "figures").read_bytes())

    assert files[0] == files[1]


def test_what_was_not_measured_is_not_told(tmp_path: Path) -> None:
    assert not page.keep("watch", tmp_path, tmp_path)
    assert set(page.sections(tmp_path).values()) == {page.NOTHING}


def test_scale_needs_both_benchmarks(tmp_path: Path) -> None:
    measured(tmp_path / "build")
    page.keep("control-plane", tmp_path / "build", tmp_path)

    found = page.sections(tmp_path)

    assert found["control-plane"] != page.NOTHING
    assert found["scale"] == page.NOTHING


def test_only_what_is_between_the_marks_is_replaced() -> None:
    assert page.inserted(PAGE, "watch", r"new \1") == PAGE.replace("old", r"new \1")
    assert page.inserted(page.inserted(PAGE, "watch", "new"), "watch", "old") == PAGE


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(BenchError, match="found no place for scale"):
        page.inserted(PAGE, "scale", "new")


def test_a_kept_file_that_is_broken_is_told(tmp_path: Path) -> None:
    page.raw("watch", tmp_path).write_bytes(b"\x1f\x8bnot compressed")

    with pytest.raises(BenchError, match="holds no results of bench-watch"):
        page.sections(tmp_path)
