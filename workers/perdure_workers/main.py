"""One worker process, told by its arguments and its environment."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial

import structlog
import uvloop
from prometheus_client import disable_created_metrics

from perdure_api.exit_codes import ExitCode
from perdure_control.credentials import CredentialsError
from perdure_control.factory.errors import RegistryError
from perdure_control.factory.registry import load_registry
from perdure_control.logs import configure_logs
from perdure_control.settings import SettingsError
from perdure_workers.process import run_worker
from perdure_workers.settings import Pool, WorkerSettings


def main() -> int:
    """The exit status: 0 after SIGTERM or SIGINT, 64 when the environment, or what is installed in it, is wrong."""
    parser = argparse.ArgumentParser(prog="perdure-worker", description="Runs workflows and activities of Perdure.")
    parser.add_argument(
        "--pool", choices=list(Pool), type=Pool, default=Pool.CPU, help="which task queues to serve (default: cpu)"
    )
    parser.add_argument("--slots", metavar="N", help="tasks at a time (default: 20 of the CPU pool, 1 of the GPU pool)")
    options = parser.parse_args()
    try:
        settings = WorkerSettings.from_environment(pool=options.pool, slots=options.slots)
        settings.temporal_credentials.read(settings.temporal_address)
        run = _gpu_pool(settings) if settings.pool is Pool.GPU else partial(run_worker, settings, load_registry())
    except (SettingsError, CredentialsError, RegistryError) as error:
        sys.stderr.write(f"perdure-worker: {error}\n")
        return ExitCode.USAGE
    configure_logs(settings.log_level)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    uvloop.run(_until_stopped(run))
    return ExitCode.OK


def _gpu_pool(settings: WorkerSettings) -> Callable[[], Coroutine[None, None, None]]:
    """What a worker of the GPU pool does.

    Raises:
        SettingsError: what it needs is not installed, as in the image of the CPU pool.
    """
    try:
        from perdure_inference.machine import prepare_environment  # noqa: PLC0415 - not in the CPU pool's image

        prepare_environment(os.environ, settings.models_folder)
        # Only where it is needed: it brings torch, and takes seconds.
        from perdure_workers.gpu_process import run_gpu_worker  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(
            f'--pool is "gpu" and {error.name} is not installed here; expected what models need: run the image '
            f"perdure-gpu, or install perdure[worker,inference]"
        ) from error
    return partial(run_gpu_worker, settings)


async def _until_stopped(run: Callable[[], Coroutine[None, None, None]]) -> None:
    worker = asyncio.create_task(run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.cancel)
    try:
        await worker
    except asyncio.CancelledError:
        structlog.get_logger(__name__).info("worker_stopped")
