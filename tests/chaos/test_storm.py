"""A fault that was refused is none, and one that lasts is remembered for as long as it lasted."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from perdure_data.stores import Stores
from perdure_devcluster.cluster import Cluster
from tests.chaos.faults import Scene, delete, kill, kill_worker
from tests.chaos.kinds import KINDS, Inputs
from tests.chaos.lasting import roll_workers
from tests.chaos.objects import Objects
from tests.chaos.plan import FaultPlan, Planned
from tests.chaos.storm import Storm
from tests.chaos.tally import Tally
from tests.chaos.witness import Attempt, TrainerProcess
from tests.cluster.conftest import Kubectl

PODS = {
    "items": [
        {
            "metadata": {"name": "j-2-0", "labels": {"perdure.dev/trainingjob-uid": "u", "perdure.dev/attempt": "2"}},
            "status": {"phase": "Running"},
        },
        {"metadata": {"name": "over", "labels": {}}, "status": {"phase": "Succeeded"}},
    ]
}


def scene(folder: Path, answer: str = "", code: int = 0) -> Scene:
    """One whose kubectl lists what it is told, and answers everything else with an exit code."""
    program = folder / "kubectl"
    (folder / "answer").write_text(answer)
    program.write_text(f'#!/bin/sh\ncase " $* " in *" get "*) cat {folder}/answer;; *) exit {code};; esac\n')
    program.chmod(0o755)
    kubectl = Kubectl("none", "chaos", program)
    nobody = cast("Any", None)
    return Scene(kubectl, kubectl, cast("Cluster", nobody), cast("Stores", nobody), "image", Objects(), Tally())


@pytest.mark.parametrize(("code", "hit"), [(0, "j-2-0"), (1, "")])
def test_a_deletion_counts_when_it_was_taken_and_explains_an_end_in_any_case(
    tmp_path: Path, code: int, hit: str
) -> None:
    there = scene(tmp_path, json.dumps(PODS), code)

    assert delete(there, random.Random(1), "pods") == hit
    assert there.tally.touched == {Attempt("u", 2)}


def test_where_nothing_can_be_deleted_nothing_was(tmp_path: Path) -> None:
    there = scene(tmp_path, '{"items": []}')

    assert delete(there, random.Random(1), "pods") == ""
    assert there.tally.touched == set()


@pytest.mark.parametrize(("code", "hits"), [(0, ["pod/w", "workers"]), (1, ["", ""])])
def test_workers_that_could_not_be_killed_or_replaced_were_not(tmp_path: Path, code: int, hits: list[str]) -> None:
    there = scene(tmp_path, "pod/w\n", code)
    with kill_worker(there, random.Random(1)) as killed, roll_workers(there, random.Random(1)) as rolled:
        assert [killed, rolled] == hits


def test_a_process_that_has_ended_by_itself_was_not_killed(tmp_path: Path) -> None:
    there = scene(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        process = TrainerProcess(running.pid, Attempt("u", 1), "j", "0")
        assert kill(there, process) == "j rank 0"
        assert running.wait(30) == -9
        assert there.tally.touched == set(there.tally.kills) == {Attempt("u", 1)}
        there.tally.touched.clear()

        assert kill(there, process) == ""
    assert there.tally.touched == set()
    assert kill(there, None) == ""


@contextmanager
def _on_n1(_: Scene, __: random.Random) -> Iterator[str]:
    yield "n1"


@contextmanager
def _nothing(_: Scene, __: random.Random) -> Iterator[str]:
    yield ""


@contextmanager
def _refused(_: Scene, __: random.Random) -> Iterator[str]:
    raise RuntimeError("no such node")
    yield ""


@contextmanager
def _never_mended(_: Scene, __: random.Random) -> Iterator[str]:
    yield "n2"
    raise RuntimeError("it stays as it is")


@pytest.mark.parametrize(
    ("fault", "times", "where", "ends"),
    [(_on_n1, 1, "n1", True), (_nothing, 0, "", True), (_refused, 0, "", True), (_never_mended, 1, "n2", False)],
)
def test_a_fault_counts_when_something_was_hit_and_lasts_until_it_is_mended(
    tmp_path: Path, fault: Any, times: int, where: str, *, ends: bool
) -> None:
    there = scene(tmp_path)
    storm = Storm(there, Inputs("image", {}))
    planned = Planned(1, "node cut off", hold_seconds=0, pause_seconds=0, seed="1")
    storm._make(planned, {"node cut off": (fault, FaultPlan(1))})

    (spell,) = there.tally.node_spells
    assert there.tally.faults["node cut off"] == times
    assert spell.where == where
    assert math.isfinite(spell.ended) == ends
    assert there.tally.store_spells == []


def test_a_job_that_is_to_be_deleted_or_was_never_seen_is_not_finished(tmp_path: Path) -> None:
    there = scene(tmp_path)
    storm = Storm(there, Inputs("image", {}))
    storm.deserved = {name: KINDS[name].deserves({"trains": "abc"}) for name in ("trains-deleted", "instant")}
    assert storm.unfinished == ["instant", "trains-deleted"]

    there.objects.forget("trains-deleted")
    assert storm.unfinished == ["instant"]
    assert storm.adapter("instant") is None
