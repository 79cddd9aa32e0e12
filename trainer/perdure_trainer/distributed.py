"""Several processes that train as one: what each must know of the others, and nothing more.

The gradients of an adapter are few, so they are added up in one go behind the last micro-batch of a step, by our own
hands: docs/decisions/0011 says why not by DistributedDataParallel.
"""

from __future__ import annotations

import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from perdure_trainer.failures import PeerLost
from perdure_trainer.state import Randomness
from perdure_trainer.topology import Topology, is_loopback

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perdure_trainer.roll_call import RollCall
    from perdure_trainer.stopping import StopSignal

BUCKET_ELEMENTS: Final = 2**24
"""Gradients that are added up at a time: 64 MiB of copies at most."""
_LAST_RESORT: Final = timedelta(minutes=30)
"""When gloo and NCCL give up by themselves: long, for the roll call knows better."""
_STOP_SECONDS: Final = 8.0
"""How long one that was asked to stop waits for the others to do so too: it is killed 20 s after it was asked."""
_SHORTEST_REST_SECONDS: Final = 20e-6
_LONGEST_REST_SECONDS: Final = 1e-3


class Ranks(ABC):
    """This process among all that train together. Every method is called by all ranks, in the same order."""

    place: Topology

    @abstractmethod
    def begin_step(self, seed: int, step: int) -> None:
        """Makes what is drawn at random in a step another for each rank.

        Of several ranks it depends on nothing but seed, rank and step: so one rank can save the state of all at any
        moment, alone, also when the others are no longer there.
        """

    @abstractmethod
    def total(self, number: int) -> int:
        """The sum of everybody's number."""

    @abstractmethod
    def asked_to_stop(self, because: str) -> str:
        """Why any rank was asked to stop; empty when none was.

        Args:
            because: Why this one was.
        """

    @abstractmethod
    def add_up(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Makes every gradient the sum of everybody's; returns the sum of the losses."""

    @abstractmethod
    def share(self, content: bytes) -> bytes:
        """Rank 0's."""

    @abstractmethod
    def before_us(self) -> int:
        """How many ranks of lower numbers are there, as far as is known. Asks nobody."""


class Alone(Ranks):
    """The only one there is: all is as if nobody had asked."""

    place = Topology()

    def begin_step(self, seed: int, step: int) -> None:
        """See Ranks: one rank's generators go on where they are, and are part of each checkpoint."""

    def total(self, number: int) -> int:
        """See Ranks."""
        return number

    def asked_to_stop(self, because: str) -> str:
        """See Ranks."""
        return because

    def add_up(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:  # noqa: ARG002 - as they are
        """See Ranks."""
        return loss

    def share(self, content: bytes) -> bytes:
        """See Ranks."""
        return content

    def before_us(self) -> int:
        """See Ranks."""
        return 0


class Several(Ranks):
    """One of several, over torch.distributed: gloo for words, and for gradients NCCL where they are on a GPU."""

    def __init__(self, place: Topology, roll_call: RollCall, stop: StopSignal) -> None:
        self.place = place
        self._roll_call = roll_call
        self._stop = stop
        self._left_at: float | None = None
        """When the last collective operation of a step was over."""
        self._longest = 0.0
        """The longest time between two of them, from the first step on."""

    def begin_step(self, seed: int, step: int) -> None:
        """See Ranks."""
        Randomness.seed(seed, self.place.rank, step)

    def total(self, number: int) -> int:
        """See Ranks."""
        return int(self._reduced(torch.tensor(number)).item())

    def asked_to_stop(self, because: str) -> str:
        """See Ranks."""
        own = self.place.rank + 1 if because else 0
        newest = int(self._reduced(torch.tensor(own), "MAX").item())
        if newest == 0 or because:
            return because
        return f"{self._roll_call.peers.name(newest - 1)} was asked to stop"

    def add_up(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """See Ranks.

        Beside each gradient travels whether there is one: a parameter that no rank has used is left alone by the
        optimizer, as it would be by one process.
        """
        chosen = list(parameters)
        used = torch.tensor([parameter.grad is not None for parameter in chosen], dtype=torch.float32)
        sums = self._reduced(torch.cat([loss.detach().float().reshape(1), used.to(loss.device)]))
        for parameter, users in zip(chosen, sums[1:].tolist(), strict=True):
            if users and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets(parameter.grad for parameter in chosen if parameter.grad is not None):
            flat = self._reduced(torch.cat([gradient.float().flatten() for gradient in bucket]))
            for gradient, part in zip(
                bucket, torch.split(flat, [gradient.numel() for gradient in bucket]), strict=True
            ):
                gradient.copy_(part.view_as(gradient))
        self._pace()
        return sums[0]

    def share(self, content: bytes) -> bytes:
        """See Ranks."""
        size = torch.tensor([len(content)])
        self._finish(torch.distributed.broadcast(size, 0, async_op=True))
        shared = _tensor(content) if self.place.leads else torch.zeros(int(size.item()), dtype=torch.uint8)
        self._finish(torch.distributed.broadcast(shared, 0, async_op=True))
        return _bytes(shared)

    def before_us(self) -> int:
        """See Ranks."""
        return self._roll_call.before_us()

    def _reduced(self, tensor: Tensor, operation: str = "SUM") -> Tensor:
        by = getattr(torch.distributed.ReduceOp, operation)  # not earlier: some builds of torch lack the module
        self._finish(torch.distributed.all_reduce(tensor, by, async_op=True))
        return tensor

    def _finish(self, work: Any) -> None:
        """Waits for an operation, but not for a peer that is lost.

        Raises:
            PeerLost: a peer is gone or hangs.
        """
        begun = time.monotonic()
        if self._left_at is not None:
            self._longest = max(self._longest, begun - self._left_at)
        longest = None if self._left_at is None else self._longest
        self._roll_call.arrived += 1
        rest = _SHORTEST_REST_SECONDS
        while not work.is_completed():
            if lost := self._roll_call.lost(time.monotonic() - begun, longest):
                raise lost
            if self._stop.requested and time.monotonic() - begun > _STOP_SECONDS:
                raise PeerLost(f"{self._stop.because}, and the other ranks do not answer")
            time.sleep(rest)
            rest = min(2 * rest, _LONGEST_REST_SECONDS)
        try:
            work.wait()
        except RuntimeError as error:
            symptom = str(error).splitlines()[0]
            raise self._roll_call.whoever_is_lost(symptom, lambda: self._stop.requested) from error
        if self._left_at is not None:
            self._left_at = time.monotonic()

    def _pace(self) -> None:
        """From the first step on it is known how long things take; what comes before may take very long."""
        self._left_at = time.monotonic()


def joined(place: Topology, purpose: str, wait_seconds: float, stop: StopSignal) -> AbstractContextManager[Ranks]:
    """This process among its peers, once all are there.

    Args:
        place: Which of them it is.
        purpose: What is trained: the same for all, or something is wrong.
        wait_seconds: How long to wait for the others.
        stop: Whoever was asked to stop does not wait for long.
    """
    return nullcontext(Alone()) if place.world == 1 else _several(place, purpose, wait_seconds, stop)


@contextmanager
def _several(place: Topology, purpose: str, wait_seconds: float, stop: StopSignal) -> Iterator[Ranks]:
    from perdure_trainer.roll_call import RollCall  # noqa: PLC0415 - nothing of it is needed by one rank

    roll_call = RollCall(place, purpose)
    with roll_call.held(wait_seconds) as store:
        _connect(place, store, roll_call)
        yield Several(place, roll_call, stop)


def _connect(place: Topology, store: Any, roll_call: RollCall) -> None:
    """Connects all with all, as long as all are there."""
    failures: list[Exception] = []
    if is_loopback(place.address):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())  # it would look for itself by the host's name

    def connect() -> None:
        try:
            store.set_timeout(_LAST_RESORT)
            torch.distributed.init_process_group(
                backend="cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                store=store,
                rank=place.rank,
                world_size=place.world,
                timeout=_LAST_RESORT,
            )
        except Exception as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    # In a thread: torch would hear neither of a lost peer nor of a signal while it waits.
    thread = Thread(target=connect, name="connect", daemon=True)
    thread.start()
    while thread.is_alive():
        if lost := roll_call.lost():
            raise lost
        thread.join(0.1)
    if failures:
        raise PeerLost(f"the ranks cannot connect to each other: {failures[0]}") from failures[0]


def _loopback() -> str:
    """The name of the loopback interface: lo, lo0."""
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


def _buckets(gradients: Iterable[Tensor]) -> Iterator[Sequence[Tensor]]:
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and sum(each.numel() for each in bucket) + gradient.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


def _tensor(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())


def _bytes(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()
