"""The development cluster and the Perdure in it: which processes are whose, and what all of it is called."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.cluster import requests, usage
from bench.cluster.api import Api, Document, connected
from bench.cluster.errors import BenchError
from bench.cluster.usage import Process, Usage
from perdure_devcluster import controlplane
from perdure_devcluster.cluster import Cluster, load_settings
from perdure_devcluster.node import DAEMONS
from perdure_devcluster.paths import paths_from_environment

ROOT: Final = Path(__file__).resolve().parents[2]
SYSTEM: Final = "perdure-system"
OTHERS: Final = "others"
"""What runs beside and has no part in a job: DNS, volumes, registry, kubelets, containerd, object store, scaler."""
CONTROL_PLANE: Final = ("kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler", controlplane.KWOK)
OURS: Final = ("temporal", "operator", "worker")
_PARTS: Final = "app.kubernetes.io/part-of=perdure"
_COMPONENT: Final = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Reading:
    """Everything that counts up, at one moment."""

    usage: Mapping[str, Usage]
    """By process, those of one component together."""
    requests: Counter[requests.Request]


@dataclass
class Installation:
    """A cluster that is up, with Perdure installed."""

    api: Api
    cluster: Cluster
    processes: dict[str, list[Process]]

    async def find_processes(self) -> None:
        """Looks who runs now: after pods were replaced these are others.

        Raises:
            BenchError: a part of it does not run.
        """
        everything = await self.api.items(f"/api/v1/namespaces/{SYSTEM}/pods", {"labelSelector": _PARTS})
        pods = [pod for pod in everything if _runs(pod)]
        components = {pod["metadata"]["uid"]: pod["metadata"]["labels"].get(_COMPONENT, OTHERS) for pod in pods}
        named = {uid: component if component in OURS else OTHERS for uid, component in components.items()}
        found: dict[str, list[Process]] = {name: [] for name in (*CONTROL_PLANE, *OURS, OTHERS)}
        for name, theirs in usage.in_pods(named).items():
            found[name] += theirs
        for name in (*controlplane.COMPONENTS, controlplane.KWOK):
            identity = self.cluster.daemons.running(name)
            if identity and (there := usage.process(identity.pid)):
                found[name if name in CONTROL_PLANE else OTHERS].append(there)
        for node in self.cluster.node_plans:
            for name in DAEMONS:
                daemon = self.cluster.nodes.daemon(node, name)
                if daemon and (there := usage.process(daemon.pid)):
                    found[OTHERS].append(there)
        if missing := [name for name in (*CONTROL_PLANE, *OURS) if not found[name]]:
            raise BenchError(
                f"found no process of {', '.join(missing)}, expected each of {', '.join((*CONTROL_PLANE, *OURS))} to "
                "run; run: make install"
            )
        self.processes = found

    def usage(self) -> dict[str, Usage]:
        """CPU time since their start, and memory.

        Raises:
            BenchError: one of them has ended since it was found.
        """
        read = {}
        for name, processes in self.processes.items():
            try:
                read[name] = usage.of(processes)
            except ProcessLookupError as error:
                raise BenchError(f"{name} was started again while it was measured ({error}); measure again") from error
        return read

    async def began(self) -> Reading:
        """Everything, at the beginning of what is measured: the long page of metrics is read before CPU times are."""
        asked = requests.counted(await self.api.text("/metrics"))
        return Reading(self.usage(), asked)

    async def ended(self) -> Reading:
        """Everything, at the end: CPU times are read before the long page of metrics costs some."""
        used = self.usage()
        return Reading(used, requests.counted(await self.api.text("/metrics")))

    async def environment_of_worker(self) -> dict[str, str]:
        """Plain environment variables of the workers' container."""
        (container,) = (await self.worker_deployment())["spec"]["template"]["spec"]["containers"]
        return {each["name"]: each["value"] for each in container["env"] if "value" in each}

    async def worker_deployment(self) -> Document:
        """The workers'.

        Raises:
            BenchError: there is none.
        """
        found = await self.api.find(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/perdure-worker")
        if found is None:
            raise BenchError(f"found no Perdure in namespace {SYSTEM}, expected one; run: make install")
        return found

    async def pods_of(self, component: str) -> list[Document]:
        """Running pods of a component, without those that are being deleted."""
        selector = f"{_PARTS},{_COMPONENT}={component}"
        pods = await self.api.items(f"/api/v1/namespaces/{SYSTEM}/pods", {"labelSelector": selector})
        return [pod for pod in pods if _runs(pod)]

    async def idle(self, seconds: float) -> dict[str, Any]:
        """What all of it uses while nothing is asked: CPU seconds by process, and requests by kind, per second."""
        before = await self.began()
        await asyncio.sleep(seconds)
        after = await self.ended()
        asked = requests.between(before.requests, after.requests)
        return {
            "cpu": {
                who: round((usage.cpu_seconds - before.usage[who].cpu_seconds) / seconds, 5)
                for who, usage in after.usage.items()
            },
            "requests": {str(kind): round(times / seconds, 3) for kind, times in sorted(asked.items())},
        }

    async def conditions(self) -> dict[str, Any]:
        """What a figure depends on, and who would repeat it must know."""
        version = await self.api.get("/version")
        worker = await self.worker_deployment()
        workers = len(await self.pods_of("worker"))
        return {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "cpu": cpu(),
            "cpus": os.cpu_count(),
            "memory_bytes": usage.PAGE_BYTES * os.sysconf("SC_PHYS_PAGES"),
            "kernel": platform.release(),
            "load_before": round(os.getloadavg()[0], 2),
            "kubernetes": version["gitVersion"],
            "perdure": git_version(),
            "chart": worker["metadata"]["labels"].get("helm.sh/chart", ""),
            "workers": workers,
        }


def _runs(pod: Document) -> bool:
    return pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


@asynccontextmanager
async def installed() -> AsyncIterator[Installation]:
    """The development cluster's.

    Raises:
        BenchError: it is not there, does not answer, or has no Perdure.
    """
    paths = paths_from_environment(os.environ)
    cluster = Cluster(paths, load_settings(paths))
    async with connected(paths.kubeconfig) as api:
        installation = Installation(api, cluster, {})
        await installation.worker_deployment()
        yield installation


@asynccontextmanager
async def installed_with(*values: str) -> AsyncIterator[None]:
    """The chart with other values while the context lasts; afterwards as it was.

    Args:
        values: Arguments of helm; none: nothing is installed anew.

    Raises:
        BenchError: the chart could not be installed.
    """
    if not values:
        yield
        return
    try:
        await asyncio.to_thread(_install, *values)
        yield
    finally:
        await asyncio.to_thread(_install)


def _install(*values: str) -> None:
    if subprocess.run([ROOT / "scripts/chart", *values], check=False).returncode:
        raise BenchError("the chart could not be installed; what it said stands above; make install puts it right")


def git_version() -> str:
    """The commit that is measured, with `-dirty` when files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


def devcluster(*arguments: str) -> None:
    """Runs a command of the development cluster's; it tells its progress itself.

    Raises:
        BenchError: it failed.
    """
    if subprocess.run([ROOT / "devcluster/devcluster", *arguments], check=False).returncode:
        raise BenchError(f"devcluster {' '.join(arguments)} failed; what it said stands above")


def cpu() -> str:
    """What the machine calls its CPUs."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
