"""What ten thousand jobs at a time and a thousand starts a minute need: `python -m bench.scale --help`.

By arithmetic from what bench-control-plane and bench-watch have measured, and by a simulation of the lines in front of
each process. Needs no cluster.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import bench.control_plane.results as bursts
import bench.watch.results as running
from bench.cluster.errors import BenchError
from bench.cluster.session import BUILD
from bench.scale.costs import measured
from bench.scale.load import Load
from bench.scale.report import tables


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="bench-scale", description=__doc__)
    parser.add_argument("--running", type=int, default=10_000, help="jobs that run at a time (%(default)s)")
    parser.add_argument("--starts", type=float, default=1000, help="jobs that start in a minute (%(default)s)")
    parser.add_argument("--bursts", type=Path, default=BUILD / "control-plane/results.json", help="(%(default)s)")
    parser.add_argument("--watched", type=Path, default=BUILD / "watch/results.json", help="(%(default)s)")
    found = parser.parse_args(arguments)
    if found.running < 0 or found.starts <= 0:
        parser.error(
            f"found {found.running} running and {found.starts:g} starts, expected none or more, and more than none"
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables."""
    wanted = options(arguments)
    try:
        made = bursts.load(wanted.bursts)
        costs = measured(made, running.load(wanted.watched))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    for title, table in tables(made, costs, Load(wanted.starts, wanted.running)):
        print(f"\n{title}:\n\n{table}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
