"""Who of several ranks is there: each says so every few seconds, in a small store that rank 0 holds for all.

A collective operation among them waits for the last; whom it waits for it does not say. This does: who has gone, who
has fallen silent (a lost node, a frozen process), and who is alive but no longer gets on.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event, Thread
from typing import Any, Final

import structlog
from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined] # documented, but not re-exported

from perdure_api.pod import Env
from perdure_trainer.failures import PeerLost, TemporaryError, UsageError
from perdure_trainer.topology import Topology, is_loopback

_log = structlog.get_logger()

PERIOD_SECONDS: Final = 2.0
"""Between two signs of life."""
SILENCE_SECONDS: Final = 15.0
"""After which a rank that gave none is lost: every rank ends within 30 s of the loss."""
HANG_SECONDS: Final = 18.0
"""How long a rank may keep the others waiting, at least; else HANG_FACTOR times the longest that work ever took."""
HANG_FACTOR: Final = 10
FAREWELL_SECONDS: Final = 2 * PERIOD_SECONDS + 1
"""How long rank 0 keeps the store for others to read why it ends."""
_LAST_WORD_SECONDS: Final = PERIOD_SECONDS
"""How long another rank tries to say why it ends: a store whose holder is frozen takes no word."""
_CONNECT_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.1
_STORE_ERRORS: Final = (DistError, RuntimeError, OSError)
"""What torch raises when the store does not answer is now one of its own errors, now a plain RuntimeError."""


@dataclass
class Sign:
    """What was last heard of a rank."""

    beat: int = -1
    beat_at: float = 0.0
    """When a new one was heard, by our clock."""
    arrived: int = 0
    """Collective operations that it has entered."""
    farewell: str | None = None

    def hear(self, word: dict[str, Any], now: float) -> None:
        """Takes note of what a rank says."""
        if word["beat"] != self.beat:
            self.beat, self.beat_at = word["beat"], now
        self.arrived = word["arrived"]
        self.farewell = word.get("farewell")


@dataclass
class Peers:
    """What is known of all ranks, and what follows from it. Pure: told what was heard, and when."""

    own: int
    names: list[str]
    signs: list[Sign] = field(default_factory=list)
    heard_at: float = 0.0
    """When the store answered last."""

    def hear(self, words: list[dict[str, Any]], now: float) -> None:
        """Takes note of what the store holds."""
        self.signs = self.signs or [Sign(beat_at=now) for _ in words]
        self.heard_at = now
        for sign, word in zip(self.signs, words, strict=True):
            sign.hear(word, now)

    def lost(self, now: float, arrived: int, *, waited: float = 0.0, hang_seconds: float = math.inf) -> str | None:
        """Who is lost, and how that shows; None while nobody is.

        Args:
            now: By the clock of `hear`.
            arrived: Collective operations that we have entered.
            waited: How long we have waited in the newest.
            hang_seconds: How long others may keep us waiting.
        """
        for rank, sign in enumerate(self.signs):
            if rank == self.own:
                continue
            if sign.farewell is not None:
                return sign.farewell or f"{self.name(rank)} has ended"
            # Counted in what the store last said: when it does not answer, that is its holder's silence alone.
            if (silence := self.heard_at - sign.beat_at) > SILENCE_SECONDS:
                return f"{self.name(rank)} is gone: no sign of life for {silence:.0f} s"
            if sign.arrived < arrived and waited > hang_seconds:
                return f"{self.name(rank)} hangs: it is alive, but has kept the others waiting for {waited:.0f} s"
        if self.own != 0 and (silence := now - self.heard_at) > SILENCE_SECONDS:
            return f"{self.name(0)} is gone: it has not answered for {silence:.0f} s"
        return None

    def before_us(self, now: float, *, store_is_gone: bool = False) -> int:
        """How many ranks of lower numbers are there, as far as is known.

        Args:
            now: By the clock of `hear`.
            store_is_gone: And with it rank 0: of the others nothing has been heard since.
        """
        store_is_gone = store_is_gone or now - self.heard_at > SILENCE_SECONDS
        there = [not self.needs_nothing_more(sign) for sign in self.signs[: self.own]]
        return sum(there[1:] if store_is_gone else there)

    def needs_nothing_more(self, sign: Sign) -> bool:
        """Whether a rank has said farewell, or never will."""
        return sign.farewell is not None or self.heard_at - sign.beat_at > SILENCE_SECONDS

    def name(self, rank: int) -> str:
        """A rank as people know it."""
        return f"rank {rank} ({self.names[rank]})" if self.names[rank] else f"rank {rank}"


class RollCall:
    """The signs of life of this process and of its peers."""

    def __init__(self, place: Topology, purpose: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.arrived = 0
        """Collective operations that this process has entered."""
        self._place = place
        self._purpose = purpose
        self._clock = clock
        self._over = Event()
        self._refused = ""
        self._farewell: str | None = None

    @contextmanager
    def held(self, wait_seconds: float) -> Iterator[TCPStore]:
        """Inside, all are there and watched; gives the store, for what else they must tell each other.

        Leaving it tells the others why.

        Raises:
            PeerLost: a rank did not come in time.
            UsageError: two claim to be the same rank, or do not train the same.
        """
        deadline = self._clock() + wait_seconds
        _log.info("ranks_awaited", ranks=self._place.world, address=self._place.address, port=self._place.port)
        held = self._hold() if self._place.leads else None
        store, self._store = self._connect(deadline), self._connect(deadline)
        try:
            self._say()  # first of all: whoever has met the others listens to them at once
            self.peers = Peers(self._place.rank, self._meet(deadline))
            self._listen()
        except _STORE_ERRORS as error:
            raise PeerLost(f"rank 0 is gone, before all had come: {str(error).splitlines()[0]}") from error
        Thread(target=self._watch, name="roll-call", daemon=True).start()
        farewell = ""
        try:
            yield store
        except PeerLost as error:
            farewell = str(error)
            raise
        except BaseException as error:
            farewell = f"{self.peers.name(self._place.rank)} has ended: {error}"
            raise
        finally:
            self._leave(farewell)
            del held  # until here, for the others

    def lost(self, waited: float = 0.0, longest_seconds: float | None = None) -> PeerLost | None:
        """The error to end with when a peer is lost.

        Args:
            waited: How long we have waited for the others.
            longest_seconds: How long work has taken between two collective operations, at most; None when that is not
                known yet, so that no peer can be said to hang.
        """
        hang_seconds = math.inf if longest_seconds is None else max(HANG_SECONDS, HANG_FACTOR * longest_seconds)
        message = self._refused or self.peers.lost(
            self._clock(), self.arrived, waited=waited, hang_seconds=hang_seconds
        )
        return PeerLost(message) if message else None

    def before_us(self) -> int:
        """How many ranks of lower numbers are there, as far as is known."""
        return self.peers.before_us(self._clock(), store_is_gone=bool(self._refused))

    def whoever_is_lost(self, symptom: str, hurried: Callable[[], bool]) -> PeerLost:
        """The error for a connection between ranks that broke: named once it is known whose end broke it.

        Args:
            symptom: What was noticed of it.
            hurried: Whether there is no time to find that out.
        """
        deadline = self._clock() + SILENCE_SECONDS + 2 * PERIOD_SECONDS
        while self._clock() < deadline and not hurried():
            if lost := self.lost():
                return lost
            time.sleep(_LOOK_SECONDS)
        return PeerLost(f"the ranks no longer reach each other: {symptom}")

    def _hold(self) -> TCPStore:
        """The store itself; when all ranks are on this machine, it is nobody else's business.

        Raises:
            TemporaryError: something else listens there.
        """
        place = self._place
        try:
            if is_loopback(place.address):
                listener = socket.create_server((place.address, place.port), backlog=512)
            else:
                both = socket.has_dualstack_ipv6()
                family = socket.AF_INET6 if both else socket.AF_INET
                listener = socket.create_server(("", place.port), family=family, backlog=512, dualstack_ipv6=both)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise TemporaryError(
                f"rank 0 cannot listen on port {place.port} ({why}); choose another {Env.MASTER_PORT}"
            ) from error
        return TCPStore(
            self._host(), place.port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
        )

    def _host(self) -> str:
        """Where this rank finds the store: rank 0 need not wait until its own name is known."""
        away = not self._place.leads or is_loopback(self._place.address)
        return self._place.address if away else "localhost"

    def _connect(self, deadline: float) -> TCPStore:
        """A connection of one's own: one that waits for an answer lets nobody else ask."""
        place, timeout = self._place, timedelta(seconds=_CONNECT_SECONDS)
        while True:
            try:
                store = TCPStore(self._host(), place.port, is_master=False, wait_for_workers=False, timeout=timeout)
            except _STORE_ERRORS as error:
                if self._clock() > deadline:
                    raise PeerLost(
                        f"rank 0 cannot be reached at {place.address}:{place.port}: {str(error).splitlines()[0]}"
                    ) from error
                time.sleep(_LOOK_SECONDS)
            else:
                store.set_timeout(timedelta(seconds=2 * SILENCE_SECONDS))  # silence is judged by us
                return store

    def _meet(self, deadline: float) -> list[str]:
        """The names of all ranks, once all are there."""
        place, store = self._place, self._store
        if store.add(f"claimed/{place.rank}", 1) > 1:
            raise UsageError(f"two processes say that they are rank {place.rank}; give each a PET_NODE_RANK of its own")
        introduction = {"name": place.name, "world": place.world, "purpose": self._purpose}
        store.set(f"here/{place.rank}", json.dumps(introduction))
        keys = [f"here/{rank}" for rank in range(place.world)]
        while not store.check(keys):
            if self._clock() > deadline:
                missing = [str(rank) for rank, key in enumerate(keys) if not store.check([key])]
                raise PeerLost(f"rank {', '.join(missing)} of {place.world} did not come in time")
            time.sleep(_LOOK_SECONDS)
        others = [json.loads(word) for word in store.multi_get(keys)]
        for rank, other in enumerate(others):
            if {**other, "name": ""} != {**introduction, "name": ""}:
                raise UsageError(
                    f"rank {rank} ({other['name']}) and rank {place.rank} ({place.name}) were not told the same: give "
                    "all of them the same spec and the same PET_NNODES"
                )
        _log.info("ranks_met", ranks=place.world, rank=place.rank)
        return [str(other["name"]) for other in others]

    def _watch(self) -> None:
        while not self._over.wait(PERIOD_SECONDS):
            try:
                self._say()
                self._listen()
            except _STORE_ERRORS as error:
                # The store goes with the process that holds it; nothing is heard any more.
                self._refused = f"{self.peers.name(0)} is gone: {str(error).splitlines()[0]}"
                return

    def _say(self) -> None:
        word: dict[str, Any] = {"beat": time.monotonic_ns(), "arrived": self.arrived}
        if self._farewell is not None:
            word["farewell"] = self._farewell
        self._store.set(f"word/{self._place.rank}", json.dumps(word))

    def _listen(self) -> None:
        keys = [f"word/{rank}" for rank in range(self._place.world)]
        self.peers.hear([json.loads(word) for word in self._store.multi_get(keys)], self._clock())

    def _leave(self, farewell: str) -> None:
        self._farewell = farewell  # before anything else, for the watch may be about to say a word too
        self._over.set()
        # In a thread that may be left behind: a store whose holder is frozen answers nobody.
        thread = Thread(target=self._say_farewell, daemon=True)
        thread.start()
        thread.join(FAREWELL_SECONDS if self._place.leads else _LAST_WORD_SECONDS)

    def _say_farewell(self) -> None:
        try:
            self._say()
            deadline = self._clock() + FAREWELL_SECONDS
            while self._place.leads and self._clock() < deadline:
                self._listen()
                if all(map(self.peers.needs_nothing_more, self.peers.signs)):
                    return
                time.sleep(_LOOK_SECONDS)
        except _STORE_ERRORS:
            return
