"""What a TrainingJob costs beside a plain Job: `make bench-control-plane`, or `python -m bench.control_plane --help`.

On the development cluster with Perdure installed, on KWOK's nodes: pods that are not there cost nothing, so all that is
left is the control plane. Plain Jobs and TrainingJobs in turn, in one run, so that whatever else happens on the machine
happens to both.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.cluster import output, temporal
from bench.cluster.installation import CONTROL_PLANE, OURS
from bench.cluster.plot import Bar, drawn
from bench.cluster.session import BUILD, measured, session
from bench.cluster.sizes import sizes
from bench.cluster.workload import KINDS
from bench.control_plane.report import conditions, tables
from bench.control_plane.results import Plan, Results, load
from bench.control_plane.run import run

RESULTS: Final = BUILD / "control-plane/results.json"
SIZES: Final = (100, 300, 1000)
ONE_BY_ONE: Final = 20
IDLE_SECONDS: Final = 15.0


def plans(one_by_one: int, sizes: Sequence[int], times: int) -> Iterator[Plan]:
    """Every run in its order: small ones first, kinds in turn, who goes first changing with each turn."""
    for turn in range(times):
        kinds = KINDS if turn % 2 == 0 else KINDS[::-1]
        for jobs, at_once in ((one_by_one, False), *((size, True) for size in sizes)):
            for kind in kinds:
                if jobs:
                    yield Plan(kind, jobs, at_once, turn)


def picture(results: Results) -> bytes:
    """CPU per job by process, for each load and kind."""
    bars = []
    for name in results.loads:
        for kind in KINDS:
            runs = results.of(name, kind)
            if runs:
                parts = {
                    who: sum(1000 * each.cpu_seconds[who] / len(each.jobs) for each in runs) / len(runs)
                    for who in (*CONTROL_PLANE, *OURS)
                }
                speed = sum(each.jobs_per_second for each in runs) / len(runs)
                bars.append(Bar(f"{name}: {kind}", parts, f"{sum(parts.values()):.0f} ms, {speed:.1f}/s"))
    return drawn("CPU milliseconds per job, by process; jobs per second", bars)


def write(results: Results, path: Path) -> None:
    """Raw results, the tables and the picture, side by side."""
    results.save(path)
    output.beside(path, output.text(conditions(results), tables(results)), picture(results) if results.runs else None)


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="bench-control-plane", description=__doc__)
    parser.add_argument("--sizes", type=sizes, default=SIZES, help="jobs at once (100,300,1000)")
    parser.add_argument("--one-by-one", type=int, default=ONE_BY_ONE, help="jobs one after another (%(default)s)")
    parser.add_argument("--times", type=int, default=3, help="turns: how often everything is measured (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="20 one by one, 100 at once, one turn: two minutes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a file for what was measured (%(default)s)")
    parser.add_argument("--go-on", action="store_true", help="keep what the file has, and measure what is missing")
    parser.add_argument("--show", action="store_true", help="measure nothing: show what the file has")
    found = parser.parse_args(arguments)
    if found.quick:
        found.sizes, found.one_by_one, found.times = (100,), ONE_BY_ONE, 1
    if found.times < 1 or found.one_by_one < 0:
        parser.error("--times must be at least 1, and --one-by-one at least 0")
    return found


async def measure(wanted: argparse.Namespace) -> int:
    """Makes what is wanted; keeps each run as soon as it is made."""
    async with session() as installation:
        facts = await installation.conditions() | {"idle": await installation.idle(IDLE_SECONDS)}
        results = load(wanted.results) if wanted.go_on else Results(facts)
        output.require_same(results.conditions, facts, wanted.results)
        client = await temporal.connect(installation)
        for plan in plans(wanted.one_by_one, wanted.sizes, wanted.times):
            if results.has(plan):
                continue
            print(f"  {plan} ...", flush=True)
            made = await run(installation, plan, client)
            results.runs.append(made)
            write(results, wanted.results)
            print(
                f"  {plan}: {made.seconds:.1f} s, {made.jobs_per_second:.1f}/s, "
                f"{1000 * made.cpu_seconds_per_job:.0f} ms CPU and {made.writes_per_job:.1f} writes per job",
                flush=True,
            )
    return show(results, wanted.results)


def show(results: Results, path: Path) -> int:
    """Makes the tables of what was measured, and prints them."""
    write(results, path)
    return output.show(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything could be measured."""
    wanted = options(arguments)
    return measured("bench-control-plane", wanted, measure, lambda: show(load(wanted.results), wanted.results))


if __name__ == "__main__":
    raise SystemExit(main())
