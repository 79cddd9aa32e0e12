"""The chart, seen through helm itself."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "perdure"
CI_VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
NAMESPACE = "perdure-system"

Document = dict[str, Any]
Values = Mapping[str, Any]

LEAST: Values = {"image": {"registry": "registry.example.com"}, "temporal": {"address": "temporal:7233"}}
"""The values that nobody can do without."""


def merged(*values: Values) -> Document:
    """Values laid over each other, as helm lays them."""
    result: Document = {}
    for each in values:
        for key, value in each.items():
            both_are_maps = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both_are_maps else value
    return result


class Refusal(Exception):
    """Helm would not render these values; the message is what it said."""


class Chart:
    """charts/perdure, seen through `helm template`."""

    def text(self, *values: Values, tests: bool = False) -> str:
        """What `helm template` prints for values laid over each other, with or without what `helm test` runs.

        Raises:
            Refusal: it would not.
        """
        return _rendered(json.dumps(merged(*values)), tests=tests)

    def documents(self, *values: Values, tests: bool = False) -> list[Document]:
        """The objects of these values, with or without those that `helm test` makes: the caller's own."""
        texts = self.text(*values, tests=tests).split("\n---\n")
        return [document for document in map(_parsed, texts) if document]

    def of_the_test(self, *values: Values) -> list[Document]:
        """The objects that `helm test` makes, in its order."""
        found = [each for each in self.documents(*values, tests=True) if hook_of(each)]
        return sorted(found, key=lambda each: int(each["metadata"]["annotations"].get("helm.sh/hook-weight", 0)))

    def one(self, kind: str, name: str, *values: Values) -> Document:
        """One of the objects, by kind and name."""
        (found,) = [
            document
            for document in self.documents(*values)
            if (document["kind"], document["metadata"]["name"]) == (kind, name)
        ]
        return found


@cache
def _rendered(values: str, *, tests: bool) -> str:
    """The same for the same values, as nothing in it is by chance."""
    return rendered_anew(values, tests=tests)


def rendered_anew(values: str, *, tests: bool = False) -> str:
    """What `helm template` prints for values in JSON.

    Raises:
        Refusal: it would not.
    """
    options = [f"--namespace={NAMESPACE}", "--values=-", *([] if tests else ["--skip-tests"])]
    result = helm("template", "perdure", CHART, *options, document=json.loads(values))
    if result.returncode:
        raise Refusal(result.stderr)
    return result.stdout


def _parsed(text: str) -> Document | None:
    """What one document of helm's says; none, where it is nothing but comments."""
    document: Document | None = pickle.loads(_parsed_and_packed(text))  # what is our own is no risk
    return document


@cache
def _parsed_and_packed(text: str) -> bytes:
    """Most documents, and the CRD first of all, are the same for nearly all values: each is parsed once."""
    return pickle.dumps(yaml.load(text, yaml.CSafeLoader))


def hook_of(document: Document) -> str | None:
    """What Helm makes an object for, where that is not the installation."""
    hook: str | None = document["metadata"].get("annotations", {}).get("helm.sh/hook")
    return hook


def helm(*arguments: str | Path, document: object = None) -> subprocess.CompletedProcess[str]:
    """One run of helm, with a document on its standard input."""
    return subprocess.run(
        [_beside_python("helm"), *arguments],
        env={**os.environ, "GOGC": "off"},  # it ends before there is anything worth collecting
        input=json.dumps(document), capture_output=True, text=True, check=False,
    )  # fmt: skip


def hadolint(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """One run of hadolint."""
    return subprocess.run([_beside_python("hadolint"), *arguments], capture_output=True, text=True, check=False)


def _beside_python(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is missing; install the development dependencies ({name}-bin or {name}-binary)"
    return found


def pod_templates(documents: list[Document]) -> dict[str, Document]:
    """The pod specs among the objects, by `Kind/name`."""
    return {
        f"{document['kind']}/{document['metadata']['name']}": document["spec"]["template"]
        for document in documents
        if document["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}
    }


def plain_environment(container: Document) -> dict[str, str]:
    """The variables of a container that have their value in the manifest."""
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
