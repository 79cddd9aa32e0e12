"""What `helm test` makes: a pod that may do little, and a job that the installation can run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure_api.spec import TrainingJobSpec
from perdure_cli.trial import options, training_job
from tests.chart.rendered import LEAST, NAMESPACE, Chart, Document, Values, merged

NAME = "perdure-test"
PLACED: Values = {
    "imagePullSecrets": [{"name": "registry"}],
    "worker": {
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "priorityClassName": "high",
    },
}


def made(chart: Chart, *values: Values) -> dict[str, Document]:
    return {each["kind"]: each for each in chart.of_the_test(LEAST, *values)}


def asked_for(pod: Document) -> dict[str, Any]:
    """The TrainingJob that the pod makes."""
    read = options(pod["spec"]["containers"][0]["args"])
    return training_job(read.name, read.image, json.loads(read.resources))


def test_it_is_made_in_an_order_in_which_the_pod_has_its_rights(chart: Chart) -> None:
    order = [each["kind"] for each in chart.of_the_test(LEAST)]

    assert sorted(order[:2]) == ["Role", "ServiceAccount"]
    assert order[2:] == ["RoleBinding", "Pod"]


def test_nothing_of_it_stays_but_the_pod_with_its_log(chart: Chart) -> None:
    policies = {
        kind: each["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for kind, each in made(chart).items()
    }

    assert policies == {
        "ServiceAccount": "before-hook-creation,hook-succeeded",
        "Role": "before-hook-creation,hook-succeeded",
        "RoleBinding": "before-hook-creation,hook-succeeded",
        "Pod": "before-hook-creation",
    }


def test_it_may_make_trainingjobs_and_see_and_delete_its_own(chart: Chart) -> None:
    job = asked_for(made(chart)["Pod"])
    resource = {"apiGroups": ["perdure.dev"], "resources": ["trainingjobs"]}

    assert made(chart)["Role"]["rules"] == [
        {**resource, "verbs": ["create"]},
        {**resource, "resourceNames": [job["metadata"]["name"]], "verbs": ["get", "delete"]},
    ]


@pytest.mark.parametrize(("watched", "where"), [([], NAMESPACE), (["team-a", "team-b"], "team-a")])
def test_the_job_is_made_where_somebody_looks_at_it(chart: Chart, watched: list[str], where: str) -> None:
    found = made(chart, {"watchNamespaces": watched})

    assert options(found["Pod"]["spec"]["containers"][0]["args"]).namespace == where
    assert {kind: each["metadata"]["namespace"] for kind, each in found.items()} == {
        "ServiceAccount": NAMESPACE, "Role": where, "RoleBinding": where, "Pod": NAMESPACE,
    }  # fmt: skip
    (subject,) = found["RoleBinding"]["subjects"]
    assert (subject["name"], subject["namespace"]) == (NAME, NAMESPACE)
    assert found["Pod"]["spec"]["serviceAccountName"] == found["ServiceAccount"]["metadata"]["name"] == NAME


def test_pod_and_job_go_where_workers_go_and_push_nobody_aside(chart: Chart) -> None:
    pod = made(chart, PLACED)["Pod"]["spec"]
    spec = TrainingJobSpec.from_wire(asked_for({"spec": pod})["spec"])

    assert spec.resources
    assert pod["nodeSelector"] == spec.resources.node_selector == {"pool": "cpu"}
    assert [each["key"] for each in pod["tolerations"]] == [each.key for each in spec.resources.tolerations]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert "priorityClassName" not in pod


def test_the_pod_is_restricted_and_bounded(chart: Chart) -> None:
    spec = made(chart, {"test": {"timeoutSeconds": 90}})["Pod"]["spec"]
    worker = chart.one("Deployment", "perdure-worker", LEAST)["spec"]["template"]["spec"]
    (container,) = spec["containers"]

    assert spec["securityContext"] == worker["securityContext"]
    assert container["securityContext"] == worker["containers"][0]["securityContext"]
    assert container["image"] == worker["containers"][0]["image"]
    assert container["resources"]["limits"]["memory"]
    assert options(container["args"]).seconds == 90
    assert spec["activeDeadlineSeconds"] > 90
    assert spec["restartPolicy"] == "Never"


def test_no_service_and_no_budget_takes_the_pod_for_one_of_its_own(chart: Chart, everything: Values) -> None:
    values = merged(everything, {"scaler": {"enabled": True}})
    labels = made(chart)["Pod"]["metadata"]["labels"].items()
    selectors = [
        each["spec"]["selector"].get("matchLabels", each["spec"]["selector"])
        for each in chart.documents(values)
        if "selector" in each.get("spec", {})
    ]

    assert selectors
    assert not [selector for selector in selectors if selector.items() <= labels]


def test_it_can_be_left_out(chart: Chart) -> None:
    assert chart.of_the_test(LEAST, {"test": {"enabled": False}}) == []
