"""Jobs that several files of tests ask for: parts of their specs, and what their containers run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from tests.cluster.conftest import Document, Jobs

FIRST_WAITS_TO_BE_STOPPED: Final = 'test "$PERDURE_ATTEMPT" != 1 || { trap "exit 143" TERM; sleep 600 & wait; }'
"""A trainer whose first attempt ends only when it is told to, and whose next one is done at once."""
# Only what any image with Python has: what Hugging Face's callback does, no more.
REPORT: Final = """
import json, os, ssl, sys, urllib.error, urllib.request
token = open(os.environ["KUBEFLOW_TRAINER_SERVER_TOKEN"]).read()
context = ssl.create_default_context(cafile=os.environ["KUBEFLOW_TRAINER_SERVER_CA_CERT"])
def post(body, token=token):
    request = urllib.request.Request(os.environ["KUBEFLOW_TRAINER_SERVER_URL"], data=body, method="POST",
        headers={"Authorization": "Bearer " + token, "Content-Type": "application/json"})
    try:
        return urllib.request.urlopen(request, context=context, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
def report(**status):
    return post(json.dumps({"trainerStatus": status}).encode())
"""


def long_training(inputs: Document, **training: Any) -> Document:
    """Some forty seconds of small steps on one core."""
    steps = {"maxSteps": 3000, "batchSize": 8, "sequenceLength": 128, "learningRate": 0.001, **training}
    return {**inputs, "training": steps, "checkpoint": {"everySteps": 100, "everySeconds": 3}}


def of_steps(inputs: Document, steps: int, **parts: Any) -> Document:
    training = {"maxSteps": steps, "batchSize": 8, "sequenceLength": 128, "learningRate": 0.001}
    return {**inputs, "training": training, "checkpoint": {"everySteps": 10_000}, **parts}


def of_two_nodes(inputs: Document, **training: Any) -> Document:
    """Long enough that something can happen to it."""
    steps = {"batchSize": 4, "sequenceLength": 128, "learningRate": 0.001, **training}
    return {
        **inputs,
        "training": steps,
        "checkpoint": {"everySteps": 50, "everySeconds": 2},
        "resources": {"nodes": 2},
        "retry": {"initialIntervalSeconds": 1},
    }


def input_of_fine_tune(folder: Path, jobs: Jobs, name: str, *command: str, **parts: object) -> Path:
    """A file with the input of a job that runs a command."""
    path = folder / f"{name}.yaml"
    path.write_text(
        yaml.safe_dump({"namespace": jobs.kubectl.namespace, "name": name, "spec": jobs.own(*command, **parts)})
    )
    return path
