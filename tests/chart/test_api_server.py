"""The chart in front of a real API server: its validation, its Pod Security admission, its RBAC."""

from __future__ import annotations

import pytest
import yaml

from tests.chart.rendered import CI_VALUES, NAMESPACE, Chart, Document, Values, pod_templates
from tests.conftest import ApiServer

OTHER = "somewhere-else"
# The first use builds an API server.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def installed(api_server: ApiServer) -> ApiServer:
    """An API server that holds everything of the quick start, in a namespace that admits restricted pods only."""
    for namespace in (NAMESPACE, OTHER, "team-a", "team-b"):
        api_server.kubectl("create", "namespace", namespace)
    api_server.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    _apply(api_server, Chart().documents(_values("devcluster")))
    return api_server


def _values(name: str) -> Values:
    (path,) = [path for path in CI_VALUES if path.stem == f"{name}-values"]
    values: Values = yaml.safe_load(path.read_text())
    return values


def _apply(server: ApiServer, documents: list[Document], *options: str) -> str:
    items = {"apiVersion": "v1", "kind": "List", "items": documents}
    return server.kubectl("apply", *options, "-f", "-", document=items)


def _may(server: ApiServer, account: str, verb: str, resource: str, namespace: str = OTHER, name: str = "") -> bool:
    """Whether a service account of the chart may; a resource is written `resource.group/subresource`."""
    resource, _, subresource = resource.partition("/")
    resource, _, group = resource.partition(".")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{NAMESPACE}:perdure-{account}",
            "resourceAttributes": {
                "verb": verb,
                "resource": resource,
                "group": group,
                "subresource": subresource,
                "namespace": namespace,
                "name": name,
            },
        },
    }
    return server.kubectl("create", "-f", "-", "--output=jsonpath={.status.allowed}", document=review) == "true"


def test_every_object_is_valid(installed: ApiServer, chart: Chart, ci_values: Values) -> None:
    documents = chart.documents({**ci_values, "extraObjects": []})

    said = _apply(installed, documents, "--dry-run=server", "--validate=strict")

    assert len(said.splitlines()) == len(documents), said


def test_the_cluster_holds_exactly_what_was_rendered(installed: ApiServer, everything: Values, chart: Chart) -> None:
    """No tool that compares the two, such as Argo CD, sees a difference for ever."""
    documents = {"apiVersion": "v1", "kind": "List", "items": chart.documents(everything)}

    assert installed.kubectl("diff", "-f", "-", document=documents) == ""


def test_applying_again_keeps_what_the_operator_wrote(installed: ApiServer, everything: Values, chart: Chart) -> None:
    secret = ("secret/perdure-progress-tls", f"--namespace={NAMESPACE}")
    installed.kubectl("patch", *secret, "--type=merge", '--patch={"stringData": {"tls.crt": "a certificate"}}')

    _apply(installed, chart.documents(everything))

    assert "tls.crt" in installed.kubectl("get", *secret, "--output=jsonpath={.data}")


def test_pod_security_admission_lets_every_pod_in(installed: ApiServer, everything: Values, chart: Chart) -> None:
    for name, template in pod_templates(chart.documents(everything)).items():
        pod = _pod(template)
        # A StatefulSet's own volumes come from its claims; the pod alone has none of that name.
        pod["spec"]["volumes"].append({"name": "data", "emptyDir": {}})
        said = installed.kubectl("create", "--dry-run=server", "-f", "-", document=pod)
        assert "created" in said, name


def test_pod_security_admission_is_awake(installed: ApiServer, everything: Values, chart: Chart) -> None:
    template = chart.one("Deployment", "perdure-operator", everything)["spec"]["template"]
    del template["spec"]["securityContext"]

    with pytest.raises(AssertionError, match="violates PodSecurity"):
        installed.kubectl("create", "--dry-run=server", "-f", "-", document=_pod(template))


@pytest.mark.parametrize("component", ["operator", "worker", "scaler"])
def test_a_priority_class_that_does_not_exist_lets_no_pod_be_made_and_is_named(
    installed: ApiServer, chart: Chart, component: str
) -> None:
    wrong = {"scaler": {"enabled": True}}, {component: {"priorityClassName": "no-such-class"}}
    template = chart.one("Deployment", f"perdure-{component}", _values("devcluster"), *wrong)["spec"]["template"]

    with pytest.raises(AssertionError, match="no PriorityClass with name no-such-class was found"):
        installed.kubectl("create", "--dry-run=server", "-f", "-", document=_pod(template))


def _pod(template: Document) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": NAMESPACE},
        "spec": template["spec"],
    }


@pytest.mark.parametrize(
    ("account", "verb", "resource"),
    [
        ("operator", "watch", "trainingjobs.perdure.dev"),
        ("operator", "delete", "trainingjobs.perdure.dev"),
        ("operator", "create", "events"),
        ("worker", "create", "jobs.batch"),
        ("worker", "watch", "pods"),
        ("worker", "create", "tokenreviews.authentication.k8s.io"),
        ("worker", "patch", "trainingjobs.perdure.dev/status"),
        ("worker", "create", "trainingjobs.perdure.dev"),
        ("worker", "patch", "trainingjobs.perdure.dev"),
    ],
)
def test_an_account_may(installed: ApiServer, account: str, verb: str, resource: str) -> None:
    assert _may(installed, account, verb, resource)


@pytest.mark.parametrize(
    ("account", "verb", "resource"),
    [
        ("operator", "list", "secrets"),
        ("operator", "get", "secrets"),
        ("operator", "create", "jobs.batch"),
        ("operator", "create", "trainingjobs.perdure.dev"),
        ("operator", "get", "pods"),
        ("worker", "get", "secrets"),
        ("worker", "list", "secrets"),
        ("worker", "create", "pods"),
        ("worker", "create", "pods/exec"),
        ("worker", "delete", "trainingjobs.perdure.dev"),
        ("worker", "update", "trainingjobs.perdure.dev"),
        ("worker", "impersonate", "serviceaccounts"),
    ],
)
@pytest.mark.parametrize("namespace", [NAMESPACE, OTHER])
def test_an_account_may_not(installed: ApiServer, account: str, verb: str, resource: str, namespace: str) -> None:
    assert not _may(installed, account, verb, resource, namespace)


def test_the_operator_may_change_the_receivers_secret_and_no_other(installed: ApiServer) -> None:
    def may_patch(name: str, namespace: str) -> bool:
        return _may(installed, "operator", "patch", "secrets", namespace, name)

    assert may_patch("perdure-progress-tls", NAMESPACE)
    assert not may_patch("perdure-object-store", NAMESPACE)
    assert not may_patch("perdure-progress-tls", OTHER)


def test_what_helm_test_runs_may_make_jobs_and_see_and_delete_its_own(
    installed: ApiServer, everything: Values, chart: Chart
) -> None:
    made = chart.of_the_test(everything)
    _apply(installed, [each for each in made if each["kind"] != "Pod"])

    def may(verb: str, name: str = "", resource: str = "trainingjobs.perdure.dev") -> bool:
        return _may(installed, "test", verb, resource, NAMESPACE, name)

    assert may("create")
    assert may("get", "perdure-test")
    assert may("delete", "perdure-test")
    assert not [verb for verb in ("get", "delete", "patch") if may(verb, "somebody-elses")]
    assert not [verb for verb in ("list", "watch", "patch") if may(verb)]
    assert not may("create", resource="pods")
    assert not _may(installed, "test", "create", "trainingjobs.perdure.dev", OTHER)


def test_pod_security_admission_lets_the_pod_of_helm_test_in(
    installed: ApiServer, everything: Values, chart: Chart
) -> None:
    (pod,) = [each for each in chart.of_the_test(everything) if each["kind"] == "Pod"]

    assert "created" in installed.kubectl("create", "--dry-run=server", "-f", "-", document=pod)
