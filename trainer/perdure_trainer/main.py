"""The edge of the process: arguments in, exit code and last words out."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import structlog

from perdure_api.exit_codes import ExitCode
from perdure_api.pod import Env, TerminationMessage
from perdure_data.stores import Stores
from perdure_inference import machine
from perdure_trainer import console, termination
from perdure_trainer.attempts import newest_attempt
from perdure_trainer.failures import Stopped, TrainerError, UsageError, failure_of
from perdure_trainer.patience import Patience
from perdure_trainer.settings import Settings, from_environment, from_file
from perdure_trainer.stacks import Stacks
from perdure_trainer.stopping import StopSignal

_log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one attempt to its end.

    Returns:
        The exit code; every failure is one sentence in the log and in the termination message.
    """
    console.configure(sys.stderr, {})
    try:
        options = _parser().parse_args(arguments)
    except UsageError as error:
        _log.error("run_ended", exit_code=int(error.exit_code), message=str(error))
        termination.leave(TerminationMessage(message=str(error)))
        return error.exit_code
    stacks = Stacks(options.termination_log)
    code, last_words = _run(options, StopSignal(), stacks)
    termination.leave(last_words.model_copy(update={"stacks": stacks.told()}), options.termination_log)
    console.say(sys.stderr, last_words)
    return code


class _Parser(argparse.ArgumentParser):
    """Leaves with our exit code, not with argparse's own 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m perdure_trainer",
        description="Trains a LoRA adapter. In a pod everything comes from the environment; on a laptop give --spec.",
    )
    parser.add_argument("--spec", type=Path, help="YAML of a TrainingJob to run here, without a cluster")
    parser.add_argument("--output-dir", type=Path, help="with --spec: folder to write to, instead of spec.output.uri")
    parser.add_argument(
        "--termination-log", type=Path, default=termination.DEFAULT_PATH, help="file for the last words (%(default)s)"
    )
    return parser


def _run(options: argparse.Namespace, stop: StopSignal, stacks: Stacks) -> tuple[ExitCode, TerminationMessage]:
    run = settings = None
    try:
        stop.install()  # in here, for a signal may come at once
        stacks.install()
        settings = _settings(options)
        rank = {"rank": settings.place.rank} if settings.place.world > 1 else {}
        console.configure(sys.stderr, {"job": settings.job_name, "attempt": settings.attempt, **rank})
        machine.prepare_environment(os.environ, settings.scratch)
        console.quieten_libraries()
        # Not earlier: torch reads the environment when it is imported, and takes seconds.
        from perdure_trainer.run import Run  # noqa: PLC0415

        run = Run(settings, Stores(), stop, Patience())
        last_words = run.finish()
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends here as a sentence and an exit code
        failure = failure_of(error)
        if stop.requested and type(failure) is TrainerError:
            failure = Stopped(stop.because)  # a library turned our exception into one of its own
        foreseen = type(failure) is not TrainerError
        _log.error("run_ended", exit_code=int(failure.exit_code), message=str(failure), exc_info=not foreseen)
        return failure.exit_code, run.last_words(str(failure)) if run else TerminationMessage(message=str(failure))
    else:
        _log.info("run_finished", message=last_words.message)
        return ExitCode.OK, last_words
    finally:
        if run:
            run.close()
        if settings and not os.environ.get(Env.SCRATCH):
            shutil.rmtree(settings.scratch, ignore_errors=True)


def _settings(options: argparse.Namespace) -> Settings:
    if options.spec is None:
        return from_environment(os.environ)
    settings = from_file(options.spec, options.output_dir, os.environ)
    if not settings.place.leads:
        return settings  # rank 0 alone counts: by now it may have begun the one that is meant
    # Without a control plane, each start is an attempt of its own, which goes on where the last one ended.
    return replace(settings, attempt=1 + newest_attempt(Stores(), settings.run_uri))
