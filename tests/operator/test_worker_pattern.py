"""The Deployment of a version, made from one of an API server."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_operator.worker_pattern import PatternError, version_name, version_of


def pattern(labels: dict[str, str], annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """As an API server has it."""
    return {
        "metadata": {"name": "perdure-worker", "namespace": "perdure", "uid": "u", "annotations": annotations},
        "spec": {
            "replicas": 0,
            "strategy": {"type": "RollingUpdate"},
            "selector": {"matchLabels": {"app": "worker"}},
            "template": {"metadata": {"creationTimestamp": None, "labels": labels}, "spec": {"containers": []}},
        },
        "status": {"observedGeneration": 3},
    }


LABELS = {"app": "worker", "perdure.dev/build": "0.1.0-1a2b"}
GOOD = pattern(LABELS, {"perdure.dev/replicas": "3"})


def test_a_version_looks_as_the_pattern_says_and_has_its_pods() -> None:
    made = version_of(GOOD)
    annotations = made["metadata"].pop("annotations")

    assert made == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "perdure-worker-0-1-0-1a2b",
            "namespace": "perdure",
            "labels": {
                "perdure.dev/build": "0.1.0-1a2b",
                "perdure.dev/workers": "perdure-worker",
                "app.kubernetes.io/managed-by": "perdure-operator",
            },
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "perdure-worker", "uid": "u"}],
        },
        "spec": {
            "replicas": 3,
            "strategy": {"type": "RollingUpdate"},
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": {"containers": []}},
        },
    }
    assert annotations.keys() == {"perdure.dev/made-from"}


@pytest.mark.parametrize(
    ("deployment", "says"),
    [
        (pattern({"app": "worker"}), "have no label perdure.dev/build, expected the version of the workers; install"),
        (pattern(LABELS), 'has the annotation perdure.dev/replicas "", expected the number of its versions\' pods'),
        (pattern(LABELS, {"perdure.dev/replicas": "-1"}), 'perdure.dev/replicas "-1", expected'),
    ],
)
def test_a_deployment_that_is_no_pattern_is_refused_with_a_sentence(deployment: dict[str, Any], says: str) -> None:
    with pytest.raises(PatternError) as refused:
        version_of(deployment)

    assert says in str(refused.value)


def test_a_name_that_would_be_too_long_has_a_digest_for_the_build() -> None:
    long = "p" * 47

    assert len(version_name(long, "b" * 63)) == 47 + 1 + 8
    assert version_name(long, "b" * 63) != version_name(long, "b" * 62)
