"""What is still there when nothing should be: in the cluster, in Temporal, in the store, and late writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import obstore
from obstore.store import ObjectStore, S3Store

from perdure_api.names import run_uri
from perdure_api.uri import parse_uri
from tests.chaos.witness import trainer_processes
from tests.cluster.conftest import Kubectl

TEMPORAL: Final = "perdure-temporal-0"
_ATTEMPT: Final = re.compile(r"attempts/(\d+)/(.+)")
_COMMIT: Final = re.compile(r"checkpoints/[^/]+/manifest\.json")
_TO_GO_ON: Final = re.compile(r"attempts/\d+/checkpoints/|tokens/")
_BY_WORKERS: Final = frozenset({"stacks.txt"})
"""Of an attempt that hung, written when it has ended."""
_CLOCK: Final = timedelta(seconds=2)
"""A store's times are whole seconds, of different clocks."""


@dataclass(frozen=True)
class Written:
    """An object in the folder of a run."""

    path: str
    """Below that folder."""
    at: datetime
    """When it was last written."""


def bucket_store(uri: str) -> ObjectStore:
    """The store of a URI's bucket, from the environment."""
    return S3Store(parse_uri(uri).bucket, client_options={"allow_http": True})


def written(store: ObjectStore, output_uri: str, uid: str) -> list[Written]:
    """All that is in the folder of a run."""
    folder = f"{parse_uri(run_uri(output_uri, uid)).path.strip('/')}/"
    metas = [meta for chunk in obstore.list(store, prefix=folder) for meta in chunk]
    return [Written(meta["path"].removeprefix(folder), meta["last_modified"]) for meta in metas]


def late_writes(objects: Iterable[Written], parted: Collection[int]) -> list[str]:
    """What attempts wrote when a newer one had already committed: only one whose node was lost may.

    Args:
        objects: Of one run.
        parted: Attempts whose nodes were lost, or seemed so.
    """
    by_attempt: dict[int, list[tuple[str, datetime]]] = {}
    for each in objects:
        if match := _ATTEMPT.fullmatch(each.path):
            by_attempt.setdefault(int(match[1]), []).append((match[2], each.at))
    commits = {
        number: min(at for path, at in files if _COMMIT.fullmatch(path))
        for number, files in by_attempt.items()
        if any(_COMMIT.fullmatch(path) for path, _ in files)
    }
    problems = []
    for number, files in sorted(by_attempt.items()):
        newer = {each: at for each, at in commits.items() if each > number}
        if not newer or number in parted:
            continue
        by, first = min(newer.items(), key=lambda item: item[1])
        problems += [
            f"attempt {number} wrote {path} {(at - first).total_seconds():.0f} s after attempt {by} had committed"
            for path, at in files
            if path not in _BY_WORKERS and at > first + _CLOCK
        ]
    return problems


def rests(objects: Iterable[Written]) -> list[str]:
    """What serves only to go on from, in the folder of a run whose checkpoints were to be deleted."""
    return [each.path for each in objects if _TO_GO_ON.match(each.path)]


def left_behind(
    system: Kubectl, jobs: Kubectl, is_ours: Callable[[str], bool], store: ObjectStore, runs: Mapping[str, str]
) -> list[str]:
    """What is still there of a run whose TrainingJobs were deleted.

    Args:
        system: Where Perdure is installed.
        jobs: Where the TrainingJobs were.
        is_ours: Whether a uid is that of one of them.
        store: Of all their outputs.
        runs: Output URIs by the uids of those whose checkpoints were to go with them.
    """
    found = jobs.run("get", "trainingjobs,jobs,pods,services", "-o", "name")
    objects = found.stdout.split() if found.returncode == 0 else [f"not to be seen: {found.stderr.strip()}"]
    processes = [f"process {each.pid} of {each.name}" for each in trainer_processes() if is_ours(each.attempt.uid)]
    return [*objects, *processes, *_workflows(system, jobs.namespace), *_stored(store, runs)]


def _workflows(system: Kubectl, namespace: str) -> Sequence[str]:
    command = ["temporal", "workflow", "count", "--address", "127.0.0.1:7233", "-o", "json"]
    counted = system.run("exec", TEMPORAL, "--", *command, "--query", open_workflows(namespace))
    if counted.returncode != 0:
        return [f"workflows cannot be counted: {counted.stderr.strip()}"]
    return workflows_left(counted.stdout)


def open_workflows(namespace: str) -> str:
    """Temporal's query for the workflows of all TrainingJobs of a namespace that have not ended."""
    return f"ExecutionStatus='Running' AND WorkflowId STARTS_WITH 'trainingjob/{namespace}/'"


def workflows_left(counted: str) -> list[str]:
    """What `temporal workflow count -o json` amounts to."""
    count = int(json.loads(counted).get("count") or 0)
    return [f"{count} open workflows"] if count else []


def _stored(store: ObjectStore, runs: Mapping[str, str]) -> list[str]:
    left = []
    for uid, output_uri in runs.items():
        try:
            left += [f"{run_uri(output_uri, uid)}/{path}" for path in rests(written(store, output_uri, uid))]
        except Exception as error:  # noqa: BLE001 - a store that is away is asked again
            left.append(f"{run_uri(output_uri, uid)} cannot be listed: {error}")
    return left
