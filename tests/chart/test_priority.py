"""Who gives way on a node that is full."""

from __future__ import annotations

import pytest

from tests.chart.rendered import LEAST, Chart, Refusal, Values, merged, pod_templates

SCALER: Values = {"scaler": {"enabled": True}}
OWN: Values = {"priorityClass": {"create": True}}


def classes(chart: Chart, *values: Values) -> dict[str, str | None]:
    """The PriorityClass of each pod."""
    return {
        name: template["spec"].get("priorityClassName")
        for name, template in pod_templates(chart.documents(*values)).items()
    }


def test_by_default_there_is_none(chart: Chart) -> None:
    assert "PriorityClass" not in {each["kind"] for each in chart.documents(LEAST, SCALER)}
    assert set(classes(chart, LEAST, SCALER).values()) == {None}


def test_what_carries_the_jobs_gets_it_and_quick_starts_do_not(chart: Chart, everything: Values) -> None:
    (made,) = [each for each in chart.documents(everything, SCALER, OWN) if each["kind"] == "PriorityClass"]

    assert (made["metadata"]["name"], made["value"], made["globalDefault"]) == ("perdure", 1_000_000, False)
    assert classes(chart, everything, SCALER, OWN) == {
        "Deployment/perdure-operator": "perdure",
        "Deployment/perdure-worker": "perdure",
        "Deployment/perdure-scaler": "perdure",
        "StatefulSet/perdure-temporal": None,
        "StatefulSet/perdure-seaweedfs": None,
    }


def test_a_class_that_is_named_goes_before_it(chart: Chart) -> None:
    values = merged(LEAST, SCALER, OWN, {"worker": {"priorityClassName": "high"}})

    assert classes(chart, values) == {
        "Deployment/perdure-operator": "perdure",
        "Deployment/perdure-worker": "high",
        "Deployment/perdure-scaler": "perdure",
    }


@pytest.mark.parametrize("value", [0, 1_000_000_001, "high"])
def test_a_value_that_no_class_of_users_can_have_is_refused_by_name(chart: Chart, value: object) -> None:
    with pytest.raises(Refusal, match=r"priorityClass\.value: "):
        chart.text(LEAST, {"priorityClass": {"create": True, "value": value}})
