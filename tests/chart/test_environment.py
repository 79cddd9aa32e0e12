"""The chart and the programs mean the same by the same variable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perdure_control.credentials import IN_THE_CLEAR, CredentialFiles
from perdure_operator.admission import Limits
from perdure_operator.settings import ReceiverSettings, settings_from
from perdure_workers.settings import WorkerSettings
from tests.chart.rendered import LEAST, Chart, Document, Values, plain_environment


def _container(chart: Chart, name: str, *values: Values) -> Document:
    container: Document = chart.one("Deployment", f"perdure-{name}", *values)["spec"]["template"]["spec"]["containers"][
        0
    ]
    return container


def _operator_environment(chart: Chart, *values: Values) -> dict[str, str]:
    return {"PERDURE_NAMESPACE": "perdure-system", **plain_environment(_container(chart, "operator", *values))}


def test_the_operator_understands_its_environment(chart: Chart, everything: Values) -> None:
    settings = settings_from(_operator_environment(chart, everything))

    assert settings.temporal_address == "perdure-temporal.perdure-system.svc:7233"
    assert settings.watched_namespaces == ()
    assert settings.receiver == ReceiverSettings(secret="perdure-progress-tls", service="perdure-progress")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({}, Limits(), id="none"),
        pytest.param({"maxConcurrentJobs": 0}, Limits(cluster=0), id="none may start, which is not no limit"),
        pytest.param(
            {"maxConcurrentJobs": 1_000_000, "maxConcurrentJobsPerNamespace": 4, "namespaces": {"ml": 8, "a-b": 0}},
            Limits(1_000_000, 4, {"ml": 8, "a-b": 0}),
            id="all",
        ),
    ],
)
def test_the_operator_gets_its_limits(chart: Chart, values: Values, expected: Limits) -> None:
    assert settings_from(_operator_environment(chart, LEAST, {"limits": values})).limits == expected


def test_the_operator_leaves_somebody_elses_certificate_alone(chart: Chart) -> None:
    values = {"progress": {"tls": {"existingSecret": "from-cert-manager"}}}

    assert settings_from(_operator_environment(chart, LEAST, values)).receiver is None


def test_a_worker_understands_its_environment(chart: Chart, everything: Values) -> None:
    values = {
        "watchNamespaces": ["a", "b"],
        "imagePullSecrets": [{"name": "one"}, {"name": "two"}],
        "worker": {"slots": 7, "watchSlots": 70},
        "logLevel": "debug",
        "temporal": {"namespace": "training"},
        "image": {"registry": "r", "pullPolicy": "Always", "trainer": {"tag": "t"}},
    }

    settings = WorkerSettings.from_environment(plain_environment(_container(chart, "worker", everything, values)))

    assert settings == WorkerSettings(
        temporal_address="perdure-temporal.perdure-system.svc:7233",
        temporal_namespace="training",
        log_level="debug",
        watch_namespaces=("a", "b"),
        pod_name=settings.pod_name,
        slots=7,
        watch_slots=70,
        trainer_image="r/perdure-gpu:t",
        trainer_image_pull_policy="Always",
        image_pull_secrets=("one", "two"),
        progress_url="https://perdure-progress.perdure-system.svc:8443/v1/progress",
        progress_tls_folder=Path("/var/run/perdure-tls"),
        store_env={
            "AWS_ALLOW_HTTP": "true",
            "AWS_ENDPOINT_URL": "http://perdure-seaweedfs.perdure-system.svc:8333",
            "AWS_REGION": "us-east-1",
        },
        store_secret="perdure-object-store",
    )


ENTERED: Values = {
    "tls": {"enabled": True, "existingSecret": "client", "serverName": "frontend", "publicAuthority": True},
    "apiKey": {"existingSecret": "key", "key": "of-perdure"},
}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({}, IN_THE_CLEAR, id="in the clear"),
        pytest.param({"tls": {"enabled": True}}, CredentialFiles(tls=True), id="TLS alone"),
        pytest.param(
            ENTERED,
            CredentialFiles(
                tls=True,
                folder=Path("/var/run/perdure-temporal/tls"),
                server_name="frontend",
                public_authority=True,
                api_key=Path("/var/run/perdure-temporal/api-key/api-key"),
            ),
            id="all",
        ),
    ],
)
def test_operator_and_workers_enter_temporal_alike(chart: Chart, values: Values, expected: CredentialFiles) -> None:
    given = {"temporal": values}
    worker = WorkerSettings.from_environment(plain_environment(_container(chart, "worker", LEAST, given)))

    assert worker.temporal_credentials == expected
    assert settings_from(_operator_environment(chart, LEAST, given)).temporal_credentials == expected


@pytest.mark.parametrize("name", ["operator", "worker"])
def test_what_opens_temporal_is_mounted_where_it_is_read_and_nowhere_else(chart: Chart, name: str) -> None:
    spec = chart.one("Deployment", f"perdure-{name}", LEAST, {"temporal": ENTERED})["spec"]["template"]["spec"]
    volumes = {each["name"]: each["secret"] for each in spec["volumes"] if each["name"].startswith("temporal-")}
    (container,) = spec["containers"]
    mounts = {each["name"]: each for each in container["volumeMounts"]}

    assert volumes == {
        "temporal-tls": {"secretName": "client"},
        "temporal-api-key": {"secretName": "key", "items": [{"key": "of-perdure", "path": "api-key"}]},
    }
    for volume, path in {"temporal-tls": "tls", "temporal-api-key": "api-key"}.items():
        # No subPath: such a file never changes again.
        mounted = {"name": volume, "mountPath": f"/var/run/perdure-temporal/{path}", "readOnly": True}
        assert mounts[volume] == mounted


def test_a_worker_reads_the_store_as_its_training_pods_do(chart: Chart, ci_values: Values) -> None:
    environment = plain_environment(_container(chart, "worker", ci_values))

    for name, value in json.loads(environment["PERDURE_STORE_ENV"]).items():
        assert environment[name] == value


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        pytest.param({}, {"AWS_REGION": "us-east-1"}, id="AWS itself"),
        pytest.param({"region": "", "env": {"GOOGLE_X": "y"}}, {"GOOGLE_X": "y"}, id="another cloud"),
        pytest.param(
            {"endpoint": "https://s3.example.com", "region": ""},
            {"AWS_ENDPOINT_URL": "https://s3.example.com"},
            id="an S3-compatible store",
        ),
        pytest.param(
            {"endpoint": "http://minio:9000", "env": {"AWS_REGION": "here"}},
            {"AWS_ENDPOINT_URL": "http://minio:9000", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "here"},
            id="plain HTTP, and env has the last word",
        ),
    ],
)
def test_the_store_is_described_by_plain_variables(chart: Chart, store: Values, expected: Document) -> None:
    environment = plain_environment(_container(chart, "worker", LEAST, {"objectStore": store}))

    assert json.loads(environment["PERDURE_STORE_ENV"]) == expected


def test_no_secret_is_looked_for_where_workload_identity_serves(chart: Chart) -> None:
    container = _container(chart, "worker", LEAST, {"objectStore": {"secretName": ""}})

    assert "envFrom" not in container
    assert WorkerSettings.from_environment(plain_environment(container)).store_secret is None


def test_the_worker_mounts_the_receivers_key_but_not_its_authoritys(chart: Chart) -> None:
    spec = chart.one("Deployment", "perdure-worker", LEAST)["spec"]["template"]["spec"]
    (volume,) = [each["secret"] for each in spec["volumes"] if "secret" in each]

    assert "optional" not in volume
    assert {item["key"] for item in volume["items"]} == {"ca.crt", "tls.crt", "tls.key"}


@pytest.mark.parametrize("tag", ["", "1.2.3", "1.2.3@sha256:" + "0" * 64])
def test_an_image_without_a_tag_is_the_charts_own_version(chart: Chart, tag: str) -> None:
    values = {"image": {"registry": "r.example.com/ml", "cpu": {"tag": tag}}}

    assert _container(chart, "operator", LEAST, values)["image"] == f"r.example.com/ml/perdure-cpu:{tag or '0.1.0'}"
