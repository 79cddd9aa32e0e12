"""What people ask of jobs on their way: suspend and resume, cancel, delete."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final, assert_never

from tests.chaos.history import Sight
from tests.chaos.kinds import Errand
from tests.chaos.objects import Objects
from tests.cluster.conftest import Kubectl

LOOK_SECONDS: Final = 0.5
_GONE: Final = "(NotFound)"


def run(errand: Errand, name: str, jobs: Kubectl, objects: Objects) -> None:
    """Does all of it, however often the API server is away: returns when nothing is left to ask."""
    match errand:
        case Errand.SUSPEND_TWICE:
            for _ in range(2):
                _suspend_and_resume(name, jobs, objects, _runs)
        case Errand.SUSPEND:
            _suspend_and_resume(name, jobs, objects, _has_saved)
        case Errand.CANCEL:
            _until(name, objects, _runs)
            _insist(jobs, "annotate", "trainingjob", name, "perdure.dev/cancel=true", "--overwrite")
        case Errand.DELETE:
            _until(name, objects, _has_saved)
            _insist(jobs, "delete", "trainingjob", name, "--wait=false", "--ignore-not-found")
            while _GONE not in jobs.run("get", "trainingjob", name).stderr:
                time.sleep(LOOK_SECONDS)
            objects.forget(name)
        case _:
            assert_never(errand)


def _suspend_and_resume(name: str, jobs: Kubectl, objects: Objects, ready: Callable[[Sight], bool]) -> None:
    _until(name, objects, ready)
    for suspend, then in ((True, lambda sight: sight.phase == "Suspended"), (False, None)):
        patch = json.dumps({"spec": {"suspend": suspend}})
        _insist(jobs, "patch", "trainingjob", name, "--type=merge", "-p", patch)
        if then:
            _until(name, objects, then)


def _runs(sight: Sight) -> bool:
    return sight.phase == "Running"


def _has_saved(sight: Sight) -> bool:
    return _runs(sight) and sight.checkpoint_step > 0


def _until(name: str, objects: Objects, holds: Callable[[Sight], bool]) -> None:
    """Or until it is over."""
    while not ((sight := objects.newest(name)) and (sight.terminal or holds(sight))):
        time.sleep(LOOK_SECONDS)


def _insist(jobs: Kubectl, *arguments: str) -> None:
    while jobs.run(*arguments).returncode != 0:
        time.sleep(LOOK_SECONDS)
