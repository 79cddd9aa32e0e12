"""The jobs that are tried: what each asks for, and what it deserves, whatever befalls it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from tests.chaos.history import Deserved

Document = dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """What specs are made of."""

    image: str
    """Any that has a shell."""
    tiny: Document
    """Spec parts of a tiny model and its dataset."""


class Errand(Enum):
    """What somebody asks of a job on its way."""

    SUSPEND_TWICE = auto()
    SUSPEND = auto()
    """Once it has saved something. Each suspension is taken back."""
    CANCEL = auto()
    DELETE = auto()
    """Once it has saved something."""


@dataclass(frozen=True)
class Kind:
    """Jobs of one kind."""

    weight: int
    spec: Callable[[Inputs, random.Random], Document]
    phase: str = "Succeeded"
    """The end that they deserve."""
    reason: str = "Completed"
    natural: frozenset[str] = frozenset({"Completed"})
    """Reasons with which their attempts end without any fault."""
    lasts_seconds: float = 0.0
    """Their work takes no less."""
    nodes: int = 1
    built_in: bool = False
    like: str = ""
    """Of the built-in trainer: the kind whose undisturbed run has the same adapter."""
    errand: Errand | None = None

    def deserves(self, adapters: Mapping[str, str]) -> Deserved:
        """What jobs of this kind deserve, where undisturbed runs have these adapters."""
        return Deserved(
            phase=self.phase,
            reason=self.reason,
            adapter=adapters[self.like] if self.like else None,
            built_in=self.built_in,
            nodes=self.nodes,
            natural=self.natural,
            lasts_seconds=self.lasts_seconds,
            gone=self.errand is Errand.DELETE,
        )


RETRY: Final = {"maxAttempts": 40, "initialIntervalSeconds": 1, "backoffCoefficient": 1, "maxIntervalSeconds": 2}
EVERY_STEPS: Final = 50
EVERY_SECONDS: Final = 2
DELETES: Final = "DeleteCheckpoints"


def _command(script: str, **parts: Any) -> Callable[[Inputs, random.Random], Document]:
    """A job that runs a shell script; `{seconds}` in it is drawn."""

    def spec(inputs: Inputs, draw: random.Random) -> Document:
        text = script.replace("{seconds}", str(draw.randint(2, 12))).replace("{long}", str(draw.randint(20, 45)))
        return {"trainer": {"image": inputs.image, "command": ["sh", "-c", text]}, "retry": RETRY, **parts}

    return spec


def _training(steps: int, nodes: int = 1, policy: str = "") -> Callable[[Inputs, random.Random], Document]:
    """A job of the built-in trainer; every second one's checkpoints go with it, unless its policy is given."""

    def spec(inputs: Inputs, draw: random.Random) -> Document:
        training = {"maxSteps": steps, "batchSize": 8, "sequenceLength": 64, "learningRate": 0.001}
        return {
            **inputs.tiny,
            "training": training,
            "checkpoint": {"everySteps": EVERY_STEPS, "everySeconds": EVERY_SECONDS},
            "resources": {"nodes": nodes},
            "retry": RETRY,
            "deletionPolicy": policy or draw.choice([DELETES, "KeepCheckpoints"]),
        }

    return spec


UNTIL_TOLD: Final = "trap 'exit 143' TERM; sleep {seconds} & wait $!"
LONG: Final = UNTIL_TOLD.replace("seconds", "long")
FOR_EVER: Final = UNTIL_TOLD.replace("{seconds}", "7200")
HANGS_ONCE: Final = (
    "trap 'exit 143' TERM; [ \"$PERDURE_ATTEMPT\" -gt 1 ] || { sleep 7200 & wait $!; }; sleep {seconds} & wait $!"
)
FILLS_ONCE: Final = (
    "trap 'exit 143' TERM; [ \"$PERDURE_ATTEMPT\" -gt 1 ] || "
    "{ head -c 30000000 /dev/zero > /scratch/full; sleep 7200 & wait $!; }; sleep {seconds} & wait $!"
)
"""Its first attempt writes more to the node's disk than it may: the kubelet ends it when it next looks."""
ELSEWHERE: Final = {
    "nodes": 2,
    "minNodes": 1,
    "nodeSelector": {"perdure.dev/none-such": "true"},
    "alternatives": [{"nodeSelector": {}}, {"nodeSelector": {}, "cpu": "10m"}, {"nodeSelector": {}, "cpu": "20m"}],
}
"""First where no node is. That it is once more without a place is unlikely, and then there is a further one."""
START_SECONDS: Final = 120
"""Longer than any fault keeps a pod on its way from beginning, or else that would be an end that it deserves."""

_OVER: Final = frozenset({"Completed"})

KINDS: Final[dict[str, Kind]] = {
    "instant": Kind(20, _command("true")),
    "short": Kind(24, _command(UNTIL_TOLD), lasts_seconds=2),
    "long": Kind(10, _command(LONG), lasts_seconds=20),
    "pair": Kind(8, _command(UNTIL_TOLD, resources={"nodes": 2}), lasts_seconds=2, nodes=2),
    "suspended": Kind(8, _command(LONG), natural=_OVER | {"Suspended"}, lasts_seconds=20, errand=Errand.SUSPEND_TWICE),
    "cancelled": Kind(
        4,
        _command(FOR_EVER),
        phase="Failed",
        reason="Cancelled",
        natural=frozenset({"Cancelled"}),
        errand=Errand.CANCEL,
    ),
    "wrong": Kind(
        8,
        _command("sleep 1; exit 64"),
        phase="Failed",
        reason="PermanentError",
        natural=frozenset({"PermanentError"}),
    ),
    "fails": Kind(
        6,
        _command("sleep 1; exit 1", retry={**RETRY, "maxAttempts": 2}),
        phase="Failed",
        reason="MaxAttemptsReached",
        natural=frozenset({"Failed"}),
    ),
    "hangs": Kind(
        3,
        _command(HANGS_ONCE, deadlines={"progressSeconds": 25}),
        # One whose worker dies right after it deleted the Job of what hung is told as one that somebody deleted.
        natural=_OVER | {"Hung", "JobDeleted", "Disrupted"},
        lasts_seconds=2,
    ),
    "fills-its-disk": Kind(
        3,
        _command(FILLS_ONCE, resources={"ephemeralStorage": "10Mi"}),
        natural=_OVER | {"OutOfDisk"},
        lasts_seconds=2,
    ),
    "elsewhere": Kind(
        3,
        _command(UNTIL_TOLD, resources=ELSEWHERE, deadlines={"startSeconds": START_SECONDS}),
        natural=_OVER | {"NoCapacity"},
        lasts_seconds=2,
        nodes=2,
    ),
    "trains": Kind(10, _training(500), lasts_seconds=3, built_in=True, like="trains"),
    "trains-suspended": Kind(
        3,
        _training(500),
        natural=_OVER | {"Suspended"},
        lasts_seconds=3,
        built_in=True,
        like="trains",
        errand=Errand.SUSPEND,
    ),
    "trains-deleted": Kind(
        2, _training(100_000, policy=DELETES), natural=frozenset({"Cancelled"}), built_in=True, errand=Errand.DELETE
    ),
    # A rank that starves on a busy machine may be thought lost by the other.
    "trains-two": Kind(
        1,
        _training(250, nodes=2),
        natural=_OVER | {"PeerLost"},
        lasts_seconds=3,
        nodes=2,
        built_in=True,
        like="trains-two",
    ),
}


def kind_of(job: str) -> str:
    """The kind of a job by its name."""
    return job.rpartition("-")[0]
