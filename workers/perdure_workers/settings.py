"""What a worker is told by its environment."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from temporalio.common import WorkerDeploymentVersion

from perdure_api import names
from perdure_control.credentials import IN_THE_CLEAR, CredentialFiles
from perdure_control.settings import ANY_PORT, Environment, SettingsError, is_count

MAX_SLOTS: Final = 10_000
_WATCH_SLOTS: Final = range(1, MAX_SLOTS + 1)
"""Of monitors, which do almost nothing."""
_SECONDS_BETWEEN_REPORTS: Final = range(1, 3601)
_GRACE_SECONDS: Final = range(86_401)
_MODELS_KEPT: Final = range(1, 101)
_BUILD: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
"""What a label's value may be: the build is one."""


class Pool(StrEnum):
    """Which task queues a worker serves."""

    CPU = "cpu"
    """Workflows, light activities, and monitors."""
    GPU = "gpu"
    """Activities that ask models, and nothing else."""


@dataclass(frozen=True)
class _Slots:
    default: int
    most: int
    why: str


_SLOTS: Final = {
    Pool.CPU: _Slots(20, 500, "10 to 50 are sensible: workflow tasks and light activities share one process"),
    Pool.GPU: _Slots(1, 4, "each takes memory of the GPU, and one already keeps it busy"),
}


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of one worker process."""

    pool: Pool = Pool.CPU
    temporal_address: str = "localhost:7233"
    temporal_namespace: str = "default"
    temporal_credentials: CredentialFiles = IN_THE_CLEAR
    log_level: str = "info"
    http_port: int = 8080
    """Health and metrics."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces whose TrainingJobs are served; empty: all."""
    pod_name: str = field(default_factory=socket.gethostname)
    namespace: str = ""
    """The pod's own."""
    publish_slots: bool = False
    """Whether the pod's annotations say how many slots are in use."""
    slots: int = 20
    """Workflow tasks, and activities, at a time."""
    watch_slots: int = 2000
    """Attempts that this process watches at most."""
    trainer_image: str = ""
    trainer_image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    progress_url: str | None = None
    progress_port: int = 8443
    progress_tls_folder: Path | None = None
    progress_interval_seconds: float = 5.0
    store_env: Mapping[str, str] = field(default_factory=dict)
    store_secret: str | None = None
    training_egress: tuple[Mapping[str, Any], ...] | None = None
    """What training pods may reach beside each other, as rules of a NetworkPolicy; None: whatever the cluster lets."""
    models_kept: int = 4
    """Models that stay loaded; the one that was asked least recently goes first."""
    models_loaded_first: tuple[str, ...] = ()
    """Sentence encoders and language models that are loaded before the worker is ready."""
    models_folder: Path = Path(tempfile.gettempdir()) / "perdure"
    """Where models are downloaded to, and what they are computed with may write."""
    grace_seconds: float = 45.0
    """Time for running activities to end after SIGTERM."""
    version: WorkerDeploymentVersion | None = None
    """Workflows that begin here stay with workers of this version; None: any worker takes any workflow."""

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, pool: Pool = Pool.CPU, slots: str | None = None
    ) -> WorkerSettings:
        """The settings that PERDURE_* variables give.

        Args:
            environment: With these variables.
            pool: Which the worker belongs to.
            slots: How many it has, as somebody wrote it; None: PERDURE_WORKER_SLOTS says, or nobody.

        Raises:
            SettingsError: a variable holds something else than expected.
        """
        read = Environment(environment, "worker")
        folder = read.text("PERDURE_PROGRESS_TLS_DIR")
        return cls(
            pool=pool,
            temporal_address=read.text("PERDURE_TEMPORAL_ADDRESS", cls.temporal_address),
            temporal_namespace=read.text("PERDURE_TEMPORAL_NAMESPACE", cls.temporal_namespace),
            temporal_credentials=read.temporal_credentials(),
            log_level=read.log_level(),
            http_port=read.whole_number("PERDURE_HTTP_PORT", cls.http_port, ANY_PORT),
            watch_namespaces=read.names("PERDURE_WATCH_NAMESPACES"),
            pod_name=read.text("PERDURE_POD_NAME", socket.gethostname()),
            namespace=read.text("PERDURE_NAMESPACE"),
            publish_slots=_publishes_slots(read),
            slots=_slots(pool, slots, read),
            watch_slots=read.whole_number("PERDURE_WATCH_SLOTS", cls.watch_slots, _WATCH_SLOTS),
            trainer_image=read.text("PERDURE_TRAINER_IMAGE"),
            trainer_image_pull_policy=read.text("PERDURE_TRAINER_IMAGE_PULL_POLICY", cls.trainer_image_pull_policy),
            image_pull_secrets=read.names("PERDURE_IMAGE_PULL_SECRETS"),
            progress_url=read.text("PERDURE_PROGRESS_URL") or None,
            progress_port=read.whole_number("PERDURE_PROGRESS_PORT", cls.progress_port, ANY_PORT),
            progress_tls_folder=Path(folder) if folder else None,
            progress_interval_seconds=float(
                read.whole_number(
                    "PERDURE_PROGRESS_INTERVAL_SECONDS", int(cls.progress_interval_seconds), _SECONDS_BETWEEN_REPORTS
                )
            ),
            store_env=_store_env(read),
            training_egress=_training_egress(read),
            store_secret=read.text("PERDURE_STORE_SECRET") or None,
            models_kept=read.whole_number("PERDURE_MODELS_KEPT", cls.models_kept, _MODELS_KEPT),
            models_loaded_first=read.names("PERDURE_MODELS_LOADED_FIRST"),
            models_folder=Path(read.text("PERDURE_MODELS_DIR", str(cls.models_folder))),
            grace_seconds=float(read.whole_number("PERDURE_GRACE_SECONDS", int(cls.grace_seconds), _GRACE_SECONDS)),
            version=_version(read.text("PERDURE_WORKER_BUILD")),
        )


def _publishes_slots(read: Environment) -> bool:
    name = "PERDURE_PUBLISH_SLOTS"
    publishes = read.choice(name, "false", ("true", "false")) == "true"
    if publishes and not read.text("PERDURE_NAMESPACE"):
        raise SettingsError(
            f"{name} is true and PERDURE_NAMESPACE is not set, expected the pod's own namespace; set it, or leave "
            f"{name} out"
        )
    return publishes


def _store_env(read: Environment) -> Mapping[str, str]:
    name, expected = "PERDURE_STORE_ENV", "a JSON object whose values are texts"
    if not read.text(name):
        return {}
    found = read.document(name, expected)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise SettingsError(f"{name} is {read.text(name)}, expected {expected}; correct it")
    return found


def _training_egress(read: Environment) -> tuple[Mapping[str, Any], ...] | None:
    name, expected = "PERDURE_TRAINING_EGRESS", "a JSON list of egress rules, as a NetworkPolicy has them"
    if not read.text(name):
        return None
    found = read.document(name, expected)
    if not isinstance(found, list) or not all(isinstance(rule, dict) for rule in found):
        raise SettingsError(f"{name} is {read.text(name)}, expected {expected}; correct it")
    return tuple(found)


def _slots(pool: Pool, given: str | None, read: Environment) -> int:
    name = "PERDURE_WORKER_SLOTS"
    slots = _SLOTS[pool]
    told_by, found = ("--slots", given) if given else (name, read.text(name, str(slots.default)))
    if not is_count(found) or not 1 <= int(found) <= slots.most:
        raise SettingsError(
            f'{told_by} is "{found}", expected a whole number from 1 to {slots.most} for the {pool} pool ({slots.why})'
            f"; set it to one"
        )
    return int(found)


def _version(build: str) -> WorkerDeploymentVersion | None:
    if build and not _BUILD.fullmatch(build):
        raise SettingsError(
            f'PERDURE_WORKER_BUILD is "{build}", expected at most 63 letters, digits, "-", "_" and ".", such as '
            f"0.1.0-1a2b3c4d; set such a text, or none for workers without versions"
        )
    return WorkerDeploymentVersion(names.WORKER_DEPLOYMENT, build) if build else None
