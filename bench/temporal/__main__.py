"""What of the limit is Temporal itself: `make bench-temporal`, or `python -m bench.temporal --help`.

Without a cluster, on loopback: the development server with its data in memory, the same with its data in a file, as the
chart's quick start has it, and a server on PostgreSQL. One after another carries the same workflows, those of
TrainingJobs whose `trainer.command` is `["true"]`, with one worker whose activities answer at once.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from temporalio.service import RPCError

from bench.cluster import output
from bench.cluster.errors import BenchError
from bench.cluster.installation import cpu, git_version
from bench.cluster.plot import Bar, drawn
from bench.cluster.session import BUILD, alone, measured
from bench.cluster.sizes import sizes
from bench.temporal import build, postgres, processes, servers
from bench.temporal.load import bench, hold, run
from bench.temporal.report import conditions, tables
from bench.temporal.results import PARTS, POSTGRESQL, STORES, Held, Plan, Results, load

RESULTS: Final = BUILD / "temporal/results.json"
SIZES: Final = (100, 300, 1000)
ONE_BY_ONE: Final = 20
OPEN: Final = 1000
MINUTES: Final = 2.0
TURNS: Final = 2
DISK: Final = Path("/var/tmp")
"""Of temporary folders the one that is a disk everywhere: what is written to memory costs no fsync."""


def order(stores: Sequence[str], turn: int) -> Sequence[str]:
    """Stores in their order, in every second turn the other way round: whatever drifts meets all of them alike."""
    return stores if turn % 2 == 0 else stores[::-1]


def plans(store: str, one_by_one: int, sizes: Sequence[int], turn: int) -> Iterator[Plan]:
    """Every run of a store in a turn, small ones first."""
    for workflows, at_once in ((one_by_one, False), *((size, True) for size in sizes)):
        if workflows:
            yield Plan(store, workflows, at_once, turn)


def picture(results: Results) -> bytes:
    """CPU per workflow by process, for each load and store."""
    bars = []
    for name in results.loads:
        for store in results.stores:
            runs = results.of(name, store)
            if runs:
                parts = {part: sum(1000 * each.cpu_per_workflow(part) for each in runs) / len(runs) for part in PARTS}
                speed = sum(each.workflows_per_second for each in runs) / len(runs)
                bars.append(Bar(f"{name}: {store}", parts, f"{sum(parts.values()):.0f} ms, {speed:.1f}/s"))
    return drawn("CPU milliseconds per workflow, by process; workflows per second", bars)


def write(results: Results, path: Path) -> None:
    """Raw results, the tables and the picture, side by side."""
    results.save(path)
    output.beside(path, output.text(conditions(results), tables(results)), picture(results) if results.runs else None)


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="bench-temporal", description=__doc__)
    parser.add_argument("--sizes", type=sizes, default=SIZES, help="workflows at once (100,300,1000)")
    parser.add_argument("--one-by-one", type=int, default=ONE_BY_ONE, help="one after another (%(default)s)")
    parser.add_argument("--turns", type=int, default=TURNS, help="how often all but these is measured (%(default)s)")
    parser.add_argument(
        "--open", type=int, default=OPEN, help="workflows that are held open, once; 0: none (%(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long they are (%(default)s)")
    parser.add_argument(
        "--without", action="append", choices=STORES, default=[], help="leave one out; may be said several times"
    )
    parser.add_argument("--quick", action="store_true", help="20 one by one, 100 at once, none held open, one turn")
    parser.add_argument("--folder", type=Path, default=DISK, help="where the data lie meanwhile (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a file for what was measured (%(default)s)")
    parser.add_argument("--go-on", action="store_true", help="keep what the file has, and measure what is missing")
    parser.add_argument("--show", action="store_true", help="measure nothing: show what the file has")
    found = parser.parse_args(arguments)
    if found.quick:
        found.sizes, found.one_by_one, found.turns, found.open = (100,), ONE_BY_ONE, 1, 0
    found.stores = tuple(store for store in STORES if store not in found.without)
    if found.turns < 1 or found.one_by_one < 0 or found.open < 0 or found.minutes <= 0:
        parser.error(
            f"found --turns {found.turns} --one-by-one {found.one_by_one} --open {found.open} --minutes "
            f"{found.minutes:g}, expected at least 1, 0 and 0, and more than 0"
        )
    if not found.stores:
        parser.error("found every store left out with --without, expected at least one to measure")
    return found


@asynccontextmanager
async def served(store: str, place: Path) -> AsyncIterator[servers.Served]:
    """An empty Temporal that keeps its data there."""
    made = postgres.server(place, build.programs()) if store == POSTGRESQL else servers.development_server(place, store)
    async with made as there:
        yield there


def facts(wanted: argparse.Namespace) -> dict[str, Any]:
    """What a figure depends on, and who would repeat it must know.

    Raises:
        BenchError: what is to be measured is not installed.
    """
    # First, for it may say what is to be installed.
    database = postgres.told(build.programs()) if POSTGRESQL in wanted.stores else ""
    return {
        "postgresql": database,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 2),
        "perdure": git_version(),
        "sdk": importlib.metadata.version("temporalio"),
        "temporal": processes.told(servers.PROGRAM, "--version"),
        "filesystem": processes.told("stat", "--file-system", "--format=%T", wanted.folder),
        "without": list(wanted.without),
    }


async def measure(wanted: argparse.Namespace) -> int:
    """Makes what is wanted; keeps each run as soon as it is made."""
    with alone(BUILD / "lock"):
        now = facts(wanted)
        results = load(wanted.results) if wanted.go_on else Results(now)
        output.require_same(results.conditions, now, wanted.results)
        for turn in range(wanted.turns):
            for store in order(wanted.stores, turn):
                try:
                    await _measure(store, turn, wanted, results)
                except* RPCError as group:
                    first = group.exceptions[0]
                    raise BenchError(f"{STORES[store]} does not answer any more ({first}); measure again") from group
    return show(results, wanted.results)


async def _measure(store: str, turn: int, wanted: argparse.Namespace, results: Results) -> None:
    """All of one store in one turn, on a server of its own, from small to large."""
    missing = [plan for plan in plans(store, wanted.one_by_one, wanted.sizes, turn) if not results.has(plan)]
    # Once: it is the longest part, and its minutes are its turns.
    to_hold = wanted.open and turn == 0 and not results.has_held(store, wanted.open, turn)
    if not missing and not to_hold:
        return
    print(f"  {STORES[store]}, turn {turn + 1} ...", flush=True)
    with servers.folder(wanted.folder) as place:
        async with served(store, place) as there, bench(there, place) as made:
            for plan in missing:
                ran = await run(made, plan)
                results.runs.append(ran)
                write(results, wanted.results)
                print(
                    f"  {plan}: {ran.seconds:.1f} s, {ran.workflows_per_second:.1f}/s, "
                    f"{1000 * ran.cpu_per_workflow():.0f} ms CPU per workflow",
                    flush=True,
                )
            if to_hold:
                held = await hold(made, store, wanted.open, wanted.minutes, turn)
                results.held.append(held)
                write(results, wanted.results)
                print(f"  {_sentence(held)}", flush=True)


def _sentence(held: Held) -> str:
    return (
        f"{STORES[held.store]}, {held.workflows:,} open for {held.minutes:g} minutes, turn {held.turn + 1}: "
        f"{1000 * held.cpu_per_minute():.1f} ms CPU per workflow and minute"
    )


def show(results: Results, path: Path) -> int:
    """Makes the tables of what was measured, and prints them."""
    write(results, path)
    return output.show(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything could be measured."""
    wanted = options(arguments)
    return measured("bench-temporal", wanted, measure, lambda: show(load(wanted.results), wanted.results))


if __name__ == "__main__":
    raise SystemExit(main())
