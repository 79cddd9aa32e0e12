"""A snapshot as files and back. Tensors and JSON only: nothing in a checkpoint is ever executed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import safetensors
from pydantic import ValidationError
from safetensors.torch import load, save

from perdure_trainer.losses import Point
from perdure_trainer.state import Position, Snapshot

if TYPE_CHECKING:
    from perdure_trainer.distributed import Ranks

_ADAPTER: Final = "adapter.safetensors"
_OPTIMIZER: Final = "optimizer.safetensors"
_RANDOMNESS: Final = "randomness.safetensors"
_STATE: Final = "state.json"
FILES: Final = (_ADAPTER, _OPTIMIZER, _RANDOMNESS, _STATE)


class PayloadError(ValueError):
    """Files that are no snapshot."""


def files_of(snapshot: Snapshot) -> dict[str, bytes]:
    """The content of each file."""
    state = {
        "position": snapshot.position.to_wire(),
        "generators": snapshot.generators,
        "losses": snapshot.losses,
    }
    return {
        _ADAPTER: save(snapshot.adapter),
        _OPTIMIZER: save(snapshot.optimizer),
        _RANDOMNESS: save(snapshot.randomness),
        _STATE: json.dumps(state).encode(),
    }


def shared(ranks: Ranks, snapshot: Snapshot) -> Snapshot:
    """Rank 0's snapshot, whatever each has."""
    return snapshot_of({name: ranks.share(content) for name, content in files_of(snapshot).items()})


def snapshot_of(files: dict[str, bytes]) -> Snapshot:
    """The snapshot that files hold.

    Raises:
        PayloadError: a file is missing or is not what its name says.
    """
    if missing := [name for name in FILES if name not in files]:
        raise PayloadError(f"{', '.join(missing)} missing")
    try:
        state = json.loads(files[_STATE])
        return Snapshot(
            position=Position.from_wire(state["position"]),
            adapter=load(files[_ADAPTER]),
            optimizer=load(files[_OPTIMIZER]),
            randomness=load(files[_RANDOMNESS]),
            generators=state["generators"],
            losses=tuple(Point(*point) for point in state.get("losses", ())),  # earlier trainers kept none
        )
    except (ValueError, KeyError, TypeError, ValidationError, safetensors.SafetensorError) as error:
        raise PayloadError(f"unreadable content ({error})") from error
