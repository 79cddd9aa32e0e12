"""What drains, lost nodes and restarts do to operator and workers."""

from __future__ import annotations

import pytest

from perdure_operator.worker_pattern import version_of
from perdure_workers.settings import WorkerSettings
from tests.chart.rendered import LEAST, Chart, Document, Refusal, Values, merged, plain_environment

VERSIONED: Values = {"worker": {"versioning": {"enabled": True}}}


def budgets(chart: Chart, *values: Values) -> list[Document]:
    return [each["spec"] for each in chart.documents(LEAST, *values) if each["kind"] == "PodDisruptionBudget"]


def worker(chart: Chart, *values: Values) -> Document:
    return chart.one("Deployment", "perdure-worker", LEAST, *values)


def version(chart: Chart, build: str) -> Document:
    """The Deployment that the operator makes of a version."""
    pattern = worker(chart, VERSIONED, {"worker": {"versioning": {"build": build}}})
    return version_of(merged(pattern, {"metadata": {"uid": "its-uid"}}))


def covers(selector: Document, deployment: Document) -> bool:
    matched: bool = selector["matchLabels"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    return matched


@pytest.mark.parametrize("replicas", [1, 2, 5])
def test_a_drain_takes_workers_one_after_another_and_is_never_held_up_by_the_last(chart: Chart, replicas: int) -> None:
    (budget,) = budgets(chart, {"worker": {"replicas": replicas}})

    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert covers(budget["selector"], worker(chart))


def test_one_budget_covers_the_workers_of_every_version(chart: Chart) -> None:
    """Of two that cover the same pod the API server lets none be evicted."""
    (budget,) = budgets(chart, VERSIONED)

    assert budget["selector"].keys() == {"matchLabels"}
    assert all(covers(budget["selector"], version(chart, build)) for build in ("one", "other"))


def test_a_drain_leaves_a_scaler_that_the_api_server_can_ask(chart: Chart) -> None:
    """Without any, the API server does not know all that it serves, and deletes no namespace."""
    scaler = {"scaler": {"enabled": True}}
    deployment = chart.one("Deployment", "perdure-scaler", LEAST, scaler)

    (budget,) = [each for each in budgets(chart, scaler) if covers(each["selector"], deployment)]

    assert (deployment["spec"]["replicas"], budget["maxUnavailable"]) == (2, 1)
    left_out = {"scaler": {"podDisruptionBudget": {"enabled": False}}}
    assert not [each for each in budgets(chart, scaler, left_out) if covers(each["selector"], deployment)]


def test_a_drain_of_the_operators_node_waits_for_nothing(chart: Chart) -> None:
    operator = chart.one("Deployment", "perdure-operator", LEAST)

    assert not [budget for budget in budgets(chart) if covers(budget["selector"], operator)]


def test_the_budget_can_be_left_out_or_be_a_larger_one(chart: Chart) -> None:
    assert budgets(chart, {"worker": {"podDisruptionBudget": {"enabled": False}}}) == []
    (budget,) = budgets(chart, {"worker": {"podDisruptionBudget": {"maxUnavailable": "50%"}}})
    assert budget["maxUnavailable"] == "50%"


@pytest.mark.parametrize("count", [0, "0%", "101%", "one"])
def test_a_budget_that_would_hold_every_drain_up_is_refused_by_name(chart: Chart, count: object) -> None:
    with pytest.raises(Refusal, match=r"worker\.podDisruptionBudget\.maxUnavailable"):
        chart.text(LEAST, {"worker": {"podDisruptionBudget": {"maxUnavailable": count}}})


@pytest.mark.parametrize("versioned", [False, True], ids=["one version", "versions"])
def test_workers_are_spread_over_nodes_and_zones_where_that_can_be(chart: Chart, *, versioned: bool) -> None:
    deployment = version(chart, "one") if versioned else worker(chart)
    spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]

    assert [each["topologyKey"] for each in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for each in spread:
        assert (each["maxSkew"], each["whenUnsatisfiable"]) == (1, "ScheduleAnyway")
        assert covers(each["labelSelector"], deployment)


def test_workers_of_a_version_are_spread_whatever_there_is_of_another(chart: Chart) -> None:
    one, other = version(chart, "one"), version(chart, "other")

    for each in one["spec"]["template"]["spec"]["topologySpreadConstraints"]:
        assert not covers(each["labelSelector"], other)


@pytest.mark.parametrize("seconds", [30, 60, 3600])
def test_a_worker_is_done_before_it_is_killed(chart: Chart, seconds: int) -> None:
    deployment = worker(chart, {"worker": {"terminationGracePeriodSeconds": seconds}})
    spec = deployment["spec"]["template"]["spec"]
    settings = WorkerSettings.from_environment(plain_environment(spec["containers"][0]))

    assert spec["terminationGracePeriodSeconds"] == seconds
    assert settings.grace_seconds == seconds - 15


def test_too_short_a_grace_period_is_refused_by_name(chart: Chart) -> None:
    with pytest.raises(Refusal, match=r"worker\.terminationGracePeriodSeconds: Must be greater than or equal to 30"):
        chart.text(LEAST, {"worker": {"terminationGracePeriodSeconds": 10}})
