"""What is counted of jobs that wait, and what that makes of one and an hour."""

from __future__ import annotations

import pytest
from bench.waiting import WAITS, Counts, of_each, table, total
from tests.cluster.conftest import Jobs, Kubectl

from perdure_api.spec import TrainingJobSpec

METRICS = """
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="trainingjobs",subresource="status",verb="PATCH"} 3
apiserver_request_total{code="200",resource="trainingjobs",verb="WATCH"} 1e+01
apiserver_request_total{code="200",resource="pods",verb="GET"} 100
apiserver_request_total_created{code="200",resource="trainingjobs",verb="GET"} 1.7e+09
plain_total 4.0
"""


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("apiserver_request_total", {"resource": "trainingjobs"}, 13),
        ("apiserver_request_total", {"resource": "trainingjobs", "verb": "PATCH"}, 3),
        ("apiserver_request_total", {}, 113),
        ("plain_total", {}, 4),
        ("none_total", {}, 0),
    ],
)
def test_samples_are_summed_by_their_labels(name: str, labels: dict[str, str], expected: float) -> None:
    assert total(METRICS, name, **labels) == expected


def test_what_a_job_costs_in_an_hour_is_what_comes_to_what_there_is_without_any() -> None:
    cost = of_each(Counts(ours=70, of_trainingjobs=40, events=5), Counts(ours=20, of_trainingjobs=40), 50, 0.1)

    assert cost == Counts(ours=10, of_trainingjobs=0, events=1)
    lines = list(table({"for its turn": cost}, Counts(ours=20, of_trainingjobs=40), 0.1))
    assert lines[0].startswith("Without any job, in an hour: 200 requests")
    assert lines[-1].split()[-3:] == ["10.00", "0.00", "1.00"]


@pytest.mark.parametrize("name", WAITS)
def test_each_kind_of_job_asks_for_what_the_contract_knows(name: str) -> None:
    spec = WAITS[name].spec(Jobs(Kubectl("none", "ns", program=None), "python:3"))  # type: ignore[arg-type] # none is asked

    assert not TrainingJobSpec.model_validate(spec).built_in
    assert not WAITS[name].waits({})
