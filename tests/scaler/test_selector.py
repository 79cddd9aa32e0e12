"""Label selectors as Kubernetes writes them."""

from __future__ import annotations

import pytest

from perdure_scaler.selector import BadSelector, parse_selector

LABELS = {"queue": "perdure-cpu", "temporal_namespace": "default"}


@pytest.mark.parametrize(
    ("selector", "met"),
    [
        ("", True),
        ("queue=perdure-cpu", True),
        ("queue==perdure-cpu", True),
        (" queue = perdure-cpu ", True),
        ("queue=perdure-gpu", False),
        ("queue!=perdure-gpu", True),
        ("queue!=perdure-cpu", False),
        ("queue in (perdure-cpu)", True),
        ("queue in (a, perdure-cpu),temporal_namespace=default", True),
        ("queue in (a,b)", False),
        ("queue notin (a,b),queue", True),
        ("queue notin (perdure-cpu)", False),
        ("queue=perdure-cpu,temporal_namespace=other", False),
        ("queue", True),
        ("!queue", False),
        ("other", False),
        ("!other", True),
        ("other!=x", True),
    ],
)
def test_labels_meet_a_selector_or_not(selector: str, *, met: bool) -> None:
    assert all(requirement.met_by(LABELS) for requirement in parse_selector(selector)) is met


@pytest.mark.parametrize("selector", ["queue=a b", "queue in a", "queue in (a", "=a", ",", "queue=a,", "q in (a/b)"])
def test_what_is_no_selector_is_refused_with_what_was_found(selector: str) -> None:
    with pytest.raises(BadSelector, match="labelSelector has"):
        parse_selector(selector)
