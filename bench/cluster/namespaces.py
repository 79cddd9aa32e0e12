"""Namespaces that a benchmark makes, and takes away again: also those of one that was interrupted."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from bench.cluster.api import Api, each
from bench.cluster.errors import BenchError

LABEL: Final = "perdure.dev/benchmark"
"""On every namespace of a benchmark's; its value is the benchmark."""
_NAMESPACES: Final = "/api/v1/namespaces"
_GONE_SECONDS: Final = 1800
"""Five thousand running jobs are cancelled, one after another, before the last of them goes."""


async def clear_leftovers(api: Api) -> list[str]:
    """Deletes what an earlier run has left, of whatever benchmark, and waits until it is gone; returns the names."""
    names = [found["metadata"]["name"] for found in await api.items(_NAMESPACES, {"labelSelector": LABEL})]
    if names:
        print(f"found {', '.join(names)}, left by a run that was cut off; deleting first ...", flush=True)
    for name in names:
        await remove(api, name)
    return names


@asynccontextmanager
async def namespace(api: Api, benchmark: str, purpose: str) -> AsyncIterator[str]:
    """A namespace of its own; gone with everything afterwards, also when the run is interrupted."""
    name = f"bench-{benchmark}-{purpose}-{os.getpid()}".lower()
    await api.create(_NAMESPACES, {"metadata": {"name": name, "labels": {LABEL: benchmark}}})
    try:
        await _has_its_account(api, name)
        yield name
    finally:
        await remove(api, name)


async def remove(api: Api, name: str) -> None:
    """Deletes a namespace, and waits until nothing is left of it.

    TrainingJobs first: the operator lets each go when its workflow has, and what they own goes with them, which costs
    less than one long deletion of the namespace.

    Raises:
        BenchError: it does not go.
    """
    jobs = f"/apis/perdure.dev/v1alpha1/namespaces/{name}/trainingjobs"
    names = [{"path": f"{jobs}/{found['metadata']['name']}"} for found in await api.items(jobs)]
    await each(names, lambda found: api.delete(found["path"]))
    await api.delete(f"{_NAMESPACES}/{name}")
    deadline = time.monotonic() + _GONE_SECONDS
    while await api.find(f"{_NAMESPACES}/{name}"):
        if time.monotonic() > deadline:
            raise BenchError(
                f"namespace {name} is still there {_GONE_SECONDS} s after its deletion; see what holds it: "
                f"devcluster/devcluster kubectl get namespace {name} -o yaml"
            )
        await asyncio.sleep(0.5)


async def _has_its_account(api: Api, name: str) -> None:
    """Until pods can be made in it."""
    deadline = time.monotonic() + 30
    while not await api.find(f"{_NAMESPACES}/{name}/serviceaccounts/default"):
        if time.monotonic() > deadline:
            raise BenchError(f"namespace {name} has no service account after 30 s; do the controllers run?")
        await asyncio.sleep(0.05)
