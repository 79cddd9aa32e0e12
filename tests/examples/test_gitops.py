"""What examples/gitops says to Argo CD, Flux and kustomize."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml
from lupa import lua51

from perdure_api.crd import PLAIN as CRD
from perdure_api.spec import TrainingJobSpec
from tests.chart.rendered import ROOT, Chart, Document, Values, merged
from tests.conftest import ApiServer, binary
from tests.examples.statuses import TURNS, Turn, job

GITOPS: Final = ROOT / "examples" / "gitops"
FILES: Final = sorted(GITOPS.rglob("*.yaml"))
FOREIGN: Final = [yaml.safe_load(path.read_text()) for path in (Path(__file__).parent / "foreign").glob("*.yaml")]
PLAIN_KINDS: Final = {"Namespace", "ConfigMap", "TrainingJob"}
HEALTH: Final = "resource.customizations.health.perdure.dev_TrainingJob"
EXPRESSIONS: Final = ("inProgress", "failed", "current")
"""In the order in which Flux asks them."""

turns = pytest.mark.parametrize("turn", TURNS.values(), ids=list(TURNS))


def documents(path: Path) -> list[Document]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def one(path: str, kind: str) -> Document:
    (found,) = [document for document in documents(GITOPS / path) if document["kind"] == kind]
    return found


# Argo CD


@pytest.fixture(scope="module")
def argo_cd() -> Callable[[Document], dict[str, str]]:
    """What Argo CD makes of an object: its Lua is 5.1, with little of its library."""
    lua = lua51.LuaRuntime(unpack_returned_tuples=True, register_eval=False)
    lua.execute("string = nil; io = nil; os = nil; math = nil; debug = nil; getmetatable('').__index = nil")
    health = lua.eval(f"function(obj)\n{one('argocd/argocd-cm.yaml', 'ConfigMap')['data'][HEALTH]}\nend")

    def ask(document: Document) -> dict[str, str]:
        return dict(health(lua.table_from(document, recursive=True)))

    return ask


@turns
def test_argo_cd_sees_how_a_job_is(argo_cd: Callable[[Document], dict[str, str]], turn: Turn) -> None:
    health = argo_cd(turn.document)

    assert health["status"] == turn.argo_cd
    assert health["message"]


def test_argo_cd_waits_for_a_job_that_has_no_status_at_all(argo_cd: Callable[[Document], dict[str, str]]) -> None:
    assert argo_cd(job(None)) == {"status": "Progressing", "message": "nobody has looked at it yet"}
    assert argo_cd(job({}))["status"] == "Progressing"


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ("failed", "exit code 1"),
        ("in line", "waiting for its turn: number 3 in line; at most 4 run at a time (limits.maxConcurrentJobs)"),
        ("a change that nobody has heard", "a change of its spec has not been heard yet"),
        ("its workflow's code fails", "KeyError"),
    ],
)
def test_argo_cd_shows_why(argo_cd: Callable[[Document], dict[str, str]], turn: str, message: str) -> None:
    assert message in argo_cd(TURNS[turn].document)["message"]


# Flux


def expressions() -> dict[str, str]:
    (check,) = one("flux/jobs.yaml", "Kustomization")["spec"]["healthCheckExprs"]
    assert (check["apiVersion"], check["kind"]) == ("perdure.dev/v1alpha1", "TrainingJob")
    return {name: check[name] for name in EXPRESSIONS}


@pytest.fixture(scope="module")
def flux(api_server_without_perdure: ApiServer) -> Callable[[Document], list[str]]:
    """Which expressions are true of an object, by CEL as Kubernetes has it: as rules of a CRD that is made for it."""
    condition = {"type": "object", "properties": {"type": {"type": "string"}, "status": {"type": "string"}}}
    rules = [
        {"rule": re.sub(r"(?<![\w.])status\.", "self.status.", text), "message": f"<{name}>"}
        for name, text in expressions().items()
    ]
    status = {"type": "object", "properties": {"conditions": {"type": "array", "maxItems": 16, "items": condition}}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "probes.tests.invalid"},
        "spec": {
            "group": "tests.invalid",
            "scope": "Cluster",
            "names": {"kind": "Probe", "plural": "probes"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"status": status},
                            "x-kubernetes-validations": rules,
                        }
                    },
                }
            ],
        },
    }
    kubectl = api_server_without_perdure.kubectl
    kubectl("create", "-f", "-", document=crd)
    kubectl("wait", "--for=condition=Established", "crd/probes.tests.invalid", "--timeout=30s")

    def ask(document: Document) -> list[str]:
        probe = {
            "apiVersion": "tests.invalid/v1",
            "kind": "Probe",
            "metadata": {"name": "probe"},
            "status": {
                "conditions": [
                    {key: each[key] for key in ("type", "status")} for each in document["status"]["conditions"]
                ]
            },
        }
        _, said = api_server_without_perdure.ask("create", "--dry-run=server", "-f", "-", document=probe)
        assert "<" in said, said  # they are never all true
        return [name for name in EXPRESSIONS if f"<{name}>" not in said]

    return ask


@pytest.mark.cluster
@pytest.mark.timeout(600)
@turns
def test_flux_sees_how_a_job_is(flux: Callable[[Document], list[str]], turn: Turn) -> None:
    assert flux(turn.document) == [turn.flux]


def test_the_status_of_a_new_object_has_what_flux_looks_at() -> None:
    """An expression about a field that is not there is an error to Flux."""
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    assert schema["properties"]["status"]["default"]["conditions"]


# kustomize


def kustomize(folder: str, *options: str) -> list[Document]:
    command = [str(binary("kubectl")), "kustomize", str(GITOPS / folder), *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [document for document in yaml.safe_load_all(result.stdout) if document]


@pytest.mark.cluster
def test_kustomize_builds_what_helm_would_install_with_the_patch() -> None:
    helm = Path(sys.executable).with_name("helm")
    built = kustomize("kustomize", "--enable-helm", f"--helm-command={helm}")
    values: Values = yaml.safe_load((GITOPS / "kustomize" / "values.yaml").read_text())

    names = {(each["kind"], each["metadata"]["name"]) for each in built}
    expected = {(each["kind"], each["metadata"]["name"]) for each in Chart().documents(values, tests=True)}
    assert names == expected | {("Namespace", "perdure-system")}
    patched = [each for each in built if each["kind"] == "Deployment"]
    assert {each["metadata"]["name"] for each in patched} == {"perdure-operator", "perdure-worker"}
    assert {each["spec"]["template"]["metadata"]["labels"]["cost-centre"] for each in patched} == {"ml-platform"}


@pytest.mark.cluster
def test_kustomize_builds_the_jobs_and_the_api_server_takes_them(api_server: ApiServer) -> None:
    built = kustomize("jobs")

    items = {"apiVersion": "v1", "kind": "List", "items": built}
    said = api_server.kubectl("create", "--dry-run=server", "-n", "default", "-f", "-", document=items)
    assert said.count("created (server dry run)") == len(built) == 1


# All of them


def strict(schema: Any) -> Any:
    """A schema as the API server reads it with strict validation: no fields that it does not name."""
    match schema:
        case dict():
            own = {key: strict(value) for key, value in schema.items()}
            named = "properties" in own and "additionalProperties" not in own
            return {**own, "additionalProperties": False} if named else own
        case list():
            return [strict(each) for each in schema]
    return schema


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(GITOPS).as_posix())
def test_every_object_is_one_of_its_kind(path: Path) -> None:
    for document in documents(path):
        if "kustomize.config.k8s.io" in document.get("apiVersion", "") or path.name == "values.yaml":
            continue  # kustomize's own: a test builds with it
        if document["kind"] in PLAIN_KINDS:
            continue
        (crd,) = [
            crd["spec"]
            for crd in FOREIGN
            if (f"{crd['spec']['group']}/{crd['spec']['versions'][0]['name']}", crd["spec"]["names"]["kind"])
            == (document["apiVersion"], document["kind"])
        ]
        schema = crd["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        jsonschema.validate(document["spec"], strict(schema))


def test_a_field_that_a_kind_does_not_have_would_be_seen() -> None:
    release = one("flux/perdure.yaml", "HelmRelease")
    (crd,) = [crd for crd in FOREIGN if crd["spec"]["names"]["kind"] == "HelmRelease"]
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

    with pytest.raises(jsonschema.ValidationError, match="enabled"):
        jsonschema.validate(merged(release["spec"], {"test": {"enabled": True}}), strict(schema))


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(one("argocd/perdure.yaml", "Application")["spec"]["source"]["helm"]["valuesObject"], id="argocd"),
        pytest.param(one("flux/perdure.yaml", "HelmRelease")["spec"]["values"], id="flux"),
        pytest.param(documents(GITOPS / "kustomize" / "values.yaml")[0], id="kustomize"),
    ],
)
def test_the_chart_takes_their_values(values: Values) -> None:
    assert Chart().documents(values)


def test_only_flux_which_runs_it_has_the_test() -> None:
    application = one("argocd/perdure.yaml", "Application")["spec"]["source"]["helm"]["valuesObject"]

    assert Chart().of_the_test(application) == []
    assert Chart().of_the_test(documents(GITOPS / "kustomize" / "values.yaml")[0]) == []
    release = one("flux/perdure.yaml", "HelmRelease")["spec"]
    assert release["test"]["enable"] is True
    assert Chart().of_the_test(release["values"])


def test_every_job_is_one_and_none_is_deleted_by_time() -> None:
    """What Git has and the cluster has not is made again: it would train again, for ever."""
    found = [each for path in FILES for each in documents(path) if each.get("kind") == "TrainingJob"]

    assert found
    for each in found:
        assert TrainingJobSpec.from_wire(each["spec"]).ttl_seconds_after_finished is None


def test_paths_into_the_repository_exist() -> None:
    assert (ROOT / one("flux/perdure.yaml", "HelmRelease")["spec"]["chart"]["spec"]["chart"]).is_dir()
    assert (ROOT / one("argocd/perdure.yaml", "Application")["spec"]["source"]["path"]).is_dir()
