"""The scaler, and what sizes the pool of workers by what it tells."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from perdure_operator.settings import ReceiverSettings
from perdure_operator.settings import settings_from as operator_settings_from
from perdure_scaler.demand import Queue
from perdure_scaler.metrics_api import GROUP, METRIC, VERSION
from perdure_scaler.settings import ScaledQueue, Settings, TaskType, settings_from
from perdure_workers.settings import WorkerSettings
from tests.chart.promtool import find_promtool, run_promtool
from tests.chart.rendered import LEAST, NAMESPACE, ROOT, Chart, Document, Refusal, Values, merged, plain_environment

SCALER: Values = {"scaler": {"enabled": True}}
SCALING: Values = {**SCALER, "worker": {"slots": 20, "autoscaling": {"enabled": True}}}
OWN_NAMESPACE = {"PERDURE_NAMESPACE": NAMESPACE}


def with_provider(provider: str, **scaling: object) -> Values:
    return merged(SCALING, {"worker": {"autoscaling": {"provider": provider, **scaling}}})


def container(chart: Chart, name: str, *values: Values) -> Document:
    spec = chart.one("Deployment", f"perdure-{name}", LEAST, *values)["spec"]["template"]["spec"]
    found: Document = spec["containers"][0]
    return found


def kinds(chart: Chart, *values: Values) -> set[tuple[str, str]]:
    return {(each["kind"], each["metadata"]["name"]) for each in chart.documents(LEAST, *values)}


def test_nothing_of_it_is_there_by_default(chart: Chart) -> None:
    assert not [name for _, name in kinds(chart) if "scaler" in name or "slots" in name or "external" in name]
    assert "HorizontalPodAutoscaler" not in {kind for kind, _ in kinds(chart)}
    assert "PERDURE_PUBLISH_SLOTS" not in plain_environment(container(chart, "worker"))


def test_the_scaler_understands_its_environment(chart: Chart) -> None:
    queues = [{"queue": "a/b", "label": "a-b", "temporalNamespace": "x", "types": ["activity"]}]
    values = {"scaler": {"holdSeconds": 90, "extraQueues": queues}, "temporal": {"namespace": "training"}}

    settings = settings_from({**OWN_NAMESPACE, **plain_environment(container(chart, "scaler", SCALER, values))})

    assert settings == Settings(
        temporal_address="temporal:7233",
        temporal_namespace="training",
        namespace=NAMESPACE,
        workers=settings.workers,
        queues=(
            ScaledQueue(Queue("training", "perdure-cpu")),
            ScaledQueue(Queue("x", "a/b"), (TaskType.ACTIVITY,), "a-b"),
        ),
        hold_seconds=90.0,
        tls_folder=settings.tls_folder,
        service="perdure-scaler",
    )


def test_the_scaler_looks_at_the_workers_and_at_nothing_else(chart: Chart) -> None:
    settings = settings_from({**OWN_NAMESPACE, **plain_environment(container(chart, "scaler", SCALER))})
    labels = chart.one("Deployment", "perdure-worker", LEAST, SCALER)["spec"]["template"]["metadata"]["labels"]
    wanted = dict(part.split("=") for part in settings.workers.split(","))

    assert wanted.items() <= labels.items()
    assert wanted["app.kubernetes.io/component"] == "worker"


def test_workers_tell_their_slots_where_somebody_asks(chart: Chart) -> None:
    environment = {**OWN_NAMESPACE, **plain_environment(container(chart, "worker", SCALER))}

    assert WorkerSettings.from_environment(environment).publish_slots
    assert chart.one("Role", "perdure-worker-slots", LEAST, SCALER)["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}
    ]


def test_the_api_server_is_led_to_the_scaler_over_a_certificate_that_the_operator_keeps(chart: Chart) -> None:
    settings = operator_settings_from({**OWN_NAMESPACE, **plain_environment(container(chart, "operator", SCALER))})
    spec = chart.one("APIService", f"{VERSION}.{GROUP}", LEAST, SCALER)["spec"]
    service = chart.one("Service", "perdure-scaler", LEAST, SCALER)["spec"]
    secret = chart.one("Secret", "perdure-scaler-tls", LEAST, SCALER)

    assert settings.scaler == ReceiverSettings(secret="perdure-scaler-tls", service="perdure-scaler")
    assert spec["service"] == {"name": "perdure-scaler", "namespace": NAMESPACE, "port": 443}
    assert {"name": "api", "port": 443, "targetPort": "api"} in service["ports"]
    assert {"name": "api", "containerPort": 8443} in container(chart, "scaler", SCALER)["ports"]
    assert "insecureSkipTLSVerify" not in spec
    # What is rendered would be put back at each apply.
    assert "caBundle" not in spec
    assert not {"data", "stringData"} & secret.keys()
    assert chart.one("Role", "perdure-operator", LEAST, SCALER)["rules"][0]["resourceNames"] == [
        "perdure-progress-tls",
        "perdure-scaler-tls",
    ]


def test_somebody_elses_certificate_is_left_alone(chart: Chart) -> None:
    values = merged(SCALER, {"scaler": {"tls": {"existingSecret": "from-cert-manager"}}})
    volumes = chart.one("Deployment", "perdure-scaler", LEAST, values)["spec"]["template"]["spec"]["volumes"]

    assert (
        operator_settings_from({**OWN_NAMESPACE, **plain_environment(container(chart, "operator", values))}).scaler
        is None
    )
    assert ("Secret", "perdure-scaler-tls") not in kinds(chart, values)
    assert [each["secret"]["secretName"] for each in volumes if "secret" in each] == ["from-cert-manager"]


def test_the_scaler_may_do_this_much_and_no_more(chart: Chart) -> None:
    bound = {
        (each["kind"], each["metadata"].get("namespace"), each["roleRef"]["name"])
        for each in chart.documents(LEAST, SCALER)
        if each["kind"] in {"RoleBinding", "ClusterRoleBinding"}
        and [subject["name"] for subject in each["subjects"]] == ["perdure-scaler"]
    }

    assert bound == {
        ("RoleBinding", NAMESPACE, "perdure-scaler"),
        ("RoleBinding", "kube-system", "extension-apiserver-authentication-reader"),
        ("ClusterRoleBinding", None, "perdure-scaler"),
    }
    assert chart.one("Role", "perdure-scaler", LEAST, SCALER)["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    ]
    assert chart.one("ClusterRole", "perdure-scaler", LEAST, SCALER)["rules"] == [
        {
            "apiGroups": ["apiregistration.k8s.io"],
            "resources": ["apiservices"],
            "resourceNames": [f"{VERSION}.{GROUP}"],
            "verbs": ["get", "patch"],
        }
    ]


@pytest.mark.parametrize("provider", ["external-metrics", "prometheus-adapter"])
def test_the_autoscaler_asks_for_the_demand_of_the_workers_queue(chart: Chart, provider: str) -> None:
    spec = chart.one("HorizontalPodAutoscaler", "perdure-worker", LEAST, with_provider(provider))["spec"]

    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "perdure-worker"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 10)
    assert spec["metrics"] == [
        {
            "type": "External",
            "external": {
                "metric": {
                    "name": METRIC,
                    "selector": {"matchLabels": {"queue": "perdure-cpu", "temporal_namespace": "default"}},
                },
                "target": {"type": "AverageValue", "averageValue": "20"},
            },
        }
    ]


@pytest.mark.parametrize(("target", "value"), [(None, "20"), (7, "7")])
def test_a_pod_is_meant_for_as_much_as_it_has_slots_unless_told_otherwise(
    chart: Chart, target: int | None, value: str
) -> None:
    values = with_provider("external-metrics", targetDemand=target)
    spec = chart.one("HorizontalPodAutoscaler", "perdure-worker", LEAST, values)["spec"]

    assert spec["metrics"][0]["external"]["target"]["averageValue"] == value


@pytest.mark.parametrize("provider", ["external-metrics", "keda"])
def test_more_come_at_once_and_fewer_slowly(chart: Chart, provider: str) -> None:
    values = with_provider(provider, prometheusAddress="http://prometheus:9090", maxReplicas=30, scaleDownSeconds=120)
    documents = chart.documents(LEAST, values)
    behavior = next(
        each["spec"].get("behavior") or each["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        for each in documents
        if each["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}
    )

    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert {"type": "Pods", "value": 30, "periodSeconds": 15} in behavior["scaleUp"]["policies"]
    assert behavior["scaleDown"] == {
        "stabilizationWindowSeconds": 120,
        "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
    }


def test_keda_asks_prometheus_and_takes_nothing_for_unknown(chart: Chart) -> None:
    values = with_provider("keda", prometheusAddress="http://prometheus:9090", minReplicas=3)
    spec = chart.one("ScaledObject", "perdure-worker", LEAST, values)["spec"]
    (trigger,) = spec["triggers"]

    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (3, 10)
    assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
    assert trigger["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": f'max({METRIC}{{queue="perdure-cpu",temporal_namespace="default",namespace="{NAMESPACE}"}})',
        "threshold": "20",
        "ignoreNullValues": "false",
    }


def test_the_adapters_rule_gives_the_autoscaler_what_one_of_the_scalers_knows(chart: Chart, tmp_path: Path) -> None:
    """As prometheus-adapter puts a query together: the metric, the namespace, and what the autoscaler selects by."""
    (rule,) = yaml.safe_load((ROOT / "examples" / "prometheus-adapter.yaml").read_text())["rules"]["external"]
    spec = chart.one("HorizontalPodAutoscaler", "perdure-worker", LEAST, with_provider("prometheus-adapter"))["spec"]
    metric = spec["metrics"][0]["external"]["metric"]
    labels = {"namespace": NAMESPACE, **metric["selector"]["matchLabels"]}
    matchers = ",".join(f'{name}="{value}"' for name, value in labels.items())
    query = rule["metricsQuery"].replace("<<.Series>>", metric["name"]).replace("<<.LabelMatchers>>", matchers)

    def told(value: str, **other: str) -> Document:
        given = ",".join(f'{name}="{each}"' for name, each in {**labels, **other}.items())
        return {"series": f"{metric['name']}{{{given}}}", "values": value}

    series = [told("7x5", pod="a"), told("_x5", pod="b"), told("99x5", queue="q"), told("99x5", namespace="n")]
    expected = {"labels": '{queue="perdure-cpu",temporal_namespace="default"}', "value": 7}
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [
        {"expr": query, "eval_time": "3m", "exp_samples": [expected]},
    ]}  # fmt: skip
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))

    assert rule["seriesQuery"].startswith(METRIC)
    run_promtool(find_promtool(), "test", "rules", tmp_path / "test.yaml")


@pytest.mark.parametrize("provider", ["keda", "prometheus-adapter"])
def test_another_provider_of_external_metrics_is_not_pushed_aside(chart: Chart, provider: str) -> None:
    values = with_provider(provider, prometheusAddress="http://prometheus:9090")
    found = kinds(chart, values)

    assert ("Deployment", "perdure-scaler") in found
    assert not {"APIService", "ClusterRole/perdure-scaler"} & {*(kind for kind, _ in found), *map("/".join, found)}
    assert ("Secret", "perdure-scaler-tls") not in found
    environment = {**OWN_NAMESPACE, **plain_environment(container(chart, "scaler", values))}
    assert settings_from(environment).tls_folder is None


def test_an_upgrade_leaves_the_number_of_workers_to_the_autoscaler(chart: Chart) -> None:
    assert "replicas" not in chart.one("Deployment", "perdure-worker", LEAST, SCALING)["spec"]
    assert chart.one("Deployment", "perdure-worker", LEAST, SCALER)["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        pytest.param(
            {"worker": {"versioning": {"enabled": True}}},
            "Found worker.autoscaling.enabled and worker.versioning.enabled, expected one of them",
            id="versions",
        ),
        pytest.param(
            {"scaler": {"enabled": False}}, "worker.autoscaling.enabled without scaler.enabled", id="no scaler"
        ),
        pytest.param(
            {"worker": {"autoscaling": {"minReplicas": 11}}},
            "worker.autoscaling.minReplicas (11) above worker.autoscaling.maxReplicas (10)",
            id="more at least than at most",
        ),
        pytest.param(
            {"worker": {"autoscaling": {"provider": "keda"}}},
            "worker.autoscaling.provider is keda and worker.autoscaling.prometheusAddress is empty",
            id="no Prometheus",
        ),
        pytest.param(
            {"worker": {"autoscaling": {"minReplicas": 0}}},
            "minReplicas: Must be greater than or equal to 1",
            id="none",
        ),
        pytest.param({"worker": {"autoscaling": {"provider": "hpa"}}}, "provider must be one of", id="provider"),
        pytest.param({"scaler": {"extraQueues": [{"name": "a"}]}}, "extraQueues.0: queue is required", id="no name"),
    ],
)
def test_values_that_size_nothing_are_refused_with_a_sentence(chart: Chart, values: Values, sentence: str) -> None:
    with pytest.raises(Refusal) as refusal:
        chart.text(LEAST, SCALING, values)

    assert sentence in str(refusal.value)
