"""The API server's own count of what it was asked."""

from __future__ import annotations

import json

import pytest

from bench.cluster import requests
from bench.cluster.errors import BenchError
from bench.cluster.requests import Request


def told(verb: str, resource: str, times: str, *, subresource: str = "", code: int = 200) -> str:
    labels = {
        "code": code, "component": "apiserver", "dry_run": "", "group": "", "resource": resource, "scope": "resource",
        "subresource": subresource, "verb": verb, "version": "v1",
    }  # fmt: skip
    pairs = ",".join(f"{key}={json.dumps(str(value))}" for key, value in labels.items())
    return f"apiserver_request_total{{{pairs}}} {times}"


PAGE = "\n".join(
    [
        "# HELP apiserver_request_total [STABLE] Counter of apiserver requests broken out for each verb.",
        "# TYPE apiserver_request_total counter",
        told("POST", "pods", "5", code=201),
        told("POST", "pods", "2", code=409),
        told("POST", "pods", "1.2e+01", subresource="binding"),
        told("PUT", "leases", "900"),
        told("PATCH", "nodes", "90", subresource="status"),
        told("GET", "", "3", subresource="/readyz"),
        told("POST", "subjectaccessreviews", "4"),
        'apiserver_request_total_of_something_else{verb="POST"} 7',
        "",
    ]
)


def test_requests_are_counted_by_verb_and_resource_whatever_the_answer() -> None:
    assert requests.counted(PAGE) == {
        Request("pods", "POST"): 7,
        Request("pods/binding", "POST"): 12,
        Request("/readyz", "GET"): 3,
        Request("subjectaccessreviews", "POST"): 4,
    }


@pytest.mark.parametrize(
    ("text", "writes"),
    [
        ("POST pods", True),
        ("APPLY trainingjobs/status", True),
        ("DELETECOLLECTION events", True),
        ("GET pods", False),
        ("WATCH pods", False),
        ("POST subjectaccessreviews", False),
        ("POST serviceaccounts/token", True),
    ],
)
def test_what_only_asks_is_no_write(text: str, writes: bool) -> None:  # noqa: FBT001
    assert Request.parse(text).writes is writes
    assert str(Request.parse(text)) == text


def test_only_what_was_asked_in_between_counts() -> None:
    before = {Request("pods", "GET"): 3, Request("jobs", "GET"): 1}
    after = {Request("pods", "GET"): 5, Request("jobs", "GET"): 1, Request("jobs", "POST"): 2}

    assert requests.between(before, after) == {Request("pods", "GET"): 2, Request("jobs", "POST"): 2}


def test_an_api_server_that_was_started_again_makes_no_figures() -> None:
    with pytest.raises(BenchError, match="fewer GET pods than before"):
        requests.between({Request("pods", "GET"): 3}, {Request("pods", "GET"): 2})
