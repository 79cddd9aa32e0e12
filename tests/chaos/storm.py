"""One run: jobs that are asked for, faults that are made meanwhile."""

from __future__ import annotations

import hashlib
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from perdure_api.uri import parse_uri
from tests.chaos import errands
from tests.chaos.causes import Spell
from tests.chaos.faults import Faults, Scene
from tests.chaos.history import Deserved
from tests.chaos.kinds import KINDS, Document, Inputs
from tests.chaos.lasting import NODE_FAULTS, STORE_FAULTS
from tests.chaos.plan import Asked, Planned
from tests.cluster.conftest import training_job

ADAPTER_LIMIT_BYTES: Final = 2**24
PATIENCE_SECONDS: Final = 600.0
"""After the last fault is mended: by then every job has ended."""
LOOK_SECONDS: Final = 0.5


class Storm:
    """Jobs and faults."""

    def __init__(self, scene: Scene, inputs: Inputs) -> None:
        self._scene = scene
        self._objects = scene.objects
        self._tally = scene.tally
        self._inputs = inputs
        self._over = threading.Event()
        self.deserved: dict[str, Deserved] = {}
        self.specs: dict[str, Document] = {}

    def is_ours(self, uid: str) -> bool:
        """Whether a TrainingJob, by its uid, is one of this run."""
        return self._objects.job_of(uid) is not None

    @property
    def unfinished(self) -> list[str]:
        """Jobs that are not over, or not gone where they are to be."""
        named = {name for name, deserved in self.deserved.items() if deserved.gone} - self._objects.gone
        unseen = self.deserved.keys() - self._objects.sights.keys() - self._objects.gone
        return sorted({*self._objects.unfinished, *named, *unseen})

    def undisturbed(self) -> dict[str, str]:
        """The hashes of the adapters of runs that nothing happens to, by kind.

        Raises:
            RuntimeError: without any fault one of them does not end with an adapter, after one attempt.
        """
        names = {kind: f"undisturbed-{kind}" for kind, each in KINDS.items() if each.like == kind}
        for kind, name in names.items():
            self._create(name, KINDS[kind].spec(self._inputs, random.Random(name)))
        wait(lambda: set(names.values()) <= self._objects.sights.keys() and not self._objects.unfinished)
        adapters = {}
        for kind, name in names.items():
            last, adapter = self._objects.newest(name), self.adapter(name)
            if last is None or adapter is None or last.started != 1:
                raise RuntimeError(f"{name}: found {last}, expected one attempt and an adapter, without any fault")
            adapters[kind] = adapter
        return adapters

    def ask(self, wishes: Sequence[Asked], at_once: int, seconds: float, adapters: Mapping[str, str]) -> None:
        """Asks for jobs, spread over some time."""
        begun = time.monotonic()
        for number, asked in enumerate(wishes):
            kind, due = KINDS[asked.kind], begun + seconds * number / len(wishes)
            self._wait(lambda due=due: time.monotonic() >= due and len(self._objects.unfinished) < at_once)  # type: ignore[misc]
            self._create(asked.name, kind.spec(self._inputs, random.Random(asked.seed)))
            self.deserved[asked.name] = kind.deserves(adapters)
            if kind.errand:
                arguments = (kind.errand, asked.name, self._scene.jobs, self._objects)
                threading.Thread(target=errands.run, args=arguments, daemon=True).start()

    @contextmanager
    def faults(self, *lanes: tuple[Sequence[Planned], Faults]) -> Iterator[None]:
        """Lanes of faults while the context lasts: what has begun is mended."""
        threads = [threading.Thread(target=self._lane, args=lane) for lane in lanes]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _lane(self, planned: Sequence[Planned], faults: Faults) -> None:
        for each in planned:
            if self._over.is_set():
                return
            self._make(each, faults)
            self._over.wait(each.pause_seconds)

    def _make(self, planned: Planned, faults: Faults) -> None:
        fault, _ = faults[planned.fault]
        began, hit = time.monotonic(), None
        try:
            with fault(self._scene, random.Random(planned.seed)) as hit:
                if hit:
                    self._tally.faults[planned.fault] += 1
                    lasts = f" for {planned.hold_seconds:.0f} s" if planned.hold_seconds else ""
                    self._tally.say(f"{planned.fault}: {hit}{lasts}")
                self._over.wait(planned.hold_seconds)
            ended = time.monotonic()
        except Exception as error:  # noqa: BLE001 - a fault that cannot be made now is none
            self._tally.say(f"{planned.fault}: not now ({str(error)[:200]})")
            # What has begun and could not be mended goes on.
            ended = time.monotonic() if hit is None else math.inf
        self._remember(planned.fault, Spell(hit or "", began, ended))

    def _remember(self, fault: str, spell: Spell) -> None:
        if fault in NODE_FAULTS:
            self._tally.node_spells.append(spell)
        if fault in STORE_FAULTS:
            self._tally.store_spells.append(spell)

    def _create(self, name: str, spec: Document) -> None:
        self.specs[name] = spec
        document = training_job(name, spec)
        while True:
            result = self._scene.jobs.run("create", "-f", "-", document=document)
            if result.returncode == 0 or "AlreadyExists" in result.stderr:
                return
            time.sleep(LOOK_SECONDS)

    def _wait(self, holds: Callable[[], bool]) -> None:
        while not holds():
            time.sleep(LOOK_SECONDS)

    def adapter(self, name: str) -> str | None:
        """The hash of a job's adapter; None: it has none."""
        last = self._objects.newest(name)
        if last is None or not last.result:
            return None
        uri = parse_uri(f"{last.result}/adapter_model.safetensors")
        return hashlib.sha256(self._scene.stores.read(uri, limit_bytes=ADAPTER_LIMIT_BYTES)).hexdigest()


def wait(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Until something holds, or no longer."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
