"""One worker process, told by its arguments and its environment."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import structlog
import uvloop
from prometheus_client import disable_created_metrics

from perdure_api.exit_codes import ExitCode
from perdure_control.credentials import CredentialsError
from perdure_control.factory.errors import RegistryError
from perdure_control.factory.registry import Registry, load_registry
from perdure_control.logs import configure_logs
from perdure_control.settings import SettingsError
from perdure_workers.process import run_worker
from perdure_workers.settings import WorkerSettings


def main() -> int:
    """The exit status: 0 after SIGTERM or SIGINT, 64 when the environment, or what is installed in it, is wrong."""
    parser = argparse.ArgumentParser(prog="perdure-worker", description="Runs workflows and activities of Perdure.")
    parser.add_argument("--pool", choices=["cpu"], default="cpu", help="which task queues to serve (default: cpu)")
    parser.parse_args()
    try:
        settings = WorkerSettings.from_environment()
        settings.temporal_credentials.read(settings.temporal_address)
        workflows = load_registry()
    except (SettingsError, CredentialsError, RegistryError) as error:
        sys.stderr.write(f"perdure-worker: {error}\n")
        return ExitCode.USAGE
    configure_logs(settings.log_level)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    uvloop.run(_until_stopped(settings, workflows))
    return ExitCode.OK


async def _until_stopped(settings: WorkerSettings, workflows: Registry) -> None:
    worker = asyncio.create_task(run_worker(settings, workflows))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.cancel)
    try:
        await worker
    except asyncio.CancelledError:
        structlog.get_logger(__name__).info("worker_stopped")
