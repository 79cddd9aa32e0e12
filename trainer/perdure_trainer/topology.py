"""Which of several processes this one is: as torchrun is told it, by PET_* variables."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from perdure_api.pod import MASTER_PORT, Env
from perdure_trainer.failures import UsageError


@dataclass(frozen=True)
class Topology:
    """The place of this process among all that train together; one alone unless told otherwise."""

    rank: int = 0
    world: int = 1
    """How many there are."""
    address: str = ""
    """Host of rank 0."""
    port: int = MASTER_PORT
    name: str = ""
    """Host name, which in a cluster is the pod's."""

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which alone writes and reports."""
        return self.rank == 0


def topology(environment: Mapping[str, str]) -> Topology:
    """The place that an environment gives.

    Raises:
        UsageError: a variable is missing, is no number, or does not fit the others.
    """
    world = _number(environment, Env.NNODES, 1)
    if (processes := _number(environment, Env.NPROC_PER_NODE, 1)) != 1:
        raise UsageError(
            f"{Env.NPROC_PER_NODE} is {processes}; the built-in trainer is one process a node. Start as many nodes "
            "instead, each with one GPU"
        )
    if world == 1:
        return Topology()
    rank_from = Env.NODE_RANK if environment.get(Env.NODE_RANK) else Env.COMPLETION_INDEX
    rank = _number(environment, rank_from, None)
    if not 0 <= rank < world:
        raise UsageError(f"{rank_from} is {rank}; with {Env.NNODES}={world} it is a number from 0 to {world - 1}")
    if not (address := environment.get(Env.MASTER_ADDR, "")):
        raise UsageError(f"{Env.MASTER_ADDR} is not set; with {Env.NNODES}={world} it is the host of rank 0")
    port = _number(environment, Env.MASTER_PORT, MASTER_PORT)
    return Topology(rank, world, address, port, socket.gethostname())


def _number(environment: Mapping[str, str], name: Env, default: int | None) -> int:
    text = environment.get(name, "")
    if not text and default is not None:
        return default
    if not text:
        raise UsageError(f"{Env.NODE_RANK} is not set; with {Env.NNODES} above 1 each process has one, from 0")
    if not text.isascii() or not text.isdigit() or (name is Env.NNODES and int(text) < 1):
        raise UsageError(f"{name} is {text!r}; expected a whole number{' from 1' if name is Env.NNODES else ''}")
    return int(text)


def is_loopback(address: str) -> bool:
    """Whether an address is of this machine alone."""
    if address == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
