"""Spec in, Job out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from perdure_api import names
from perdure_api.spec import TrainingJobSpec
from perdure_api.workflow import JobRef
from perdure_workers.manifests import PodDefaults, rank_service, reservation, training_job

CASES = Path(__file__).parent / "fixtures" / "manifests"
JOB = JobRef(namespace="ns", name="bible", uid="uid-1", generation=1)
BARE = PodDefaults(trainer_image="registry/perdure-gpu:1")
FULL = PodDefaults(
    trainer_image="registry/perdure-gpu:1",
    store_env={"AWS_ENDPOINT_URL": "http://store:8333"},
    store_secret="perdure-object-store",
    progress_url="https://progress:8443/v1/progress",
    progress_ca="-----BEGIN CERTIFICATE-----\n",
    image_pull_secrets=("pull",),
)
BUILT_IN = {
    "model": {"uri": "s3://b/model"},
    "dataset": {"uri": "s3://b/train.jsonl"},
    "output": {"uri": "s3://b/out"},
    "training": {"maxSteps": 10},
}


OWN = {"trainer": {"image": "i", "command": ["true"]}}


def job_of(spec: dict[str, Any], defaults: PodDefaults = FULL, attempt: int = 1) -> dict[str, Any]:
    return training_job(JOB, TrainingJobSpec.from_wire(spec).completed(), attempt, defaults)


def pod_of(spec: dict[str, Any], defaults: PodDefaults = FULL) -> dict[str, Any]:
    pod: dict[str, Any] = job_of(spec, defaults)["spec"]["template"]["spec"]
    return pod


def environment(spec: dict[str, Any], defaults: PodDefaults = FULL) -> dict[str, Any]:
    return {
        each["name"]: each.get("value", each.get("valueFrom"))
        for each in pod_of(spec, defaults)["containers"][0]["env"]
    }


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.yaml")))
def test_a_spec_becomes_the_expected_job(name: str) -> None:
    case = yaml.safe_load((CASES / f"{name}.yaml").read_text())

    assert job_of(case["spec"]) == case["job"]


def test_kubernetes_never_retries_on_its_own() -> None:
    job = job_of(BUILT_IN)

    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_an_attempt_of_many_nodes_is_one_job() -> None:
    job = job_of({**BUILT_IN, "resources": {"nodes": 64, "gpusPerNode": 16}})

    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (64, 64)


def test_the_job_goes_with_its_trainingjob() -> None:
    (owner,) = job_of(BUILT_IN)["metadata"]["ownerReferences"]

    assert (owner["uid"], owner["controller"]) == ("uid-1", True)


def test_the_pod_meets_the_restricted_standard_and_gets_no_api_token() -> None:
    pod = pod_of({"trainer": {"image": "i", "command": ["true"]}})
    container = pod["containers"][0]["securityContext"]

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}


def test_without_a_receiver_nothing_of_progress_is_in_the_pod() -> None:
    assert "perdure" not in [volume["name"] for volume in pod_of(BUILT_IN, BARE)["volumes"]]
    assert not [name for name in environment(BUILT_IN, BARE) if "PROGRESS" in name or "KUBEFLOW" in name]


@pytest.mark.parametrize("missing", ["progress_url", "progress_ca"])
def test_half_a_receiver_is_none(missing: str) -> None:
    defaults = replace(FULL, **{missing: None})

    assert [volume["name"] for volume in pod_of(BUILT_IN, defaults)["volumes"]] == ["scratch"]
    assert not [name for name in environment(BUILT_IN, defaults) if "PROGRESS" in name or "KUBEFLOW" in name]


UNREACHABLE = "node.kubernetes.io/unreachable"
SOON = {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 6}


@pytest.mark.parametrize(
    ("spec", "given", "expected"),
    [
        (BUILT_IN, [], [SOON]),
        (BUILT_IN, [{"key": "gpu", "operator": "Exists"}], [{"key": "gpu", "operator": "Exists"}, SOON]),
        (BUILT_IN, [{"operator": "Exists"}], [{"operator": "Exists"}]),
        (BUILT_IN, [{**SOON, "tolerationSeconds": 60}], [{**SOON, "tolerationSeconds": 60}]),
        (OWN, [], None),
    ],
    ids=["by itself", "beside others", "whoever tolerates all", "whoever says so", "a trainer of one's own"],
)
def test_what_can_be_fenced_is_replaced_soon_after_its_node_is_given_up(
    spec: dict[str, Any], given: list[dict[str, Any]], expected: list[dict[str, Any]] | None
) -> None:
    resources = {"resources": {"tolerations": given}} if given else {}

    assert pod_of({**spec, **resources}).get("tolerations") == expected


def test_each_pod_asks_for_what_it_needs_and_gets_no_more() -> None:
    asked = {"cpu": 2, "memory": "16Gi", "ephemeralStorage": "50Gi", "gpusPerNode": 1}
    amounts = {"cpu": "2", "memory": "16Gi", "ephemeral-storage": "50Gi", "nvidia.com/gpu": "1"}

    resources = pod_of({**OWN, "resources": asked})["containers"][0]["resources"]

    assert resources == {"requests": amounts, "limits": amounts}


def test_what_holds_places_asks_for_what_an_attempt_asks_for_and_does_nothing() -> None:
    resources = {"nodes": 3, "minNodes": 1, "gpusPerNode": 8, "nodeSelector": {"gpu": "h100"}}
    spec = TrainingJobSpec.from_wire({**BUILT_IN, "resources": resources}).completed()
    job = reservation(JOB, spec, 2, FULL)
    attempt = training_job(JOB, spec, 1, FULL)["spec"]["template"]["spec"]
    (container,) = job["spec"]["template"]["spec"]["containers"]

    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (2, 2)
    assert container["resources"] == attempt["containers"][0]["resources"]
    assert job["spec"]["template"]["spec"]["nodeSelector"] == attempt["nodeSelector"]
    assert container["command"] == ["sleep", "infinity"]
    assert {"env", "volumeMounts"}.isdisjoint(container)
    assert job["metadata"]["labels"][names.LABEL_ATTEMPT] == "0"
    assert job["metadata"]["ownerReferences"] == [
        {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": "bible", "uid": "uid-1", "controller": True}
    ]


def test_what_the_installation_leaves_out_is_not_in_the_job() -> None:
    template = job_of(BUILT_IN, BARE)["spec"]["template"]
    container = template["spec"]["containers"][0]

    assert template["metadata"]["annotations"] == {"perdure.dev/trainingjob-name": "bible"}
    assert "imagePullSecrets" not in template["spec"]
    assert "envFrom" not in container
    assert {mount["name"] for mount in container["volumeMounts"]} == {"scratch"}


def test_the_users_environment_wins_over_the_installations() -> None:
    spec = {**BUILT_IN, "trainer": {"env": [{"name": "AWS_ENDPOINT_URL", "value": "http://mine"}]}}

    assert environment(spec)["AWS_ENDPOINT_URL"] == "http://mine"
    told = [each["name"] for each in pod_of(spec)["containers"][0]["env"]]
    assert len(told) == len(set(told))


def test_the_trainer_is_told_the_whole_spec_with_its_defaults() -> None:
    told = json.loads(environment(BUILT_IN)["PERDURE_SPEC"])

    assert told["lora"]["rank"] == 16
    assert TrainingJobSpec.from_wire(told)


def test_a_spec_with_dollars_reaches_the_trainer_as_it_was_written() -> None:
    spec = {"trainer": {"image": "i", "command": ["sh", "-c", "echo $HOME $(date) $$"]}}
    passed_on = environment(spec)["PERDURE_SPEC"]

    assert json.loads(passed_on.replace("$$", "$"))["trainer"]["command"][-1] == "echo $HOME $(date) $$"
    assert passed_on.count("$") == 2 * "echo $HOME $(date) $$".count("$")


def test_each_attempt_is_told_its_number_and_the_place_of_the_run() -> None:
    assert environment(BUILT_IN)["PERDURE_ATTEMPT"] == "1"
    assert environment(BUILT_IN)["PERDURE_RUN_URI"] == "s3://b/out/runs/uid-1"


def test_one_node_is_told_nothing_of_several() -> None:
    for spec in (BUILT_IN, {**BUILT_IN, "resources": {"nodes": 1}}):
        variables = environment(spec)
        assert not [name for name in variables if name.startswith("PET_")]
        assert "nodes" not in json.loads(variables["PERDURE_SPEC"])["resources"]
        assert "subdomain" not in pod_of(spec)


def test_a_users_own_variable_beats_ours_also_among_torchruns() -> None:
    own = {"image": "i", "command": ["torchrun"], "env": [{"name": "PET_NPROC_PER_NODE", "value": "3"}]}
    assert environment({"trainer": own, "resources": {"nodes": 2}})["PET_NPROC_PER_NODE"] == "3"


def test_the_service_names_every_pod_of_the_job_before_it_is_ready() -> None:
    service = rank_service(JOB)
    labels = job_of({**BUILT_IN, "resources": {"nodes": 2}}, attempt=3)["spec"]["template"]["metadata"]["labels"]

    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


def test_a_job_for_a_queue_of_kueue_is_created_suspended_and_its_pods_are_no_workload_of_their_own() -> None:
    spec = TrainingJobSpec.from_wire(BUILT_IN).completed()
    plain, queued = (training_job(JOB, spec, 1, BARE, queue) for queue in ("", "research"))

    assert queued["metadata"]["labels"] == {
        **plain["metadata"]["labels"],
        "kueue.x-k8s.io/queue-name": "research",
    }
    assert queued["spec"] == {"suspend": True, **plain["spec"]}
    assert "suspend" not in plain["spec"]
