"""Image names on their way into the cluster."""

from __future__ import annotations

import pytest

from perdure_devcluster import base_image
from perdure_devcluster.images import image_with_tag, repository_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localhost/perdure-cpu:dev", "perdure-cpu:dev"),
        ("registry.example/perdure/operator:1.0", "perdure/operator:1.0"),
        ("198.18.128.1:5000/perdure/operator:1.0", "perdure/operator:1.0"),
        ("perdure/operator:1.0", "perdure/operator:1.0"),
        ("perdure-cpu", "perdure-cpu:latest"),
        ("localhost:5000/a/b", "a/b:latest"),
    ],
)
def test_an_image_keeps_its_name_without_the_registry(name: str, expected: str) -> None:
    assert repository_name(name) == expected


def test_the_base_images_key_changes_with_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    before = base_image.image_name()
    monkeypatch.setattr(base_image, "_OPTIONS", ("--include=python3,git",))
    assert base_image.image_name() != before


LISTING = "sha256:aa 100 r/cpu:dev\nsha256:bb 100 \nsha256:cc 100 r/gpu:dev,r/gpu:1\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("r/cpu:dev", "sha256:aa"), ("r/gpu:dev", None), ("r/other:dev", None)],
    ids=["found", "has another name too", "not there"],
)
def test_an_image_is_replaced_only_when_it_has_no_other_name(name: str, expected: str | None) -> None:
    assert image_with_tag(LISTING, name) == expected
