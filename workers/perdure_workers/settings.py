"""What a worker is told by its environment."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from temporalio.common import WorkerDeploymentVersion

from perdure_api import names
from perdure_control.credentials import IN_THE_CLEAR, CredentialFiles, CredentialsError
from perdure_control.logs import LEVELS

MAX_SLOTS: Final = 10_000
_BUILD: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
"""What a label's value may be: the build is one."""


class SettingsError(Exception):
    """The environment is wrong; the message says which variable, what was found, what was expected."""


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of one worker process."""

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
    """Workflow tasks, and light activities, at a time."""
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
    grace_seconds: float = 45.0
    """Time for running activities to end after SIGTERM."""
    version: WorkerDeploymentVersion | None = None
    """Workflows that begin here stay with workers of this version; None: any worker takes any workflow."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> WorkerSettings:
        """The settings that PERDURE_* variables give.

        Raises:
            SettingsError: a variable holds something else than expected.
        """
        read = _Reader(environment)
        folder = read.text("PERDURE_PROGRESS_TLS_DIR", "")
        return cls(
            temporal_address=read.text("PERDURE_TEMPORAL_ADDRESS", cls.temporal_address),
            temporal_namespace=read.text("PERDURE_TEMPORAL_NAMESPACE", cls.temporal_namespace),
            temporal_credentials=_credentials(environment),
            log_level=read.choice("PERDURE_LOG_LEVEL", cls.log_level, LEVELS),
            http_port=read.integer("PERDURE_HTTP_PORT", cls.http_port, 0, 65535),
            watch_namespaces=read.names("PERDURE_WATCH_NAMESPACES"),
            pod_name=read.text("PERDURE_POD_NAME", socket.gethostname()),
            namespace=read.text("PERDURE_NAMESPACE", ""),
            publish_slots=read.switch("PERDURE_PUBLISH_SLOTS"),
            slots=read.integer("PERDURE_WORKER_SLOTS", cls.slots, 1, MAX_SLOTS),
            watch_slots=read.integer("PERDURE_WATCH_SLOTS", cls.watch_slots, 1, MAX_SLOTS),
            trainer_image=read.text("PERDURE_TRAINER_IMAGE", ""),
            trainer_image_pull_policy=read.text("PERDURE_TRAINER_IMAGE_PULL_POLICY", cls.trainer_image_pull_policy),
            image_pull_secrets=read.names("PERDURE_IMAGE_PULL_SECRETS"),
            progress_url=read.text("PERDURE_PROGRESS_URL", "") or None,
            progress_port=read.integer("PERDURE_PROGRESS_PORT", cls.progress_port, 0, 65535),
            progress_tls_folder=Path(folder) if folder else None,
            progress_interval_seconds=float(
                read.integer("PERDURE_PROGRESS_INTERVAL_SECONDS", int(cls.progress_interval_seconds), 1, 3600)
            ),
            store_env=read.mapping("PERDURE_STORE_ENV"),
            training_egress=read.rules("PERDURE_TRAINING_EGRESS"),
            store_secret=read.text("PERDURE_STORE_SECRET", "") or None,
            grace_seconds=float(read.integer("PERDURE_GRACE_SECONDS", int(cls.grace_seconds), 0, 86_400)),
            version=_version(read.text("PERDURE_WORKER_BUILD", "")),
        )


def _credentials(environment: Mapping[str, str]) -> CredentialFiles:
    try:
        return CredentialFiles.from_environment(environment)
    except CredentialsError as error:
        raise SettingsError(str(error)) from error


def _version(build: str) -> WorkerDeploymentVersion | None:
    if build and not _BUILD.fullmatch(build):
        raise SettingsError(
            f'PERDURE_WORKER_BUILD is "{build}"; expected at most 63 letters, digits, "-", "_" and ".", such as '
            f"0.1.0-1a2b3c4d, or nothing for workers without versions"
        )
    return WorkerDeploymentVersion(names.WORKER_DEPLOYMENT, build) if build else None


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str, default: str) -> str:
        return self._environment.get(name) or default

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        found = (self._environment.get(name) or default).lower()
        if found not in allowed:
            raise SettingsError(f'{name} is "{found}"; expected one of {", ".join(allowed)}')
        return found

    def switch(self, name: str) -> bool:
        found = self.choice(name, "false", ("true", "false")) == "true"
        if found and not self._environment.get("PERDURE_NAMESPACE"):
            raise SettingsError(f"{name} is true and PERDURE_NAMESPACE is not set; expected the pod's own namespace")
        return found

    def names(self, name: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in self._environment.get(name, "").split(",") if part.strip())

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        found = self._environment.get(name) or str(default)
        if not found.isdecimal() or not least <= int(found) <= most:
            raise SettingsError(f'{name} is "{found}"; expected a whole number from {least} to {most}')
        return int(found)

    def mapping(self, name: str) -> Mapping[str, str]:
        found = self._environment.get(name) or "{}"
        try:
            document = json.loads(found)
        except ValueError as error:
            raise SettingsError(f"{name} is no JSON: {error}; expected an object of texts") from error
        if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
            raise SettingsError(f"{name} is {found}; expected a JSON object whose values are texts")
        return document

    def rules(self, name: str) -> tuple[Mapping[str, Any], ...] | None:
        found = self._environment.get(name)
        if not found:
            return None
        try:
            document = json.loads(found)
        except ValueError as error:
            raise SettingsError(f"{name} is no JSON: {error}; expected a list of egress rules") from error
        if not isinstance(document, list) or not all(isinstance(rule, dict) for rule in document):
            raise SettingsError(f"{name} is {found}; expected a JSON list of egress rules, as a NetworkPolicy has them")
        return tuple(document)
