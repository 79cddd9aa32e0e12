"""The pool that is sized: how the chart is installed for it, and what it looks like from outside."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from temporalio.client import Client

from bench.cluster.api import Api, Document
from bench.cluster.errors import BenchError
from bench.cluster.installation import ROOT, SYSTEM
from bench.pools.load import MODEL
from bench.pools.results import Sample
from perdure_api import names
from perdure_api.slots import read_slots
from perdure_control.backlog import ACTIVITY, read_backlog

DEPLOYMENT: Final = "perdure-gpu-worker"
_EXTERNAL: Final = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{SYSTEM}"
DEMAND: Final = f"{_EXTERNAL}/perdure_task_queue_demand?labelSelector=queue%3D{names.TASK_QUEUE_GPU}"
"""What our autoscaler asks."""
_ANSWER: Final = timedelta(seconds=5)
_CALM_SAMPLES: Final = 5
"""So many looks, a second apart, show an idle pool."""
_CALM_SECONDS: Final = 180.0


@dataclass(frozen=True)
class Sizes:
    """Between which the pool is sized."""

    least: int
    most: int
    scale_down_seconds: int

    @property
    def values(self) -> list[str]:
        """The chart's, for a pool on CPUs that Perdure's own scaler sizes."""
        autoscaling = {
            "enabled": True,
            "minReplicas": self.least,
            "maxReplicas": self.most,
            "scaleDownSeconds": self.scale_down_seconds,
        }
        return [*pool_values(), _set("autoscaling", autoscaling)]


def pool_values() -> list[str]:
    """The chart's, for a pool on CPUs with its model loaded, which says how many slots are in use."""
    return [
        "--set=scaler.enabled=true",
        _set("enabled", True),
        _set("gpus", 0),
        _set("resources.requests", {"cpu": "100m", "memory": "1Gi"}),
        _set("modelsLoadedFirst", [MODEL]),
    ]


def _set(name: str, value: object) -> str:
    return f"--set-json=gpuWorker.{name}={json.dumps(value)}"


@asynccontextmanager
async def as_it_was() -> AsyncIterator[None]:
    """The chart as `make install` has it, afterwards, also where installing something else was interrupted."""
    try:
        yield
    finally:
        await install()


async def install(*values: str) -> None:
    """The chart with other values.

    Raises:
        BenchError: it could not be installed.
    """
    # When this is cancelled the script goes on in its thread; the next one waits for its end (build/chart.lock).
    if await asyncio.to_thread(_chart, values):
        raise BenchError("the chart could not be installed; what it said stands above; make install puts it right")


def _chart(values: Sequence[str]) -> int:
    return subprocess.run([ROOT / "scripts/chart", *values], check=False).returncode


class Pool:
    """The installed pool, looked at from outside."""

    def __init__(self, api: Api, client: Client, metric: str = DEMAND) -> None:
        """Looks at nothing yet.

        Args:
            api: The API server.
            client: Temporal's.
            metric: Path of what the autoscaler asks.
        """
        self._api = api
        self._client = client
        self._metric = metric
        self.stops: dict[str, float] = {}
        """When pods were told to stop, in seconds since the epoch, by name."""

    async def look(self) -> Sample:
        """Everything now, the moment in seconds since the epoch."""
        moment = time.time()
        deployment, pods, told, backlog = await asyncio.gather(
            self._api.get(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/{DEPLOYMENT}"),
            self._api.items(f"/api/v1/namespaces/{SYSTEM}/pods", _OF_THE_POOL),
            self._told(),
            read_backlog(self._client, self._client.namespace, names.TASK_QUEUE_GPU, ACTIVITY, _ANSWER),
        )
        for pod in pods:
            if (stopped := told_to_stop(pod)) is not None:
                self.stops.setdefault(pod["metadata"]["name"], stopped)
        return Sample(
            seconds=moment,
            backlog=backlog.count,
            told=told,
            wanted=int(deployment["spec"]["replicas"]),
            ready=int(deployment["status"].get("readyReplicas", 0)),
            busy=sum(map(busy_slots, pods)),
        )

    async def _told(self) -> float | None:
        try:
            found = await self._api.find(self._metric)
        except BenchError:
            return None
        return sum(quantity(item["value"]) for item in found["items"]) if found else None

    async def until_calm(self, least: int) -> None:
        """Waits until nothing is to be done, and as few workers are ready as there shall be then.

        Raises:
            BenchError: that does not come.
        """
        calm, deadline = 0, time.monotonic() + _CALM_SECONDS
        while calm < _CALM_SAMPLES:
            sample = await self.look()
            calm = calm + 1 if _is_calm(sample, least) else 0
            if time.monotonic() > deadline:
                raise BenchError(
                    f"found {sample.wanted} replicas wanted, {sample.ready} ready, {sample.backlog} tasks and "
                    f"{sample.told} told to the autoscaler after {_CALM_SECONDS:.0f} s, expected {least}, {least}, 0 "
                    "and 0: an idle pool; does something else use it?"
                )
            await asyncio.sleep(1)
        self.stops.clear()


_OF_THE_POOL: Final = {"labelSelector": "app.kubernetes.io/component=gpu-worker"}


def _is_calm(sample: Sample, least: int) -> bool:
    return (sample.wanted, sample.ready, sample.backlog, sample.busy, sample.told) == (least, least, 0, 0, 0)


def busy_slots(pod: Document) -> int:
    """What a pod says of its slots of the queue; 0 where nothing of it runs."""
    text = pod["metadata"].get("annotations", {}).get(names.ANNOTATION_SLOTS_USED)
    running = any("running" in each["state"] for each in pod["status"].get("containerStatuses", []))
    return read_slots(text).get(names.TASK_QUEUE_GPU, 0) if text and running else 0


def told_to_stop(pod: Document) -> float | None:
    """When a pod was told to stop, in seconds since the epoch: by the API server, which writes whole seconds."""
    metadata = pod["metadata"]
    if "deletionTimestamp" not in metadata:
        return None
    last = datetime.fromisoformat(metadata["deletionTimestamp"]).timestamp()
    return last - float(metadata.get("deletionGracePeriodSeconds", 0))


def quantity(text: str) -> float:
    """A number as Kubernetes writes it: `12`, `1500m`, `2k`."""
    for suffix, times in _SUFFIXES.items():
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * times
    return float(text)


_SUFFIXES: Final = {"m": 0.001, "k": 1e3, "M": 1e6}
