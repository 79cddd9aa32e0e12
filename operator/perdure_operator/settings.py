"""What an operator process is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from perdure_control.credentials import IN_THE_CLEAR, CredentialFiles
from perdure_control.settings import PORTS, Environment, SettingsError, is_count
from perdure_operator.admission import Limits

_NAMESPACE_LIMITS: Final = "PERDURE_NAMESPACE_LIMITS"


@dataclass(frozen=True)
class ReceiverSettings:
    """Where a server's certificate is kept, and what it is for: the progress receiver's, or the scaler's."""

    secret: str
    """Name of the Secret, in the operator's own namespace."""
    service: str
    """Name of the Service that the certificate must be valid for."""


@dataclass(frozen=True)
class Settings:
    """Read once at start."""

    temporal_address: str
    temporal_namespace: str
    log_level: str
    http_port: int
    namespace: str
    """The operator's own."""
    watched_namespaces: tuple[str, ...]
    """Empty: all."""
    receiver: ReceiverSettings | None
    """None: the certificate is somebody else's business."""
    limits: Limits
    scaler: ReceiverSettings | None = None
    """The same for the scaler; None: there is none, or its certificate is somebody else's business."""
    worker_pattern: str = ""
    """Name of the Deployment, in the operator's own namespace, that versions of the workers are made from; empty: they
    have none."""
    temporal_credentials: CredentialFiles = IN_THE_CLEAR


def settings_from(environment: Mapping[str, str]) -> Settings:
    """The settings that an environment amounts to.

    Raises:
        SettingsError: a variable is missing or is not what it must be.
    """
    read = Environment(environment, "operator")
    return Settings(
        temporal_address=read.required("PERDURE_TEMPORAL_ADDRESS", "host:port of Temporal's frontend"),
        temporal_namespace=read.text("PERDURE_TEMPORAL_NAMESPACE", "default"),
        log_level=read.log_level(),
        http_port=read.whole_number("PERDURE_HTTP_PORT", 8080, PORTS),
        namespace=read.required("PERDURE_NAMESPACE", "the namespace that the operator runs in"),
        watched_namespaces=tuple(sorted(read.names("PERDURE_WATCH_NAMESPACES"))),
        receiver=_receiver(read, "PERDURE_PROGRESS", "the progress receiver"),
        scaler=_receiver(read, "PERDURE_SCALER", "the scaler"),
        limits=_limits(read),
        worker_pattern=read.text("PERDURE_WORKER_PATTERN"),
        temporal_credentials=read.temporal_credentials(),
    )


def _receiver(read: Environment, prefix: str, server: str) -> ReceiverSettings | None:
    secret = read.text(f"{prefix}_SECRET")
    if not secret:
        return None
    service = read.required(f"{prefix}_SERVICE", f"the Service in front of {server}")
    return ReceiverSettings(secret=secret, service=service)


def _limits(read: Environment) -> Limits:
    return Limits(
        cluster=_limit(read, "PERDURE_MAX_CONCURRENT_JOBS"),
        namespace=_limit(read, "PERDURE_MAX_CONCURRENT_JOBS_PER_NAMESPACE"),
        namespaces=dict(map(_limit_of_namespace, read.names(_NAMESPACE_LIMITS))),
    )


def _limit(read: Environment, name: str) -> int | None:
    text = read.text(name)
    if text and not is_count(text):
        raise SettingsError(
            f'{name} is "{text}", expected how many TrainingJobs may run at a time, such as 4; set such a number, or '
            f"leave it empty for no limit"
        )
    return int(text) if text else None


def _limit_of_namespace(entry: str) -> tuple[str, int]:
    namespace, _, count = entry.partition("=")
    if not namespace or not is_count(count):
        raise SettingsError(
            f'{_NAMESPACE_LIMITS} has the entry "{entry}", expected a namespace and how many TrainingJobs may run in '
            f"it at a time, such as ml=4; correct the entry, or leave it out"
        )
    return namespace, int(count)
