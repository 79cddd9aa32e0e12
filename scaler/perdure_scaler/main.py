"""One scaler process, told by its environment."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace

import structlog
import uvloop
from prometheus_client import disable_created_metrics

from perdure_api.exit_codes import ExitCode
from perdure_control.credentials import CredentialsError
from perdure_control.factory.errors import RegistryError
from perdure_control.factory.registry import load_registry
from perdure_control.logs import configure_logs
from perdure_control.settings import SettingsError
from perdure_scaler.guarded import with_guarded
from perdure_scaler.process import run_scaler
from perdure_scaler.settings import Settings, settings_from


def main() -> int:
    """The exit status: 0 after SIGTERM or SIGINT, 64 when the environment, or what is installed in it, is wrong."""
    try:
        settings = settings_from(os.environ)
        settings.temporal_credentials.read(settings.temporal_address)
        queues = with_guarded(settings.queues, settings.temporal_namespace, load_registry())
    except (SettingsError, CredentialsError, RegistryError) as error:
        sys.stderr.write(f"perdure-scaler: {error}\n")
        return ExitCode.USAGE
    configure_logs(settings.log_level)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    uvloop.run(_until_stopped(replace(settings, queues=queues)))
    return ExitCode.OK


async def _until_stopped(settings: Settings) -> None:
    scaler = asyncio.create_task(run_scaler(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, scaler.cancel)
    try:
        await scaler
    except asyncio.CancelledError:
        structlog.get_logger(__name__).info("scaler_stopped")
