"""Commands that change an object: what they change, and what they say. test_steering.py of the cluster has the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure_api import names
from tests.cli import documents
from tests.cli.conftest import Cli, Namespace

pytestmark = pytest.mark.cluster


def stored(namespace: Namespace) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        namespace.kubectl("get", names.PLURAL, "smol", "-n", namespace.name, "-o", "json")
    )
    return document


def test_suspend_and_resume_change_the_spec_and_say_how_to_take_it_back(cli: Cli, namespace: Namespace) -> None:
    namespace.job(status=documents.RUNNING)

    assert cli("suspend", "smol") == (0, ["smol saves and waits; `perdure resume smol` lets it go on."])
    assert stored(namespace)["spec"]["suspend"] is True
    assert cli("suspend", "smol") == (0, ["smol is suspended already; `perdure resume smol` lets it go on."])
    assert cli("resume", "smol") == (0, ["smol goes on; `perdure watch smol` shows how."])
    assert stored(namespace)["spec"]["suspend"] is False
    assert cli("resume", "smol") == (0, ["smol is not suspended; `perdure watch smol` shows how far it is."])


def test_cancel_asks_first_unless_told_not_to(cli: Cli, namespace: Namespace) -> None:
    namespace.job(status=documents.RUNNING)

    status, lines = cli("cancel", "smol")

    assert status == 1
    assert any("It cannot be resumed" in line for line in lines)
    assert names.ANNOTATION_CANCEL not in stored(namespace)["metadata"].get("annotations", {})
    assert cli("cancel", "smol", "--yes") == (0, ["smol is being cancelled; what it has saved stays."])
    assert stored(namespace)["metadata"]["annotations"][names.ANNOTATION_CANCEL] == "true"


@pytest.mark.parametrize(
    ("type_", "reason", "status", "says"),
    [
        ("Normal", "CheckpointSaved", 0, "smol: the checkpoint of step 9 is saved, as asked for: "),
        ("Warning", "CheckpointAsked", 3, "Error: smol: "),
    ],
)
def test_checkpoint_waits_for_the_answer_to_its_own_request(
    cli: Cli, namespace: Namespace, type_: str, reason: str, status: int, says: str
) -> None:
    uid = namespace.job(status=documents.RUNNING)
    running = cli.start("checkpoint", "smol", "--reason", "why", "-n", namespace.name)
    namespace.kubectl(
        "wait", "--for=jsonpath={.metadata.annotations.perdure\\.dev/checkpoint}", f"{names.PLURAL}/smol",
        "-n", namespace.name, "--timeout=30s",
    )  # fmt: skip
    asked = stored(namespace)["metadata"]["annotations"][names.ANNOTATION_CHECKPOINT]
    assert asked.startswith("why (")
    for number, request in enumerate(["another", asked]):
        namespace.kubectl("create", "-f", "-", document=event(namespace, uid, number, type_, reason, request))

    assert running.end() == status
    assert running.lines[-1].startswith(says)
    assert asked in running.lines[-1]


def test_a_checkpoint_that_nobody_saves_is_not_waited_for_for_ever(cli: Cli, namespace: Namespace) -> None:
    namespace.job(status=documents.RUNNING)

    status, lines = cli("checkpoint", "smol", "--timeout", "1")

    assert status == 3
    assert lines[0].startswith("Error: smol was asked to save, but has not told within 1 s that it did")


def test_nobody_waits_for_a_checkpoint_of_a_job_that_waits_itself(cli: Cli, namespace: Namespace) -> None:
    namespace.job(status=documents.QUEUED)

    status, lines = cli("checkpoint", "smol")

    assert status == 3
    assert lines[0].endswith("number 3 in line; at most 4 run at a time (limits.maxConcurrentJobs)")


@pytest.mark.parametrize("command", ["suspend", "resume", "checkpoint", "cancel"])
def test_a_finished_job_stays_as_it_is(cli: Cli, namespace: Namespace, command: str) -> None:
    namespace.job(status=documents.SUCCEEDED)
    before = stored(namespace)

    status, lines = cli(command, "smol", *(["--yes"] if command == "cancel" else []))

    assert status == 3
    assert lines[0].startswith("Error: smol is finished (Succeeded): ")
    assert stored(namespace) == before


def event(namespace: Namespace, uid: str, number: int, type_: str, reason: str, request: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"e{number}", "namespace": namespace.name},
        "involvedObject": {"kind": names.KIND, "name": "smol", "namespace": namespace.name, "uid": uid},
        "type": type_,
        "reason": reason,
        "message": f"the checkpoint of step 9 is saved, as asked for: {request}",
        "lastTimestamp": "2026-11-22T11:54:00Z",
    }
