"""What `helm test` runs: a TrainingJob that trains nothing goes all the way, is followed to its end, and deleted.

It is the smallest thing that needs everything: the operator sees it, Temporal runs its workflow, a worker makes its
pod, the pod starts and reports, the report is written into the status, and the end is seen.
"""

from __future__ import annotations

import argparse
import inspect
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from perdure_api import names
from perdure_cli import bar, trial_pod
from perdure_cli.cluster import Cluster, Where
from perdure_cli.errors import EXIT_FAILED, EXIT_SUCCEEDED, CliError
from perdure_cli.job import Job

_LOOK_SECONDS: Final = 1.0
_KEEP_SECONDS: Final = 600
"""One that could not be deleted goes by itself after this time."""


class Namespace(Protocol):
    """The TrainingJobs of a namespace, as far as a trial needs them."""

    def find(self, name: str) -> Job | None:
        """The one of this name."""

    def create(self, document: dict[str, Any]) -> Job:
        """Makes one."""

    def delete(self, job: Job) -> None:
        """Deletes one."""


class TrialFailed(CliError):
    """The job did not succeed; the text says how far it came, and where to look."""

    exit_status = EXIT_FAILED


@dataclass(frozen=True)
class Clock:
    """What passes the time."""

    now: Callable[[], float] = time.monotonic
    """Seconds."""
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Trial:
    """One trial in a namespace."""

    namespace: Namespace
    document: dict[str, Any]
    """The TrainingJob."""
    seconds: float
    """How long it may take."""
    clock: Clock = Clock()
    say: Callable[[str], None] = print

    def run(self) -> None:
        """Makes the job, follows it to a success, and deletes it, whatever comes of it.

        Raises:
            TrialFailed: it did not succeed.
            CliError: the cluster does not answer, or refuses.
        """
        deadline = self.clock.now() + self.seconds
        self._make_room(deadline)
        job = self.namespace.create(self.document)
        self.say(f"TrainingJob {job.namespace}/{job.name} is made.")
        try:
            self._follow(job, deadline)
        finally:
            self.namespace.delete(job)
            self.say(f"TrainingJob {job.namespace}/{job.name} is deleted.")

    def _make_room(self, deadline: float) -> None:
        """What an earlier trial left behind, one that was killed, goes first."""
        while (left := self.namespace.find(self.document["metadata"]["name"])) is not None:
            if not left.deleting:
                self.namespace.delete(left)
            if self.clock.now() >= deadline:
                raise TrialFailed(
                    f"TrainingJob {left.namespace}/{left.name} of an earlier test is still being deleted after "
                    f"{self.seconds:.0f} s, expected it to be gone; `kubectl -n {left.namespace} describe trainingjob "
                    f"{left.name}` says what that waits for"
                )
            self.clock.sleep(_LOOK_SECONDS)

    def _follow(self, job: Job, deadline: float) -> None:
        line = ""
        while True:
            found = self.namespace.find(job.name)
            if found is None or found.uid != job.uid:
                raise TrialFailed(
                    f"TrainingJob {job.namespace}/{job.name} was deleted by somebody before it was finished, expected "
                    f"nobody to touch it; run the test again"
                )
            if (now := bar.plain_line(found)) != line:
                line = now
                self.say(line)
            if found.succeeded is not None:
                _must_be_good(found)
                return
            if self.clock.now() >= deadline:
                raise TrialFailed(_too_late(found, self.seconds))
            self.clock.sleep(_LOOK_SECONDS)


def _must_be_good(job: Job) -> None:
    where = f"TrainingJob {job.namespace}/{job.name}"
    if not job.succeeded:
        reason, message = job.status.reason or job.phase, job.status.message or "it does not say why"
        raise TrialFailed(f"{where} failed ({reason}), expected it to succeed: {message}")
    progress = job.status.progress
    if progress is None or progress.step != trial_pod.STEPS:
        raise TrialFailed(
            f"{where} succeeded and its status shows no progress, expected step {trial_pod.STEPS}: the workers took "
            f"its report and did not write it; their log says why (progress_not_written)"
        )


def _too_late(job: Job, seconds: float) -> str:
    where = f"TrainingJob {job.namespace}/{job.name}"
    if job.status.observed_generation is None:  # until then it shows what the API server itself gave it
        return (
            f"nobody has looked at {where} within {seconds:.0f} s, expected the operator to; does its pod run, and is "
            f"{job.namespace} among watchNamespaces?"
        )
    return (
        f"{where} has not ended after {seconds:.0f} s, expected it to succeed; it says: {bar.plain_line(job)}. "
        f"/readyz of operator and workers says what they lack"
    )


def training_job(name: str, image: str, resources: dict[str, Any]) -> dict[str, Any]:
    """The job of a trial: one attempt, which reports one step and ends well.

    Args:
        name: Its name.
        image: Any with Python 3.
        resources: Its `spec.resources`.
    """
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": {
            "trainer": {"image": image, "command": ["python3", "-c", inspect.getsource(trial_pod)]},
            "resources": resources,
            "retry": {"maxAttempts": 1},
            "ttlSecondsAfterFinished": _KEEP_SECONDS,
        },
    }


def main() -> int:
    """The exit status: 0 the job succeeded, 1 it did not, 3 it could not be found out."""
    chosen = options(sys.argv[1:])
    # Told to stop, it deletes what it has made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_FAILED))
    try:
        cluster = Cluster.connect(Where(namespace=chosen.namespace))
        Trial(cluster, training_job(chosen.name, chosen.image, json.loads(chosen.resources)), chosen.seconds).run()
    except CliError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_status
    print("Perdure works.")
    return EXIT_SUCCEEDED


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line says; a wrong one ends the program with a sentence."""
    parser = argparse.ArgumentParser(prog="python -m perdure_cli.trial", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--namespace", help="where the TrainingJob is made; left out: the pod's own")
    parser.add_argument("--name", default="perdure-test", help="its name")
    parser.add_argument("--image", required=True, help="image of its pod: any with Python 3")
    parser.add_argument("--resources", default="{}", help="its spec.resources, as JSON")
    parser.add_argument("--seconds", type=float, default=240, help="how long it may take")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
