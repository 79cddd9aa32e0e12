"""Documents of the API server → what decisions need. Fields are left out as Kubernetes leaves them out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure_api import names
from perdure_api.progress import AttemptCommand, Command
from perdure_workers.watching.facts import AttemptKey, Cause, JobFacts, PodFacts, Termination, job_facts, pod_facts
from tests.workers import real_pods

LABELS = {names.LABEL_JOB_UID: "u", names.LABEL_ATTEMPT: "3"}
KEY = AttemptKey("ns", "u", 3)
REFUSED = {"reason": "R", "message": "m"}
OWNERS = [{"apiVersion": "batch/v1", "kind": "Job", "name": "n-3", "uid": "j", "controller": True}]
TRAININGJOB = [{"apiVersion": names.API_VERSION, "kind": names.KIND, "name": "n", "uid": "u", "controller": True}]
OF_N = {names.ANNOTATION_JOB_NAME: "n"}


def document(labels: dict[str, str] | None = LABELS, **parts: Any) -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": "n", "uid": "i", "ownerReferences": OWNERS, **parts.pop("metadata", {})}
    return {"metadata": metadata if labels is None else {**metadata, "labels": labels}, **parts}


def pod(**status: Any) -> PodFacts:
    facts = pod_facts(document(status=status))
    assert facts
    return facts


def container(state: dict[str, Any], name: str = "trainer") -> dict[str, Any]:
    return {"name": name, "state": state}


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {},
        {names.LABEL_JOB_UID: "u"},
        {names.LABEL_ATTEMPT: "3"},
        {names.LABEL_JOB_UID: "", names.LABEL_ATTEMPT: "3"},
        {names.LABEL_JOB_UID: "u", names.LABEL_ATTEMPT: "three"},
        {names.LABEL_JOB_UID: "u", names.LABEL_ATTEMPT: "-3"},
    ],
    ids=["no labels", "none of ours", "no attempt", "no uid", "an empty uid", "a word", "a negative number"],
)
def test_what_only_looks_like_an_attempts_object_is_none(labels: dict[str, str] | None) -> None:
    assert pod_facts(document(labels)) is None
    assert job_facts(document(labels)) is None


@pytest.mark.parametrize(
    ("owners", "orphan"),
    [([], True), ([{**OWNERS[0], "controller": False}], True), ([{"kind": "Other"}, *OWNERS], False)],
    ids=["nobody's", "no controller's", "among others its Job's"],
)
def test_a_pod_without_a_controller_was_taken_from_its_job(owners: list[dict[str, Any]], orphan: bool) -> None:  # noqa: FBT001
    facts = pod_facts(document(metadata={"ownerReferences": owners}))

    assert facts
    assert facts.orphan is orphan


@pytest.mark.parametrize(
    ("owners", "annotations", "foreign"),
    [
        (OWNERS, OF_N, False),
        (OWNERS, {}, False),
        ([{**OWNERS[0], "uid": "one that was made again"}], OF_N, False),
        ([], OF_N, False),
        ([{**OWNERS[0], "name": "n-2"}], OF_N, True),
        ([{**OWNERS[0], "name": "copy-of-n-3"}], OF_N, True),
        ([{**OWNERS[0], "kind": "ReplicaSet"}], OF_N, True),
        ([{**OWNERS[0], "kind": "ReplicaSet"}], {}, True),
    ],
    ids=[
        "its Job's",
        "its Job's, without a word of whose attempt",
        "its Job's, that was made again",
        "nobody's: taken from its Job",
        "another attempt's",
        "a copied Job's",
        "a Deployment's",
        "a Deployment's, without a word",
    ],
)
def test_a_pod_is_an_attempts_where_the_attempts_job_controls_it_or_nobody_does(
    owners: list[dict[str, Any]], annotations: dict[str, str], *, foreign: bool
) -> None:
    facts = pod_facts(document(metadata={"ownerReferences": owners, "annotations": annotations}))

    assert facts
    assert facts.foreign is foreign


@pytest.mark.parametrize(
    ("name", "owners", "foreign"),
    [
        ("n-3", TRAININGJOB, False),
        ("n-3", [*OWNERS, *TRAININGJOB], False),
        ("n-3", [], True),
        ("n-3", [{**TRAININGJOB[0], "uid": "another"}], True),
        ("copy-of-n-3", TRAININGJOB, True),
    ],
    ids=["its own", "among other owners'", "nobody's", "another's", "a copy under another name"],
)
def test_a_job_is_an_attempts_where_the_trainingjob_owns_it_and_it_has_the_name_of_the_attempt(
    name: str, owners: list[dict[str, Any]], *, foreign: bool
) -> None:
    facts = job_facts(document(metadata={"name": name, "ownerReferences": owners, "annotations": OF_N}))

    assert facts
    assert facts.foreign is foreign


@pytest.mark.parametrize("name", real_pods.NAMES)
def test_no_pod_of_a_real_attempt_is_foreign(name: str) -> None:
    facts = pod_facts(real_pods.document(name))

    assert facts is not None
    assert (facts.orphan, facts.foreign) == (False, False)


def test_of_real_pods_only_one_that_its_node_is_still_starting_is_on_its_way() -> None:
    facts = {name: pod_facts(real_pods.document(name)) for name in real_pods.NAMES}

    assert [name for name, each in facts.items() if each and each.on_its_way] == ["starting"]


def test_a_pod_of_which_nothing_is_known_yet_is_pending() -> None:
    assert pod_facts(document()) == PodFacts(
        key=KEY,
        trainingjob="",
        namespace="ns",
        name="n",
        uid="i",
        node=None,
        phase="Pending",
        deleting=False,
        cause=None,
        unschedulable=None,
        disruption=None,
        waiting=None,
        running=False,
        termination=None,
    )


def test_everything_that_a_pod_tells_is_kept() -> None:
    metadata = {
        "annotations": {names.ANNOTATION_JOB_NAME: "n", names.ANNOTATION_COMPLETION_INDEX: "3"},
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    }
    terminated = {"exitCode": 137, "signal": 9, "reason": "OOMKilled", "message": "m"}
    status = {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "low on memory",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/2 nodes"},
            {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"},
        ],
        "containerStatuses": [container({"terminated": terminated})],
    }

    assert pod_facts(document(metadata=metadata, spec={"nodeName": "node-1"}, status=status)) == PodFacts(
        key=KEY,
        trainingjob="n",
        namespace="ns",
        name="n",
        uid="i",
        node="node-1",
        phase="Failed",
        deleting=True,
        cause=Cause("Evicted", "low on memory"),
        unschedulable="0/2 nodes",
        disruption=Cause("EvictionByEvictionAPI", "drained"),
        waiting=None,
        running=False,
        termination=Termination(exit_code=137, signal=9, reason="OOMKilled", message="m"),
        rank=3,
        due_at=datetime(2026, 1, 1, tzinfo=UTC).timestamp(),
    )


@pytest.mark.parametrize(
    ("ready", "containers", "state", "silent"),
    [
        ("True", "True", "running", False),
        ("False", "True", "running", True),
        ("Unknown", "True", "running", True),
        (None, "True", "running", True),
        ("False", "False", "running", False),
        ("False", None, "running", False),
        ("False", "True", "terminated", False),
    ],
    ids=["well", "unheard of", "unknown", "never ready", "its kubelet says so", "no word of containers", "ended"],
)
def test_a_node_is_silent_when_only_the_cluster_says_that_its_pod_is_not_ready(
    ready: str | None, containers: str | None, state: str, *, silent: bool
) -> None:
    conditions = [
        {"type": type_, "status": status}
        for type_, status in (("Ready", ready), ("ContainersReady", containers))
        if status is not None
    ]

    assert pod(phase="Running", conditions=conditions, containerStatuses=[container({state: {}})]).silent is silent


@pytest.mark.parametrize(
    ("name", "silent", "deleting"),
    [("running", False, False), ("silent-node", True, False), ("on-a-lost-node", True, True), ("evicted", False, True)],
)
def test_the_pods_of_a_real_node_that_was_cut_off_are_silent(name: str, *, silent: bool, deleting: bool) -> None:
    facts = pod_facts(real_pods.document(name))

    assert facts is not None
    assert (facts.silent, facts.deleting, facts.due_at is not None) == (silent, deleting, deleting)


@pytest.mark.parametrize("status", ["True", "Unknown"])
def test_a_pod_is_unschedulable_only_where_the_scheduler_says_so(status: str) -> None:
    assert pod(conditions=[{"type": "PodScheduled", "status": status, "message": "m"}]).unschedulable is None


def test_a_scheduler_that_does_not_say_what_it_lacks_is_believed() -> None:
    assert pod(conditions=[{"type": "PodScheduled", "status": "False"}]).unschedulable == ""


def test_a_disruption_that_is_not_true_is_none() -> None:
    assert pod(conditions=[{"type": "DisruptionTarget", "status": "False", **REFUSED}]).disruption is None


@pytest.mark.parametrize("others_first", [True, False])
def test_only_the_trainers_container_counts(*, others_first: bool) -> None:
    statuses = [container({"terminated": {"exitCode": 1}}, "sidecar"), container({"running": {}})]

    facts = pod(phase="Running", containerStatuses=statuses if others_first else statuses[::-1])

    assert (facts.running, facts.termination) == (True, None)


def test_a_runtime_that_tells_no_more_than_an_end_is_taken_at_its_word() -> None:
    facts = pod(phase="Succeeded", containerStatuses=[container({"terminated": {}})])

    assert facts.termination == Termination(exit_code=0, signal=0, reason="", message="")


def test_a_container_that_waits_may_say_why_in_one_word() -> None:
    assert pod(containerStatuses=[container({"waiting": {}})]).waiting == Cause("", "")


@pytest.mark.parametrize(
    ("phase", "ended"),
    [("Pending", False), ("Running", False), ("Unknown", False), ("Succeeded", True), ("Failed", True)],
)
def test_no_process_can_run_only_in_a_pod_that_ended(phase: str, *, ended: bool) -> None:
    assert pod(phase=phase).ended is ended


@pytest.mark.parametrize(
    ("status", "failed", "completed"),
    [
        (None, None, False),
        ({}, None, False),
        ({"conditions": [{"type": "Complete", "status": "True", **REFUSED}]}, None, True),
        ({"conditions": [{"type": "Failed", "status": "False", **REFUSED}]}, None, False),
        ({"conditions": [{"type": "Failed", "status": "True", **REFUSED}]}, Cause("R", "m"), False),
    ],
    ids=["no status", "an empty one", "complete", "not failed", "failed"],
)
def test_a_job_has_failed_or_completed_only_where_its_controller_says_so(
    status: dict[str, Any] | None, failed: Cause | None, *, completed: bool
) -> None:
    job = document(status=status, metadata={"ownerReferences": TRAININGJOB})

    assert job_facts(job) == JobFacts(KEY, "ns", "n", "i", failed, completed)


def test_of_a_job_in_a_queue_of_kueue_it_is_known_whether_and_since_when_it_may_have_pods() -> None:
    labels = {names.LABEL_JOB_UID: "u", names.LABEL_ATTEMPT: "3", names.LABEL_KUEUE_QUEUE: "research"}
    waits = job_facts(document(labels, spec={"suspend": True}, status={}))
    runs = job_facts(document(labels, spec={"suspend": False}, status={"startTime": "1970-01-01T00:01:00Z"}))

    assert waits is not None
    assert (waits.kueue_queue, waits.suspended, waits.started_at) == ("research", True, None)
    assert runs is not None
    assert (runs.suspended, runs.started_at) == (False, 60.0)


@pytest.mark.parametrize(
    ("annotations", "command"),
    [
        (None, None),
        (
            {names.ANNOTATION_COMMAND: '{"command": "checkpoint", "id": "a", "new": 1}'},
            AttemptCommand(command=Command.CHECKPOINT, id="a"),
        ),
        ({names.ANNOTATION_COMMAND: '{"command": "dance", "id": "a"}'}, None),
        ({names.ANNOTATION_COMMAND: "now!"}, None),
    ],
    ids=["none", "a checkpoint", "one that nobody knows", "no JSON"],
)
def test_a_jobs_annotation_says_what_its_pods_are_to_be_told(
    annotations: dict[str, str] | None, command: AttemptCommand | None
) -> None:
    job = document()
    job["metadata"]["annotations"] = annotations
    facts = job_facts(job)
    assert facts
    assert facts.command == command
