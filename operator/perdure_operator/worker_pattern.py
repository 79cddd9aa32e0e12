"""The Deployment of one version of the workers, made from the one that the installation has: pure.

The installation's own Deployment has no pods where versions are told apart. It says what workers of the installed
version look like, and owns those of all versions, so that they go with it.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final

from perdure_api import names
from perdure_control.cluster import Document

_NAME_LIMIT: Final = 63
_DIGEST_CHARACTERS: Final = 8
_NO_NAME = re.compile(r"[^a-z0-9]+")


class PatternError(Exception):
    """A Deployment that no version can be made from; the message says what was found, expected, and what to do."""


def build_of(deployment: Document) -> str:
    """The build that a Deployment's pods are labelled with.

    Raises:
        PatternError: they are not.
    """
    labels = deployment["spec"]["template"]["metadata"].get("labels") or {}
    build: str = labels.get(names.LABEL_BUILD) or ""
    if not build:
        raise PatternError(
            f"pods of Deployment {deployment['metadata']['name']} have no label {names.LABEL_BUILD}, expected the "
            f"version of the workers; install the chart with worker.versioning.enabled"
        )
    return build


def version_of(pattern: Document) -> Document:
    """The Deployment of the version that a pattern speaks of, with a digest of all the rest of it.

    Raises:
        PatternError: it speaks of none.
    """
    build = build_of(pattern)
    metadata, spec = pattern["metadata"], pattern["spec"]
    own = {names.LABEL_BUILD: build}
    template = spec["template"]
    document: Document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": version_name(metadata["name"], build),
            "namespace": metadata["namespace"],
            "labels": {
                **(metadata.get("labels") or {}),
                **own,
                names.LABEL_WORKERS: metadata["name"],
                names.LABEL_MANAGED_BY: names.FIELD_MANAGER_OPERATOR,
            },
            "annotations": {},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
            ],
        },
        "spec": {
            "replicas": _replicas(metadata),
            "strategy": spec["strategy"],
            "selector": {"matchLabels": {**spec["selector"]["matchLabels"], **own}},
            "template": {"metadata": _without_nothing(template["metadata"]), "spec": template["spec"]},
        },
    }
    document["metadata"]["annotations"][names.ANNOTATION_MADE_FROM] = _digest(json.dumps(document, sort_keys=True))
    return document


def version_name(pattern: str, build: str) -> str:
    """Name of the Deployment of a version: pods are called after it, so it is a DNS label."""
    name = f"{pattern}-{_NO_NAME.sub('-', build.lower()).strip('-')}"
    return name if len(name) <= _NAME_LIMIT else f"{pattern}-{_digest(build)}"


def _replicas(metadata: Document) -> int:
    text = (metadata.get("annotations") or {}).get(names.ANNOTATION_REPLICAS, "")
    if not text.isdecimal():
        raise PatternError(
            f'Deployment {metadata["name"]} has the annotation {names.ANNOTATION_REPLICAS} "{text}", expected the '
            f"number of its versions' pods, such as 2; install the chart anew"
        )
    return int(text)


def _without_nothing(metadata: Document) -> Document:
    """Without what API servers add to a template: creationTimestamp, which is null there."""
    return {key: value for key, value in metadata.items() if value is not None}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]
