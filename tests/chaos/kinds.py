"""The jobs that are tried: what each asks for, and the end that it deserves, whatever befalls it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Document = dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """What specs are made of."""

    image: str
    """Any that has a shell."""
    tiny: Document
    """Spec parts of a tiny model and its dataset."""


@dataclass(frozen=True)
class Kind:
    """Jobs of one kind."""

    weight: int
    spec: Callable[[Inputs, random.Random], Document]
    phase: str = "Succeeded"
    """The end that they deserve."""
    reason: str = "Completed"
    built_in: bool = False
    suspensions: int = 0
    """How often somebody suspends and resumes them."""


RETRY: Final = {"maxAttempts": 40, "initialIntervalSeconds": 1, "backoffCoefficient": 1, "maxIntervalSeconds": 2}
STEPS: Final = 500


def _command(script: str, **parts: Any) -> Callable[[Inputs, random.Random], Document]:
    """A job that runs a shell script; `{seconds}` in it is drawn."""

    def spec(inputs: Inputs, draw: random.Random) -> Document:
        text = script.replace("{seconds}", str(draw.randint(2, 12))).replace("{long}", str(draw.randint(20, 45)))
        return {"trainer": {"image": inputs.image, "command": ["sh", "-c", text]}, "retry": RETRY, **parts}

    return spec


def _training(nodes: int) -> Callable[[Inputs, random.Random], Document]:
    def spec(inputs: Inputs, _: random.Random) -> Document:
        training = {"maxSteps": STEPS, "batchSize": 8, "sequenceLength": 64, "learningRate": 0.001}
        return {
            **inputs.tiny,
            "training": training,
            "checkpoint": {"everySteps": 50, "everySeconds": 2},
            "resources": {"nodes": nodes},
            "retry": RETRY,
        }

    return spec


UNTIL_TOLD: Final = "trap 'exit 143' TERM; sleep {seconds} & wait $!"

KINDS: Final[dict[str, Kind]] = {
    "instant": Kind(20, _command("true")),
    "short": Kind(24, _command(UNTIL_TOLD)),
    "long": Kind(10, _command(UNTIL_TOLD.replace("seconds", "long"))),
    "pair": Kind(8, _command(UNTIL_TOLD, resources={"nodes": 2})),
    "suspended": Kind(8, _command(UNTIL_TOLD.replace("seconds", "long")), suspensions=2),
    "wrong": Kind(8, _command("sleep 1; exit 64"), phase="Failed", reason="PermanentError"),
    "fails": Kind(
        6, _command("sleep 1; exit 1", retry={**RETRY, "maxAttempts": 2}), phase="Failed", reason="MaxAttemptsReached"
    ),
    "trains": Kind(13, _training(nodes=1), built_in=True),
    "trains-two": Kind(3, _training(nodes=2), built_in=True),
}
