"""Jobs of all kinds under faults of all kinds: `make chaos`, or `python -m tests.chaos --help`.

Faults and jobs come from one seed. Whether any job was lost, ran twice at once, left something or went as it should
not have is found by witnesses of their own: kubectl's watch, the processes of this machine, the store's lists, and
Temporal's count.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from perdure_data.stores import Stores
from perdure_devcluster.cluster import Cluster, load_settings
from perdure_devcluster.paths import paths_from_environment
from tests.chaos import remains, report
from tests.chaos.faults import QUICK, Faults, Scene
from tests.chaos.gather import evidence_of, gather, touched
from tests.chaos.kinds import KINDS, Inputs
from tests.chaos.lasting import LASTING
from tests.chaos.nodes import Nodes
from tests.chaos.objects import Objects
from tests.chaos.plan import FaultPlan, plan_faults, plan_jobs
from tests.chaos.storm import Storm, wait
from tests.chaos.tally import Tally
from tests.chaos.verdict import Verdict, judge
from tests.chaos.witness import Attempt, Processes, scanning
from tests.cluster.commands import devcluster
from tests.cluster.conftest import (
    SYSTEM,
    Kubectl,
    installed_store,
    kubeconfig_of_the_cluster,
    loaded_base_image,
    put_tiny_inputs,
    store_credentials,
    working_namespace,
)
from tests.cluster.watches import watching

FAULTS_A_MINUTE: Final = 20 / 3
"""As many are too few: 200 in half an hour."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what happens, the table and the verdict; 0 when nothing was lost, doubled, left or wrong."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", default="1", help="of jobs and faults (%(default)s)")
    parser.add_argument("--minutes", type=float, default=30, help="how long faults are made (%(default)s)")
    parser.add_argument("--jobs", type=int, default=220, help="how many (%(default)s)")
    parser.add_argument("--at-once", type=int, default=12, help="how many of them at the same time (%(default)s)")
    parser.add_argument("--least-faults", type=int, help="fewer are no proof (200 in half an hour)")
    options = parser.parse_args(arguments)
    least = round(FAULTS_A_MINUTE * options.minutes) if options.least_faults is None else options.least_faults
    system = Kubectl(kubeconfig_of_the_cluster(), SYSTEM)
    credentials = store_credentials(system)
    with ExitStack() as stack:
        stores = stack.enter_context(installed_store(system, credentials))
        folder = stack.enter_context(TemporaryDirectory(prefix="chaos-"))
        jobs = stack.enter_context(working_namespace(system, f"chaos-{os.getpid()}", credentials))
        inputs = Inputs(loaded_base_image(), put_tiny_inputs(stores, Path(folder)))
        verdict, faults = _run(options, system, jobs, stores, inputs)
    for line in report.last_lines(options.seed, verdict, faults, least):
        sys.stdout.write(f"{line}\n")
    return report.exit_status(verdict, faults, least)


def _run(
    options: argparse.Namespace, system: Kubectl, jobs: Kubectl, stores: Stores, inputs: Inputs
) -> tuple[Verdict, int]:
    tally, objects, nodes, paths = Tally(), Objects(), Nodes(), paths_from_environment(os.environ)
    scene = Scene(system, jobs, Cluster(paths, load_settings(paths)), stores, inputs.image, objects, tally)
    storm = Storm(scene, inputs)
    processes = Processes(storm.is_ours)
    output_uri = str(inputs.tiny["output"]["uri"])
    with (
        watching(jobs, "trainingjobs", objects.take),
        watching(system, "nodes", nodes.take),
        scanning(processes),
    ):
        tally.say("runs that nothing happens to ...")
        adapters = storm.undisturbed()
        _blow(options, storm, tally, adapters)
        devcluster("up")
        tally.say("all is mended; waiting for the rest")
        wait(lambda: not storm.unfinished)
        tally.node_spells += nodes.spells
        found = gather(scene, storm, processes, remains.bucket_store(output_uri), output_uri)
    evidence = evidence_of(options.jobs, scene, storm, processes, found)
    lines = [
        "",
        *report.jobs_table(storm.deserved, objects.sights, objects.gone, touched(scene)),
        "",
        *report.faults_table([*QUICK, *LASTING], tally.faults),
        "",
        *report.recoveries(_recoveries(tally, processes)),
        f"processes were looked at {processes.scans} times, at most {processes.longest_gap_seconds:.1f} s apart"
        + (f"; the last look that failed: {processes.last_error}" if processes.last_error else ""),
        f"Kubernetes gave up a node {len(nodes.spells)} times",
        f"the watch of TrainingJobs showed something older {objects.stale} times",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return judge(evidence), tally.faults.total()


def _blow(options: argparse.Namespace, storm: Storm, tally: Tally, adapters: Mapping[str, str]) -> None:
    seconds = 60 * options.minutes
    lanes = [
        (plan_faults(f"{options.seed} quick", seconds, _plans(QUICK), (2, 12)), QUICK),
        (plan_faults(f"{options.seed} lasting", seconds, _plans(LASTING), (4, 15)), LASTING),
    ]
    wishes = plan_jobs(options.seed, options.jobs, {name: kind.weight for name, kind in KINDS.items()})
    tally.begun = time.monotonic()
    with storm.faults(*lanes):
        storm.ask(wishes, options.at_once, seconds * 0.9, adapters)
        wait(lambda: not storm.unfinished, tally.begun + seconds - time.monotonic())


def _plans(faults: Faults) -> dict[str, FaultPlan]:
    return {name: plan for name, (_, plan) in faults.items()}


def _recoveries(tally: Tally, processes: Processes) -> Iterator[float]:
    for attempt, at in tally.kills.items():
        again = processes.first_seen.get(Attempt(attempt.uid, attempt.number + 1))
        if again is not None:
            yield again - at


if __name__ == "__main__":
    raise SystemExit(main())
