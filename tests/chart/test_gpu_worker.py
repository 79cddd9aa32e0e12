"""The GPU pool: off unless asked for, sized by its own demand, and with no right that it does not use."""

from __future__ import annotations

import pytest

from perdure_scaler.demand import Queue
from perdure_scaler.settings import ScaledQueue, TaskType, settings_from
from perdure_workers import data_worker
from perdure_workers.settings import Pool, WorkerSettings
from tests.chart.rendered import LEAST, NAMESPACE, Chart, Document, Refusal, Values, merged, plain_environment

POOL: Values = {"gpuWorker": {"enabled": True}}
SCALED: Values = {"gpuWorker": {"enabled": True, "autoscaling": {"enabled": True}}, "scaler": {"enabled": True}}


def deployment(chart: Chart, *values: Values) -> Document:
    return chart.one("Deployment", "perdure-gpu-worker", LEAST, *values)["spec"]  # type: ignore[no-any-return]


def pod(chart: Chart, *values: Values) -> Document:
    return deployment(chart, *values)["template"]["spec"]  # type: ignore[no-any-return]


def of_the_pool(chart: Chart, *values: Values) -> set[str]:
    return {
        f"{each['kind']}/{each['metadata']['name']}"
        for each in chart.documents(LEAST, *values)
        if "gpu-worker" in each["metadata"]["name"]
    }


def test_nothing_of_it_is_there_by_default(chart: Chart) -> None:
    assert of_the_pool(chart, {"scaler": {"enabled": True}}) == set()
    everything = chart.text(LEAST, {"scaler": {"enabled": True}}).replace("perdure-gpu:", "")
    assert not [word for word in ("perdure-gpu", "gpu-worker", "gpuWorker") if word in everything]


def test_a_worker_understands_its_environment(chart: Chart) -> None:
    pool = {"slots": 3, "modelsKept": 2, "modelsLoadedFirst": ["s3://b/a", "s3://b/c"]}
    values = {"gpuWorker": {**pool, "terminationGracePeriodSeconds": 100}, "temporal": {"namespace": "training"}}
    (container,) = pod(chart, POOL, values)["containers"]
    *_, pool_name, _, slots = container["command"]

    settings = WorkerSettings.from_environment(plain_environment(container), Pool(pool_name), slots)

    assert container["command"][:3] == ["python", "-m", "perdure_workers"]
    assert (settings.pool, settings.slots, settings.models_kept) == (Pool.GPU, 3, 2)
    assert settings.models_loaded_first == ("s3://b/a", "s3://b/c")
    assert (settings.temporal_address, settings.temporal_namespace) == ("temporal:7233", "training")
    assert settings.grace_seconds == 85
    assert not settings.publish_slots


def test_it_runs_the_image_that_has_torch_on_a_gpu_of_its_own(chart: Chart) -> None:
    (container,) = pod(chart, POOL, {"gpuWorker": {"gpus": 2}})["containers"]

    assert container["image"].startswith("registry.example.com/perdure-gpu:")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "4Gi"}


def test_without_gpus_none_is_asked_for(chart: Chart) -> None:
    (container,) = pod(chart, POOL, {"gpuWorker": {"gpus": 0}})["containers"]

    assert "nvidia.com/gpu" not in str(container["resources"])


def test_it_runs_where_it_is_told(chart: Chart) -> None:
    place = {
        "nodeSelector": {"gpu": "a100"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "priorityClassName": "low",
    }

    assert place.items() <= pod(chart, POOL, {"gpuWorker": place}).items()


def test_the_credentials_of_a_postgresql_are_for_it_alone(chart: Chart) -> None:
    values = merged(POOL, {"gpuWorker": {"postgresql": {"secretName": "vectors"}}})
    spec = pod(chart, values)
    (container,) = spec["containers"]

    assert container["envFrom"] == [
        {"secretRef": {"name": "perdure-object-store", "optional": True}},
        {"secretRef": {"name": "vectors"}},
    ]
    (volume,) = [each["secret"] for each in spec["volumes"] if each["name"] == "postgresql"]
    assert volume == {"secretName": "vectors", "optional": True, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    assert {"name": "postgresql", "mountPath": "/etc/perdure/postgresql", "readOnly": True} in container["volumeMounts"]
    assert [each["metadata"]["name"] for each in chart.documents(LEAST, values) if "vectors" in str(each)] == [
        "perdure-gpu-worker"
    ]
    assert "postgresql" not in str(deployment(chart, POOL))
    alone = {"objectStore": {"secretName": ""}}
    assert pod(chart, values, alone)["containers"][0]["envFrom"] == [{"secretRef": {"name": "vectors"}}]
    assert "envFrom" not in pod(chart, POOL, alone)["containers"][0]


def test_an_upgrade_needs_no_gpu_to_spare(chart: Chart) -> None:
    assert deployment(chart, POOL)["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


@pytest.mark.parametrize("scaler", [True, False], ids=["with the scaler", "without"])
def test_it_may_say_its_slots_and_nothing_else(chart: Chart, scaler: bool) -> None:  # noqa: FBT001 - a value
    values = merged(POOL, {"scaler": {"enabled": scaler}})
    bound = [
        each["roleRef"]["name"]
        for each in chart.documents(LEAST, values)
        if each["kind"] in {"RoleBinding", "ClusterRoleBinding"}
        and [subject["name"] for subject in each["subjects"]] == ["perdure-gpu-worker"]
    ]

    assert pod(chart, values)["serviceAccountName"] == "perdure-gpu-worker"
    assert pod(chart, values)["automountServiceAccountToken"] is scaler
    assert bound == (["perdure-gpu-worker-slots"] if scaler else [])
    if scaler:
        assert chart.one("Role", "perdure-gpu-worker-slots", LEAST, values)["rules"] == [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}
        ]
        (container,) = pod(chart, values)["containers"]
        environment = {**plain_environment(container), "PERDURE_NAMESPACE": NAMESPACE}
        assert WorkerSettings.from_environment(environment, Pool.GPU).publish_slots


def test_the_scaler_counts_its_queue_and_its_pods(chart: Chart) -> None:
    (container,) = chart.one("Deployment", "perdure-scaler", LEAST, SCALED)["spec"]["template"]["spec"]["containers"]
    settings = settings_from({"PERDURE_NAMESPACE": NAMESPACE, **plain_environment(container)})

    assert settings.queues == (
        ScaledQueue(Queue("default", "perdure-cpu")),
        ScaledQueue(Queue("default", "perdure-gpu"), (TaskType.ACTIVITY,)),
        ScaledQueue(Queue("default", "perdure-data"), (TaskType.ACTIVITY,)),
    )
    assert settings.workers == (
        "app.kubernetes.io/name=perdure,app.kubernetes.io/instance=perdure,"
        "app.kubernetes.io/component in (worker,gpu-worker)"
    )


def test_its_autoscaler_asks_for_the_demand_of_the_queues_that_it_serves(chart: Chart) -> None:
    spec = chart.one("HorizontalPodAutoscaler", "perdure-gpu-worker", LEAST, SCALED)["spec"]

    assert spec["scaleTargetRef"]["name"] == "perdure-gpu-worker"
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 4)
    metrics = [each["external"] for each in spec["metrics"]]
    assert [each["metric"]["selector"]["matchLabels"] for each in metrics] == [
        {"queue": "perdure-gpu", "temporal_namespace": "default"},
        {"queue": "perdure-data", "temporal_namespace": "default"},
    ]
    assert [each["target"]["averageValue"] for each in metrics] == ["1", str(data_worker.SLOTS)]
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 600
    assert "replicas" not in deployment(chart, SCALED)
    assert "HorizontalPodAutoscaler/perdure-worker" not in of_the_pool(chart, SCALED)


@pytest.mark.parametrize(("given", "target"), [({"slots": 3}, "3"), ({"autoscaling": {"targetDemand": 7}}, "7")])
def test_a_pod_is_meant_for_as_much_as_it_has_slots_unless_told_otherwise(
    chart: Chart, given: Values, target: str
) -> None:
    values = merged(SCALED, {"gpuWorker": given})
    spec = chart.one("HorizontalPodAutoscaler", "perdure-gpu-worker", LEAST, values)["spec"]

    assert spec["metrics"][0]["external"]["target"]["averageValue"] == target


def test_keda_may_start_it_from_nothing(chart: Chart) -> None:
    keda = {"provider": "keda", "prometheusAddress": "http://prometheus:9090"}
    values = merged(SCALED, {"worker": {"autoscaling": keda}, "gpuWorker": {"autoscaling": {"minReplicas": 0}}})
    spec = chart.one("ScaledObject", "perdure-gpu-worker", LEAST, values)["spec"]

    assert (spec["scaleTargetRef"], spec["minReplicaCount"]) == ({"name": "perdure-gpu-worker"}, 0)
    assert spec["cooldownPeriod"] == 600, "the last one waits as long as the others"
    assert 'queue="perdure-gpu"' in spec["triggers"][0]["metadata"]["query"]
    assert 'queue="perdure-data"' in spec["triggers"][1]["metadata"]["query"]
    assert spec["triggers"][0]["metadata"]["serverAddress"] == "http://prometheus:9090"


def test_a_drain_takes_its_workers_one_after_another(chart: Chart) -> None:
    spec = chart.one("PodDisruptionBudget", "perdure-gpu-worker", LEAST, POOL)["spec"]

    assert spec["maxUnavailable"] == 1
    assert spec["selector"]["matchLabels"].items() <= deployment(chart, POOL)["template"]["metadata"]["labels"].items()
    left_out = {"gpuWorker": {"podDisruptionBudget": {"enabled": False}}}
    assert "PodDisruptionBudget/perdure-gpu-worker" not in of_the_pool(chart, POOL, left_out)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"scaler": {"enabled": False}}, "Found gpuWorker.autoscaling.enabled without scaler.enabled"),
        (
            {"gpuWorker": {"autoscaling": {"minReplicas": 5}}},
            "gpuWorker.autoscaling.minReplicas (5) above gpuWorker.autoscaling.maxReplicas (4)",
        ),
        ({"worker": {"autoscaling": {"provider": "keda"}}}, "worker.autoscaling.prometheusAddress is empty"),
        ({"gpuWorker": {"slots": 0}}, "gpuWorker.slots: Must be greater than or equal to 1"),
        ({"gpuWorker": {"slots": 1000}}, "gpuWorker.slots: Must be less than or equal to 4"),
        ({"gpuWorker": {"modelsLoadedFirst": ["minilm"]}}, "gpuWorker.modelsLoadedFirst.0: Does not match pattern"),
    ],
    ids=["no scaler", "more at least than at most", "no Prometheus", "no slots", "1000 slots", "no URI"],
)
def test_what_cannot_work_is_refused_with_a_sentence(chart: Chart, values: Values, sentence: str) -> None:
    with pytest.raises(Refusal) as refusal:
        chart.text(LEAST, merged(SCALED, values))

    assert sentence in str(refusal.value)


def test_under_network_policies_it_reaches_the_store_and_temporal_and_nobody_reaches_it(chart: Chart) -> None:
    quick = {
        "temporal": {"address": "", "quickStart": {"enabled": True}},
        "objectStore": {"quickStart": {"enabled": True, "secretKey": "a-secret-key"}},
        "networkPolicies": {"enabled": True},
    }
    policies = {
        each["metadata"]["name"]: each["spec"]
        for each in chart.documents(LEAST, POOL, quick)
        if each["kind"] == "NetworkPolicy"
    }
    own = policies["perdure-gpu-worker"]

    def lets_it_in(name: str) -> bool:
        (rule,) = policies[name]["ingress"]
        return own["podSelector"]["matchLabels"] in [
            peer["podSelector"]["matchLabels"] for peer in rule["from"] if "matchLabels" in peer["podSelector"]
        ]

    assert own["ingress"] == []
    assert [next(port["port"] for port in rule["ports"]) for rule in own["egress"]] == [53, 7233, 8333]
    assert lets_it_in("perdure-temporal")
    assert lets_it_in("perdure-seaweedfs")
