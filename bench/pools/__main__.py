"""How a pool grows and shrinks with its work: `make bench-pools`, or `python -m bench.pools --help`.

On the development cluster with Perdure installed: 200 embedding tasks, the last two of them large ones, are dropped on
an idle GPU pool that is autoscaled, on CPUs. Every second is looked at what waits, what the autoscaler is told, how
many workers there shall be and are, and how many are busy; what became of each task is counted in Temporal's histories.
The chart is installed with such a pool, and afterwards as it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from bench.cluster import output, temporal
from bench.cluster.installation import SYSTEM
from bench.cluster.session import BUILD, finished, session
from bench.pools.load import Load, Texts, model_in_store, no_workflows_left
from bench.pools.pool import Pool, Sizes, as_it_was, install
from bench.pools.report import conditions, picture, tables
from bench.pools.results import PERDURE, Results, load
from bench.pools.run import dropped
from tests.cluster.conftest import Kubectl, installed_store, kubeconfig_of_the_cluster, store_credentials

RESULTS: Final = BUILD / "pools/results.json"
LOAD: Final = Load(tasks=200, texts=Texts(8, words=120), large=2, large_texts=Texts(320, words=240))
SIZES: Final = Sizes(least=1, most=3, scale_down_seconds=30)


def write(results: Results, path: Path) -> None:
    """Raw results, the tables and the picture, side by side."""
    results.save(path)
    output.beside(path, output.text(conditions(results), tables(results)), picture(results))


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="bench-pools", description=__doc__)
    parser.add_argument("--encoder", type=Path, help="folder of a sentence encoder (make models has one)")
    parser.add_argument("--tasks", type=int, default=LOAD.tasks, help="that are dropped at once (%(default)s)")
    parser.add_argument("--texts", type=int, default=LOAD.texts.count, help="of each small task (%(default)s)")
    parser.add_argument("--most", type=int, default=SIZES.most, help="workers at the same time (%(default)s)")
    parser.add_argument(
        "--scale-down-seconds", type=int, default=SIZES.scale_down_seconds,
        help="how long fewer workers must have been enough (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="a file for what was measured (%(default)s)")
    parser.add_argument("--show", action="store_true", help="measure nothing: show what the file has")
    found = parser.parse_args(arguments)
    if not found.show and found.encoder is None:
        parser.error("found no --encoder, expected a sentence encoder's folder; make bench-pools names it")
    if found.tasks <= LOAD.large or found.texts < 1 or found.scale_down_seconds < 0:
        parser.error(
            f"found --tasks {found.tasks} --texts {found.texts} --scale-down-seconds {found.scale_down_seconds}, "
            f"expected more than {LOAD.large} tasks (so many are large ones), 1 text or more, and 0 s or more"
        )
    if found.most <= SIZES.least:
        parser.error(f"found --most {found.most}, expected more than {SIZES.least}, or nothing would grow")
    return found


async def measure(wanted: argparse.Namespace) -> int:
    """Drops the tasks; the installation and the store are afterwards as they were."""
    wish = replace(LOAD, tasks=wanted.tasks, texts=replace(LOAD.texts, count=wanted.texts))
    sizes = Sizes(SIZES.least, wanted.most, wanted.scale_down_seconds)
    system = Kubectl(kubeconfig_of_the_cluster(), SYSTEM)
    async with session(nodes=0) as installation:
        client = await temporal.connect(installation)
        facts = {
            **await installation.conditions(),
            "load": asdict(wish), "sizes": asdict(sizes),
        }  # fmt: skip
        results = Results(facts)
        with (
            installed_store(system, store_credentials(system)) as stores,
            model_in_store(stores, wanted.encoder),
        ):
            async with no_workflows_left(client), as_it_was():
                await install(*sizes.values)
                print(f"  {wish.tasks} tasks for an idle pool ...", flush=True)
                pool = Pool(installation.api, client)
                results.drops.append(await dropped(client, pool, wish, PERDURE, sizes.least))
                write(results, wanted.results)
    return show(results, wanted.results)


def show(results: Results, path: Path) -> int:
    """Makes the tables of what was measured, and prints them."""
    write(results, path)
    return output.show(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything could be measured."""
    wanted = options(arguments)

    async def shown() -> int:
        return show(load(wanted.results), wanted.results)

    return finished(shown() if wanted.show else measure(wanted), "Nothing of it was kept: measure again.")


if __name__ == "__main__":
    raise SystemExit(main())
