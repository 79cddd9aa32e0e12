"""What running jobs cost: `make bench-watch`, or `python -m bench.watch --help`.

On the development cluster with Perdure installed, on KWOK's nodes: 1,000 and 5,000 TrainingJobs whose pods run and do
nothing are held for ten minutes, with one worker. Then some pods end, and all workers are ended with all the others
running. The chart is installed anew with one worker and room for so many, and afterwards as it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.cluster import output, temporal
from bench.cluster.installation import CONTROL_PLANE, OURS, installed_with
from bench.cluster.plot import Bar, drawn
from bench.cluster.session import BUILD, measured, session
from bench.cluster.sizes import sizes
from bench.watch.report import conditions, tables
from bench.watch.results import Results, load
from bench.watch.run import HOW, Wish, hold

RESULTS: Final = BUILD / "watch/results.json"
SIZES: Final = (1000, 5000)
MINUTES: Final = 10.0
ENDS: Final = 20
_ROOM: Final = 1.2
"""Slots for each job: those of an old worker are not free at once."""


def one_worker(slots: int) -> tuple[str, ...]:
    """Values of the chart: one worker with so many slots to watch with, and a Temporal with memory for them."""
    return (
        "--set=worker.replicas=1",
        f"--set=worker.watchSlots={slots}",
        "--set=temporal.quickStart.resources.limits.memory=4Gi",
    )


def picture(results: Results) -> bytes:
    """Memory by process, without jobs and with them."""
    bars = []
    for held in results.held:
        for when, label in (("before", "none"), ("end", f"{held.jobs:,}")):
            parts = {who: held.memory[who][when] / (1 << 20) for who in (*OURS, *CONTROL_PLANE)}
            bars.append(Bar(f"{label} running", parts, f"{sum(parts.values()):,.0f} MiB"))
    return drawn("Memory by process", bars)


def write(results: Results, path: Path) -> None:
    """Raw results, the tables and the picture, side by side."""
    results.save(path)
    output.beside(path, output.text(conditions(results), tables(results)), picture(results) if results.held else None)


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="bench-watch", description=__doc__)
    parser.add_argument("--sizes", type=sizes, default=SIZES, help="running jobs (1000,5000)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long each is held (%(default)s)")
    parser.add_argument("--ends", type=int, default=ENDS, help="pods that are ended one by one (%(default)s)")
    parser.add_argument("--no-restarts", action="store_true", help="leave the workers alone")
    parser.add_argument("--quick", action="store_true", help="200 jobs for one minute, and five ends: six minutes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a file for what was measured (%(default)s)")
    parser.add_argument("--go-on", action="store_true", help="keep what the file has, and measure what is missing")
    parser.add_argument("--show", action="store_true", help="measure nothing: show what the file has")
    found = parser.parse_args(arguments)
    if found.quick:
        found.sizes, found.minutes, found.ends = (200,), 1.0, 5
    if found.minutes <= 0:
        parser.error(f"found --minutes {found.minutes:g}, expected more than 0")
    if not 0 <= found.ends < min(found.sizes, default=1):
        parser.error(f"found --ends {found.ends}, expected fewer than there are jobs, and not fewer than 0")
    return found


async def measure(wanted: argparse.Namespace) -> int:
    """Holds what is wanted; keeps each size as soon as it is measured."""
    slots = int(_ROOM * max(wanted.sizes))
    async with session() as installation, installed_with(*one_worker(slots)):
        facts = await installation.conditions() | {"watch_slots": slots}
        results = load(wanted.results) if wanted.go_on else Results(facts)
        output.require_same(results.conditions, facts, wanted.results)
        client = await temporal.connect(installation)
        for jobs in wanted.sizes:
            if any(held.jobs == jobs for held in results.held):
                continue
            print(f"  {jobs:,} jobs for {wanted.minutes:g} minutes ...", flush=True)
            wish = Wish(jobs, wanted.minutes, wanted.ends, () if wanted.no_restarts else tuple(HOW))
            results.held.append(await hold(installation, wish, client))
            write(results, wanted.results)
    return show(results, wanted.results)


def show(results: Results, path: Path) -> int:
    """Makes the tables of what was measured, and prints them."""
    write(results, path)
    return output.show(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything could be measured."""
    wanted = options(arguments)
    return measured("bench-watch", wanted, measure, lambda: show(load(wanted.results), wanted.results))


if __name__ == "__main__":
    raise SystemExit(main())
