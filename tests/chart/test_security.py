"""What the chart's pods and accounts may do: this much and no more."""

from __future__ import annotations

import pytest

from tests.chart.rendered import LEAST, Chart, Document, Values, pod_templates

OPERATOR = {
    ("perdure.dev", "trainingjobs"): {"get", "list", "watch", "patch", "delete"},
    ("perdure.dev", "trainingjobs/status"): {"get", "patch"},
    ("", "events"): {"create"},
}
WORKER = {
    ("perdure.dev", "trainingjobs"): {"get", "create", "patch"},
    ("perdure.dev", "trainingjobs/status"): {"get", "patch"},
    ("batch", "jobs"): {"get", "list", "watch", "create", "delete", "patch"},
    ("", "pods"): {"get", "list", "watch", "delete"},
    ("", "services"): {"get", "create", "delete"},
    ("", "events"): {"create", "list"},
}
TOKEN_REVIEWER = {("authentication.k8s.io", "tokenreviews"): {"create"}}
VIEW = {
    ("perdure.dev", "trainingjobs"): {"get", "list", "watch"},
    ("perdure.dev", "trainingjobs/status"): {"get", "list", "watch"},
}
EDIT = {("perdure.dev", "trainingjobs"): {"create", "update", "patch", "delete", "deletecollection"}}


def _table(role: Document) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def _bindings(documents: list[Document]) -> set[tuple[str, str | None, str, str]]:
    """Each binding as (kind, namespace, role, account)."""
    return {
        (each["kind"], each["metadata"].get("namespace"), each["roleRef"]["name"], subject["name"])
        for each in documents
        if each["kind"] in {"ClusterRoleBinding", "RoleBinding"}
        for subject in each["subjects"]
    }


def test_the_cluster_roles_are_exactly_these(chart: Chart, everything: Values) -> None:
    roles = {
        each["metadata"]["name"]: _table(each) for each in chart.documents(everything) if each["kind"] == "ClusterRole"
    }

    assert roles == {
        "perdure-operator": OPERATOR,
        "perdure-worker": WORKER,
        "perdure-worker-token-reviewer": TOKEN_REVIEWER,
        "perdure-trainingjobs-view": VIEW,
        "perdure-trainingjobs-edit": EDIT,
    }


def test_only_with_network_policies_may_workers_make_and_change_such_and_never_delete_them(
    chart: Chart, everything: Values
) -> None:
    role = chart.one("ClusterRole", "perdure-worker", everything, {"networkPolicies": {"enabled": True}})

    assert _table(role) == {**WORKER, ("networking.k8s.io", "networkpolicies"): {"get", "create", "patch"}}


def test_the_only_right_to_a_secret_is_the_operators_to_the_receivers(chart: Chart, everything: Values) -> None:
    rules = {each["metadata"]["name"]: each["rules"] for each in chart.documents(everything) if each["kind"] == "Role"}

    assert rules == {
        "perdure-operator": [
            {
                "apiGroups": [""],
                "resources": ["secrets"],
                "resourceNames": ["perdure-progress-tls"],
                "verbs": ["get", "patch"],
            }
        ]
    }


def test_with_somebody_elses_certificate_there_is_no_right_to_any_secret(chart: Chart) -> None:
    documents = chart.documents(LEAST, {"progress": {"tls": {"existingSecret": "from-cert-manager"}}})

    assert "Role" not in {each["kind"] for each in documents}
    assert "secrets" not in str([each.get("rules") for each in documents])


def test_without_watched_namespaces_rights_are_cluster_wide(chart: Chart) -> None:
    assert _bindings(chart.documents(LEAST)) == {
        ("ClusterRoleBinding", None, "perdure-operator", "perdure-operator"),
        ("ClusterRoleBinding", None, "perdure-worker", "perdure-worker"),
        ("ClusterRoleBinding", None, "perdure-worker-token-reviewer", "perdure-worker"),
        ("RoleBinding", "perdure-system", "perdure-operator", "perdure-operator"),
    }


def test_with_watched_namespaces_rights_end_at_them(chart: Chart) -> None:
    bindings = _bindings(chart.documents(LEAST, {"watchNamespaces": ["team-a", "perdure-system"]}))

    assert bindings == {
        *(
            ("RoleBinding", namespace, f"perdure-{component}", f"perdure-{component}")
            for namespace in ("team-a", "perdure-system")
            for component in ("operator", "worker")
        ),
        ("ClusterRoleBinding", None, "perdure-worker-token-reviewer", "perdure-worker"),
    }


def test_no_two_objects_have_the_same_name_when_the_own_namespace_is_watched(chart: Chart) -> None:
    documents = chart.documents(LEAST, {"watchNamespaces": ["perdure-system"]})
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in documents]

    assert len(names) == len(set(names))


def test_roles_for_people_can_be_left_out(chart: Chart) -> None:
    roles = [
        each["metadata"]
        for each in chart.documents(LEAST, {"rbac": {"aggregate": False}})
        if each["kind"] == "ClusterRole"
    ]

    assert not [role for role in roles if "aggregate" in str(role["labels"])]


def test_every_pod_is_restricted(chart: Chart, ci_values: Values) -> None:
    """The Pod Security Standard "restricted", written out, and a read-only root beyond it."""
    templates = pod_templates(chart.documents(ci_values))
    assert templates

    for name, template in templates.items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert all(volume.keys() <= {"name", "emptyDir", "secret"} for volume in spec["volumes"]), name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert all("hostPort" not in port for port in container["ports"]), name


def test_no_service_becomes_a_variable_that_looks_like_a_setting(chart: Chart, everything: Values) -> None:
    """Kubernetes makes PERDURE_PROGRESS_PORT of the Service perdure-progress: an address, where a number is read."""
    templates = pod_templates(chart.documents(everything))

    assert templates
    assert {name for name, each in templates.items() if each["spec"].get("enableServiceLinks") is not False} == set()


def test_every_container_has_probes_and_bounded_memory(chart: Chart, everything: Values) -> None:
    for name, template in pod_templates(chart.documents(everything)).items():
        for container in template["spec"]["containers"]:
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(), name
            assert container["resources"]["limits"]["memory"], name


@pytest.mark.parametrize("name", ["perdure-temporal", "perdure-seaweedfs"])
def test_quick_starts_have_no_key_to_the_cluster(chart: Chart, everything: Values, name: str) -> None:
    template = chart.one("StatefulSet", name, everything)["spec"]["template"]

    assert template["spec"]["automountServiceAccountToken"] is False


def test_only_s3_of_the_quick_start_store_is_reachable(chart: Chart, everything: Values) -> None:
    """SeaweedFS' master, filer and volume server serve whoever asks."""
    (container,) = chart.one("StatefulSet", "perdure-seaweedfs", everything)["spec"]["template"]["spec"]["containers"]

    assert "-ip.bind=127.0.0.1" in container["args"]
    assert "-s3.ip.bind=0.0.0.0" in container["args"]
