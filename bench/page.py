"""Puts what was measured into the documentation: `make bench-page`, or `python -m bench.page --help`.

Raw results in build/bench are kept, compressed, in docs/figures, with their pictures; the tables of docs/benchmarks.md,
docs/scale.md and docs/scaling.md are made from what is kept there, between two marks. So no figure on those pages is
typed by hand.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import bench.control_plane.report as control_plane_report
import bench.control_plane.results as control_plane
import bench.pools.report as pools_report
import bench.pools.results as pools
import bench.scale.report as scale_report
import bench.temporal.report as temporal_report
import bench.temporal.results as temporal
import bench.watch.report as watch_report
import bench.watch.results as watch
from bench.cluster import output
from bench.cluster.errors import BenchError
from bench.cluster.installation import ROOT
from bench.scale.costs import measured
from bench.scale.load import Load

FIGURES: Final = ROOT / "docs/figures"
BUILD: Final = ROOT / "build/bench"
KEPT: Final = ("control-plane", "watch", "temporal", "pools")
"""Benchmarks whose raw results are kept."""
LOAD: Final = Load(starts_per_minute=1000, running=10_000)
PAGES: Final = {
    "control-plane": "docs/benchmarks.md",
    "watch": "docs/benchmarks.md",
    "temporal": "docs/benchmarks.md",
    "pools": "docs/benchmarks.md",
    "scale": "docs/scale.md",
    "pools-picture": "docs/scaling.md",
}
_NEEDS: Final = {name: (name,) for name in KEPT} | {"scale": ("control-plane", "watch"), "pools-picture": ("pools",)}
NOTHING: Final = "Not measured yet."
_BEGIN: Final = "<!-- made by make bench-page: {name} -->"
_END: Final = "<!-- end of {name} -->"
_OF_POOLS: Final = "backlog, demand, replicas and busy slots over time"


def raw(name: str, figures: Path) -> Path:
    """Where the raw results of a benchmark are kept."""
    return figures / f"{name}.json.gz"


def keep(name: str, build: Path, figures: Path) -> bool:
    """Keeps the newest raw results of a benchmark, with their picture; False when there are none."""
    newest = build / name / "results.json"
    if not newest.exists():
        return False
    figures.mkdir(parents=True, exist_ok=True)
    # Without the time, so that the same results are the same file.
    raw(name, figures).write_bytes(gzip.compress(newest.read_bytes(), mtime=0))
    picture = newest.with_suffix(".png")
    if picture.exists():
        (figures / f"{name}.png").write_bytes(picture.read_bytes())
    return True


def sections(figures: Path) -> dict[str, str]:
    """The text between the marks, by name, from what is kept.

    Raises:
        BenchError: what is kept is no such document.
    """
    makers: Mapping[str, Callable[[Path], str]] = {
        "control-plane": _control_plane,
        "watch": _watch,
        "temporal": _temporal,
        "pools": _pools,
        "scale": _scale,
        "pools-picture": _pools_picture,
    }
    return {
        name: make(figures) if all(raw(kept, figures).exists() for kept in _NEEDS[name]) else NOTHING
        for name, make in makers.items()
    }


def inserted(page: str, name: str, text: str) -> str:
    """A page with a text between the marks of a name.

    Raises:
        BenchError: the page has no such marks.
    """
    begin, end = _BEGIN.format(name=name), _END.format(name=name)
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise BenchError(f"found no place for {name}, expected {begin} and {end}, each on a line of its own")
    return pattern.sub(lambda _: f"{begin}\n\n{text.strip()}\n\n{end}", page)


def pages(figures: Path, root: Path) -> dict[Path, str]:
    """Every page as it should be."""
    found: dict[Path, str] = {}
    for name, text in sections(figures).items():
        path = root / PAGES[name]
        found[path] = inserted(found.get(path) or path.read_text(), name, text)
    return found


def _control_plane(figures: Path) -> str:
    results = control_plane.load(raw("control-plane", figures))
    text = output.text(control_plane_report.conditions(results), control_plane_report.tables(results))
    return text + _picture("control-plane", "CPU of a job by process", figures)


def _watch(figures: Path) -> str:
    results = watch.load(raw("watch", figures))
    text = output.text(watch_report.conditions(results), watch_report.tables(results))
    return text + _picture("watch", "memory by process", figures)


def _temporal(figures: Path) -> str:
    results = temporal.load(raw("temporal", figures))
    text = output.text(temporal_report.conditions(results), temporal_report.tables(results))
    return text + _picture("temporal", "CPU of a workflow by process", figures)


def _pools(figures: Path) -> str:
    results = pools.load(raw("pools", figures))
    return output.text(pools_report.conditions(results), pools_report.tables(results)) + _picture(
        "pools", _OF_POOLS, figures
    )


def _pools_picture(figures: Path) -> str:
    results = pools.load(raw("pools", figures))
    return pools_report.story(results) + "\n" + _picture("pools", _OF_POOLS, figures)


def _scale(figures: Path) -> str:
    bursts = control_plane.load(raw("control-plane", figures))
    costs = measured(bursts, watch.load(raw("watch", figures)))
    came = f"From the costs of Perdure {bursts.conditions['perdure']} on {bursts.conditions['cpus']} CPUs."
    return output.text(came, scale_report.tables(bursts, costs, LOAD))


def _picture(name: str, alternative: str, figures: Path) -> str:
    return f"\n![{alternative}](figures/{name}.png)\n" if (figures / f"{name}.png").exists() else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every page is as it should be."""
    parser = argparse.ArgumentParser(prog="bench-page", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing: fail when a page is not what is kept")
    wanted = parser.parse_args(arguments)
    try:
        kept = [] if wanted.check else [name for name in KEPT if keep(name, BUILD, FIGURES)]
        stale = {path: text for path, text in pages(FIGURES, ROOT).items() if path.read_text() != text}
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    for path, text in stale.items():
        if wanted.check:
            print(
                f"bench: {path.relative_to(ROOT)} is not what docs/figures has; run: make bench-page", file=sys.stderr
            )
        else:
            path.write_text(text)
            print(f"{path.relative_to(ROOT)} made from {', '.join(kept) or 'what docs/figures has'}")
    return 1 if wanted.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
