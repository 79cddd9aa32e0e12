"""What this process may use of its machine, and where it may write."""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")


def usable_cpus(cgroups: Path = _CGROUPS) -> int:
    """CPUs that this process can really use: what it is bound to, limited by the container's quota.

    More threads than that only fight for the same quota: the kernel then stops all of them for the rest of each
    100 ms period.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return bound if quota is None else max(1, min(bound, math.ceil(quota)))


def _quota(cgroups: Path) -> float | None:
    """The quota in CPUs; None when there is none. A container sees its own cgroup as the root."""
    try:
        limit, period = (cgroups / "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:
            limit = (cgroups / "cpu/cpu.cfs_quota_us").read_text().strip()  # version 1
            period = (cgroups / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if limit in {"max", "-1"}:
        return None
    return int(limit) / int(period)


def prepare_environment(environment: MutableMapping[str, str], scratch: Path) -> None:
    """Makes the libraries that are imported later stay offline, in scratch, and within the CPU quota.

    The root file system may be read-only, the user id unknown to /etc/passwd, and HOME unset.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    environment["HF_HUB_OFFLINE"] = "1"
    environment["HF_HOME"] = str(scratch / "huggingface")
    environment["TMPDIR"] = str(scratch)
    environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    environment["TQDM_DISABLE"] = "1"
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(scratch / "inductor")
    environment.setdefault("HOME", str(scratch))
    environment.setdefault("USER", "perdure")
    threads = str(usable_cpus())
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        environment.setdefault(name, threads)
    # Idle threads that spin take the CPU from the ones they wait for, whenever anybody else works on the machine:
    # measured with four other busy processes on two CPUs, a step takes 1.7 s instead of 3.3 s.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("TOKENIZERS_PARALLELISM", "true")
