"""What an operator process is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from perdure_control.credentials import IN_THE_CLEAR, CredentialFiles, CredentialsError
from perdure_control.logs import LEVELS
from perdure_operator.admission import Limits

_PORTS: Final = range(1, 65536)
_NAMESPACE_LIMITS: Final = "PERDURE_NAMESPACE_LIMITS"


class SettingsError(ValueError):
    """An environment that no operator can run in; the message says what was found, expected, and what to do."""


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
    level = environment.get("PERDURE_LOG_LEVEL", "info")
    if level not in LEVELS:
        raise SettingsError(f'PERDURE_LOG_LEVEL is "{level}", expected one of {", ".join(LEVELS)}; set one of these')
    return Settings(
        temporal_address=_required(environment, "PERDURE_TEMPORAL_ADDRESS", "host:port of Temporal's frontend"),
        temporal_namespace=environment.get("PERDURE_TEMPORAL_NAMESPACE") or "default",
        log_level=level,
        http_port=_port(environment.get("PERDURE_HTTP_PORT") or "8080"),
        namespace=_required(environment, "PERDURE_NAMESPACE", "the namespace that the operator runs in"),
        watched_namespaces=_list(environment.get("PERDURE_WATCH_NAMESPACES", "")),
        receiver=_receiver(environment, "PERDURE_PROGRESS", "the progress receiver"),
        scaler=_receiver(environment, "PERDURE_SCALER", "the scaler"),
        limits=_limits(environment),
        worker_pattern=environment.get("PERDURE_WORKER_PATTERN", ""),
        temporal_credentials=_credentials(environment),
    )


def _required(environment: Mapping[str, str], name: str, meaning: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set, expected {meaning}; set it in the operator's Deployment")
    return value


def _credentials(environment: Mapping[str, str]) -> CredentialFiles:
    try:
        return CredentialFiles.from_environment(environment)
    except CredentialsError as error:
        raise SettingsError(str(error)) from error


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else 0
    if port not in _PORTS:
        raise SettingsError(f'PERDURE_HTTP_PORT is "{text}", expected a port from 1 to 65535; set it to a free one')
    return port


def _list(text: str) -> tuple[str, ...]:
    return tuple(sorted({part.strip() for part in text.split(",") if part.strip()}))


def _receiver(environment: Mapping[str, str], prefix: str, server: str) -> ReceiverSettings | None:
    secret = environment.get(f"{prefix}_SECRET", "")
    if not secret:
        return None
    service = _required(environment, f"{prefix}_SERVICE", f"the Service in front of {server}")
    return ReceiverSettings(secret=secret, service=service)


def _limits(environment: Mapping[str, str]) -> Limits:
    return Limits(
        cluster=_limit(environment, "PERDURE_MAX_CONCURRENT_JOBS"),
        namespace=_limit(environment, "PERDURE_MAX_CONCURRENT_JOBS_PER_NAMESPACE"),
        namespaces=dict(map(_limit_of_namespace, _list(environment.get(_NAMESPACE_LIMITS, "")))),
    )


def _limit(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    if text and not _is_count(text):
        raise SettingsError(
            f'{name} is "{text}", expected how many TrainingJobs may run at a time, such as 4; set such a number, or '
            f"leave it empty for no limit"
        )
    return int(text) if text else None


def _limit_of_namespace(entry: str) -> tuple[str, int]:
    namespace, _, count = entry.partition("=")
    if not namespace or not _is_count(count):
        raise SettingsError(
            f'{_NAMESPACE_LIMITS} has the entry "{entry}", expected a namespace and how many TrainingJobs may run in '
            f"it at a time, such as ml=4; correct the entry, or leave it out"
        )
    return namespace, int(count)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()
