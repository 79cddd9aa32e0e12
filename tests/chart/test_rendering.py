"""What comes out of the chart, whatever tool renders it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from perdure_api.crd import custom_resource_definition
from tests.chart.rendered import CHART, LEAST, Chart, Values, helm, hook_of, rendered_anew

TEMPLATES = sorted((CHART / "templates").iterdir())


def test_helm_lint_finds_nothing(ci_values: Values) -> None:
    result = helm("lint", "--strict", CHART, "--values=-", document=ci_values)

    assert result.returncode == 0, result.stdout + result.stderr


def test_the_same_values_give_the_same_bytes(chart: Chart, ci_values: Values) -> None:
    """Rendered anew: the chart's tests remember what values gave, since it is always the same."""
    assert rendered_anew(json.dumps(ci_values)) == chart.text(ci_values)


def test_nothing_but_the_test_is_a_hook_that_only_helm_would_run(chart: Chart, ci_values: Values) -> None:
    assert {hook_of(document) for document in chart.documents(ci_values)} == {None}
    assert {hook_of(document) for document in chart.documents(ci_values, tests=True)} == {None, "test"}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_asks_the_cluster_the_clock_or_chance(template: Path) -> None:
    functions = ("lookup", "genCA", "genSelfSignedCert", "genSignedCert", "randAlphaNum", "uuidv4", "now")
    actions = "".join(re.findall(r"{{.*?}}", template.read_text(), flags=re.DOTALL))
    without_comments = re.sub(r"{{-? /\*.*?\*/", "", actions, flags=re.DOTALL)

    assert [name for name in functions if re.search(rf"\b{name}\b", without_comments)] == []


def test_every_object_says_what_it_belongs_to(chart: Chart, everything: Values) -> None:
    for document in chart.documents(everything):
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "perdure", document
        assert labels["app.kubernetes.io/component"], document


def test_every_namespaced_object_names_its_namespace(chart: Chart, everything: Values) -> None:
    """Without it `helm template | kubectl apply` would put it wherever the context points to."""
    cluster_wide = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}

    found = {
        document["metadata"].get("namespace")
        for document in chart.documents(everything)
        if document["kind"] not in cluster_wide
    }
    assert found == {"perdure-system"}


def test_selectors_are_unchanged_by_an_upgrade(chart: Chart, everything: Values) -> None:
    for document in chart.documents(everything):
        if document["kind"] in {"Deployment", "StatefulSet"}:
            assert sorted(document["spec"]["selector"]["matchLabels"]) == [
                "app.kubernetes.io/component",
                "app.kubernetes.io/instance",
                "app.kubernetes.io/name",
            ]


def test_no_new_operator_stands_beside_the_old_one_during_an_upgrade(chart: Chart, ci_values: Values) -> None:
    deployment = chart.one("Deployment", "perdure-operator", ci_values)

    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})


def test_two_releases_share_no_name(chart: Chart, everything: Values) -> None:
    other = {"fullnameOverride": "other", "objectStore": {"secretName": "other"}, "crds": {"enabled": False}}

    def names(*values: Values) -> set[tuple[str, str]]:
        return {(each["kind"], each["metadata"]["name"]) for each in chart.documents(*values)}

    assert not names(everything) & names(everything, other)


def test_the_longest_release_name_gives_names_that_are_dns_labels(chart: Chart, everything: Values) -> None:
    long = {"fullnameOverride": "a" * 40}

    for document in chart.documents(everything, long):
        if document["kind"] != "CustomResourceDefinition":
            assert len(document["metadata"]["name"]) <= 63, document["metadata"]["name"]


def test_the_crd_is_the_one_that_the_models_make(chart: Chart) -> None:
    crd = chart.one("CustomResourceDefinition", "trainingjobs.perdure.dev", LEAST)

    assert crd["spec"] == custom_resource_definition()["spec"]


def test_the_crd_outlives_the_release_unless_told_otherwise(chart: Chart) -> None:
    def annotations(keep: bool) -> object:  # noqa: FBT001 - the value itself
        values = {"crds": {"keep": keep}}
        crd = chart.one("CustomResourceDefinition", "trainingjobs.perdure.dev", LEAST, values)
        return crd["metadata"].get("annotations")

    assert annotations(keep=True) == {"helm.sh/resource-policy": "keep"}
    assert annotations(keep=False) is None


def test_the_crd_can_be_left_to_others(chart: Chart) -> None:
    documents = chart.documents(LEAST, {"crds": {"enabled": False}})

    assert "CustomResourceDefinition" not in {document["kind"] for document in documents}


def test_extra_objects_are_documents_or_templates(chart: Chart) -> None:
    extra = ["kind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-one'}", {"kind": "Two", "metadata": {"name": "x"}}]

    documents = chart.documents(LEAST, {"extraObjects": extra})

    names = {(each["kind"], each["metadata"]["name"]) for each in documents}
    assert {("ConfigMap", "perdure-one"), ("Two", "x")} <= names


def test_the_notes_name_the_next_commands() -> None:
    """Read off the template: only an installation prints them."""
    notes = (CHART / "templates" / "NOTES.txt").read_text()

    assert "rollout status" in notes
    assert "apply -f trainingjob.yaml" in notes


def test_a_quick_start_pod_that_never_became_ready_does_not_stop_its_own_repair(
    chart: Chart, everything: Values
) -> None:
    for name in ("perdure-temporal", "perdure-seaweedfs"):
        assert chart.one("StatefulSet", name, everything)["spec"]["podManagementPolicy"] == "Parallel"


def test_new_object_store_credentials_roll_those_who_read_them(chart: Chart, everything: Values) -> None:
    def checksums(secret_key: str) -> list[str]:
        values = {"objectStore": {"quickStart": {"secretKey": secret_key}}}
        owners = (("Deployment", "perdure-worker"), ("StatefulSet", "perdure-seaweedfs"))
        templates = [chart.one(kind, name, everything, values)["spec"]["template"] for kind, name in owners]
        return [template["metadata"]["annotations"]["checksum/object-store"] for template in templates]

    assert checksums("one-secret") == checksums("one-secret")
    assert set(checksums("one-secret")).isdisjoint(checksums("other-secret"))


def test_the_receivers_secret_is_rendered_without_data(chart: Chart) -> None:
    """Data here, even empty data, would wipe out what the operator wrote at the next apply."""
    secret = chart.one("Secret", "perdure-progress-tls", LEAST)

    assert not {"data", "stringData"} & secret.keys()


def test_the_charts_version_is_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    package = (CHART.parents[1] / "pyproject.toml").read_text()

    assert f'version = "{chart["appVersion"]}"' in package
