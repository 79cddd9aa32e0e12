"""Logs as JSON events on standard output, ours and those of the libraries alike."""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog

from perdure_api.workflow import JobRef

LEVELS: Final = ("debug", "info", "warning", "error")

_TRACEBACKS: Final = structlog.processors.ExceptionRenderer(
    # Local variables hold bearer tokens and the environment of pods; structlog's own choice is to show them.
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def about(job: JobRef) -> dict[str, str]:
    """The fields by which a log line says which TrainingJob it is about."""
    return {"trainingjob": job.name, "namespace": job.namespace, "uid": job.uid, "workflow_id": job.workflow_id}


def configure_logs(level: str) -> None:
    """Sends everything through structlog as one JSON object a line.

    Args:
        level: One of LEVELS.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _TRACEBACKS,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    handler.addFilter(_to_be_retried_is_no_error)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # One line a request is no event.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def _to_be_retried_is_no_error(record: logging.LogRecord) -> bool:
    """Kopf reports each try of a request as an error, the API server's restart among them; only the last is one."""
    if record.levelno == logging.ERROR and "; will retry: " in record.getMessage():
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True
