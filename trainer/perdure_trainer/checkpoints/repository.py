"""The checkpoints of a run, in a store.

    <run>/attempts/<n>/started.json
    <run>/attempts/<n>/checkpoints/step-00000500-<8 random>/{payload files, manifest.json}
    <run>/attempts/<n>/checkpoints/step-00000507-rank1_<8 random>/…
    <run>/attempts/<n>/checkpoints/latest.json

The manifest is written last, and only if it is not there: it is the commit. Each writer has folders of its own, so
that two of them can never mix their files. Rank 0 writes; where a rank was lost, another may: its folders bear its
number, so that rank 0 does not take what it writes for what a killed save left behind. Loading trusts nothing: every
byte is hashed first. A listing may be older than what it lists, reading is not: so the newest checkpoint is looked for
by the head pointers (`latest.json`) too, and a newer attempt by its first trace.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from pydantic import ValidationError

from perdure_api import names
from perdure_api.model import TolerantModel
from perdure_api.pod import CheckpointRef
from perdure_api.uri import StoreUri
from perdure_data.errors import AlreadyExists, NotFound, TooLarge
from perdure_data.stores import Stores
from perdure_trainer.attempts import newest_attempt
from perdure_trainer.checkpoints.manifest import (
    MANIFEST_LIMIT_BYTES,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    ManifestError,
    differences,
)
from perdure_trainer.checkpoints.payload import PayloadError, files_of, snapshot_of
from perdure_trainer.failures import ConfigError, Fenced
from perdure_trainer.memory import MemoryKills
from perdure_trainer.settings import Settings
from perdure_trainer.state import Snapshot

_log = structlog.get_logger()
_FOLDER: Final = rf"/attempts/(\d+)/{names.CHECKPOINTS_FOLDER}/step-(\d+)-(?:rank(\d+)_)?\w+"
_FILE_PATH: Final = re.compile(rf"{_FOLDER}/[^/]+$")
_LATEST_NAME: Final = "latest.json"


class BrokenCheckpoint(Exception):
    """A checkpoint that cannot be trusted; the message says why, and the next older one is tried."""


@dataclass(frozen=True, order=True)
class Committed:
    """A checkpoint that has a manifest."""

    step: int
    attempt: int
    folder: StoreUri


def committed(paths: Iterable[StoreUri]) -> list[Committed]:
    """The checkpoints among the objects of a run; newest step first, of one step the newest attempt first."""
    found = (
        Committed(step=int(match[2]), attempt=int(match[1]), folder=path.parent)
        for path in paths
        if path.path.endswith(f"/{MANIFEST_NAME}") and (match := _FILE_PATH.search(path.path))
    )
    return sorted(found, key=lambda each: (each.step, each.attempt, str(each.folder)), reverse=True)


def rank_of(checkpoint: CheckpointRef) -> int:
    """Which of several ranks made a checkpoint."""
    found = re.search(_FOLDER, checkpoint.uri)
    return int(found[3] or 0) if found else 0


def expendable(checkpoints: list[Committed], attempt: int, keep: int) -> list[Committed]:
    """What may be deleted when this attempt has just committed.

    Its own checkpoints beyond the newest `keep`, and those of earlier attempts once it has `keep` of its own: one of
    an earlier attempt may be of a later step and broken, which is why this attempt began where it did.
    """
    own = [each for each in checkpoints if each.attempt == attempt]
    earlier = [each for each in checkpoints if each.attempt < attempt]
    return own[keep:] + (earlier if len(own) >= keep else [])


def torn(paths: Sequence[StoreUri], attempt: int) -> set[StoreUri]:
    """Folders of saves that were never committed, by this attempt or an earlier one, among the objects of a run.

    But for those of ranks of this attempt other than 0, which may be saving: they are the next attempt's to delete.
    """
    found = ((path.parent, match) for path in paths if (match := _FILE_PATH.search(path.path)))
    begun = {
        folder for folder, match in found if int(match[1]) < attempt or (int(match[1]) == attempt and not match[3])
    }
    return begun - {each.folder for each in committed(paths)}


class Started(TolerantModel):
    """The first trace of an attempt."""

    time: str
    """RFC 3339."""
    memory_kills: MemoryKills | None = None
    """By then, where it began."""


@dataclass(frozen=True)
class Repository:
    """The checkpoints of one run as one attempt sees them. Methods may be called from any thread."""

    stores: Stores
    settings: Settings
    fingerprints: dict[str, str]

    def claim(self, memory_kills: MemoryKills | None = None) -> Started | None:
        """Leaves this attempt's first trace, by which earlier ones that still run somewhere see that they are over.

        Returns:
            That of the attempt before, where it left any.

        Raises:
            Fenced: a newer attempt has done so already.
        """
        self.refuse_if_fenced()
        started = Started(time=_now(), memory_kills=memory_kills)
        self.stores.put(self._started(self.settings.attempt), started.model_dump_json(by_alias=True).encode())
        try:
            before = self.stores.read(self._started(self.settings.attempt - 1), limit_bytes=MANIFEST_LIMIT_BYTES)
            return Started.model_validate_json(before)
        except (NotFound, TooLarge, ValidationError):
            return None

    def save(self, snapshot: Snapshot) -> CheckpointRef:
        """Writes and commits a checkpoint.

        Raises:
            Fenced: a newer attempt has begun.
            StoreError: it could not be written; nothing was committed.
        """
        own = self.settings.attempt_uri.child(names.CHECKPOINTS_FOLDER)
        writer = "" if self.settings.place.leads else f"rank{self.settings.place.rank}_"
        folder = own.child(f"step-{snapshot.position.step:08}-{writer}{secrets.token_hex(4)}")
        files = files_of(snapshot)
        for name, content in files.items():
            self.stores.put(folder.child(name), content)
        self.refuse_if_fenced()
        manifest = Manifest(
            job_uid=self.settings.job_uid,
            attempt=self.settings.attempt,
            step=snapshot.position.step,
            time=_now(),
            files=[FileEntry.of(name, content) for name, content in files.items()],
            fingerprints=self.fingerprints,
            recipe=self.settings.recipe,
        )
        self._commit(folder, manifest)
        reference = CheckpointRef(uri=str(folder), step=manifest.step, time=manifest.time)
        self.stores.put(own.child(_LATEST_NAME), reference.model_dump_json().encode())
        return reference

    def saved_since(self, step: int) -> CheckpointRef | None:
        """The newest checkpoint of this attempt, whichever rank made it; None when it is of an earlier step."""
        own = self.settings.attempt_uri.child(names.CHECKPOINTS_FOLDER)
        newest = next(iter(committed(info.uri for info in self.stores.list_objects(own))), None)
        return CheckpointRef(uri=str(newest.folder), step=newest.step) if newest and newest.step >= step else None

    def refuse_if_fenced(self) -> None:
        """Raises Fenced when a newer attempt has left any trace in the run's folder."""
        newest, following = newest_attempt(self.stores, self.settings.run_uri), self.settings.attempt + 1
        if newest < following and self._is_there(self._started(following)):
            newest = following
        if newest > self.settings.attempt:
            raise Fenced(f"attempt {newest} has taken over; attempt {self.settings.attempt} ends without a trace")

    def load_newest(
        self, on_broken: Callable[[Committed, str], None] = lambda *_: None
    ) -> tuple[Committed, Snapshot] | None:
        """The newest checkpoint of this run that proves whole; None when there is none.

        Args:
            on_broken: Is told of each newer one that is not, and what is wrong with it.

        Raises:
            ConfigError: it is whole, but of another model, dataset or recipe.
            Unavailable: the store is away; try again later.
        """
        listed = {info.uri for info in self.stores.list_objects(self.settings.run_uri.child("attempts"))}
        for each in committed(listed | self._by_head()):
            if each.attempt > self.settings.attempt:
                continue
            try:
                return each, self._load(each)
            except BrokenCheckpoint as error:
                _log.warning("checkpoint_broken", uri=str(each.folder), step=each.step, message=str(error))
                on_broken(each, str(error))
        return None

    def prune(self) -> None:
        """Deletes what is no longer needed, manifests first: half a checkpoint must not look whole.

        While a save is under way, that would be torn too: prune between saves.
        """
        objects = [info.uri for info in self.stores.list_objects(self.settings.run_uri.child("attempts"))]
        attempt = self.settings.attempt
        old = {each.folder for each in expendable(committed(objects), attempt, self.settings.checkpoint.keep)}
        abandoned = old | self._torn(objects)
        doomed = [uri for uri in objects if uri.parent in abandoned]
        for uri in sorted(doomed, key=lambda uri: not uri.path.endswith(f"/{MANIFEST_NAME}")):
            self.stores.delete(uri)

    def _started(self, attempt: int) -> StoreUri:
        return self.settings.run_uri.child("attempts", str(attempt), "started.json")

    def _by_head(self) -> set[StoreUri]:
        """The manifest that the newest head pointer leads to, where one leads anywhere.

        Those of still earlier attempts have nothing to add: each attempt went on from the newest that it found.
        """
        for attempt in range(self.settings.attempt, 0, -1):
            manifest = self._head(attempt)
            # Of an earlier attempt's checkpoints a later one may have deleted all.
            if manifest and committed([manifest]) and self._is_there(manifest):
                return {manifest}
        return set()

    def _head(self, attempt: int) -> StoreUri | None:
        """The manifest that an attempt's head pointer names: always one of its own, whatever stands there."""
        own = self.settings.run_uri.child("attempts", str(attempt), names.CHECKPOINTS_FOLDER)
        try:
            content = self.stores.read(own.child(_LATEST_NAME), limit_bytes=MANIFEST_LIMIT_BYTES)
            name = CheckpointRef.model_validate_json(content).uri.rpartition("/")[2]
        except (NotFound, TooLarge, ValidationError):
            return None
        return own.child(name, MANIFEST_NAME)

    def _torn(self, paths: Sequence[StoreUri]) -> set[StoreUri]:
        """What is torn for sure: a listing may be older than the newest manifest, which then is there all the same."""
        return {
            folder for folder in torn(paths, self.settings.attempt) if not self._is_there(folder.child(MANIFEST_NAME))
        }

    def _is_there(self, uri: StoreUri) -> bool:
        try:
            self.stores.head(uri)
        except NotFound:
            return False
        return True

    def _commit(self, folder: StoreUri, manifest: Manifest) -> None:
        uri = folder.child(MANIFEST_NAME)
        try:
            self.stores.put_if_absent(uri, manifest.to_bytes())
        except AlreadyExists:
            # The folder is ours alone: the store had written it, and only its answer got lost before a retry.
            return

    def _load(self, checkpoint: Committed) -> Snapshot:
        manifest = self._manifest(checkpoint)
        self._refuse_if_foreign(checkpoint, manifest)
        files = {entry.name: self._content(checkpoint, entry) for entry in manifest.files}
        try:
            return snapshot_of(files)
        except PayloadError as error:
            raise BrokenCheckpoint(str(error)) from error

    def _content(self, checkpoint: Committed, entry: FileEntry) -> bytes:
        try:
            content = self.stores.read(checkpoint.folder.child(entry.name), limit_bytes=entry.size_bytes)
        except (NotFound, TooLarge) as error:
            raise BrokenCheckpoint(str(error)) from error
        if not entry.describes(content):
            raise BrokenCheckpoint(
                f"{entry.name} is not what was written: {len(content)} of {entry.size_bytes} bytes, or another hash"
            )
        return content

    def _manifest(self, checkpoint: Committed) -> Manifest:
        uri = checkpoint.folder.child(MANIFEST_NAME)
        try:
            return Manifest.from_bytes(self.stores.read(uri, limit_bytes=MANIFEST_LIMIT_BYTES))
        except (NotFound, TooLarge, ManifestError) as error:
            raise BrokenCheckpoint(str(error)) from error

    def _refuse_if_foreign(self, checkpoint: Committed, manifest: Manifest) -> None:
        other = sorted(name for name, value in self.fingerprints.items() if manifest.fingerprints.get(name) != value)
        if not other:
            return
        changes = "; ".join(differences(manifest.recipe, self.settings.recipe)) if "config" in other else ""
        raise ConfigError(
            f"checkpoint {checkpoint.folder} was made with another {' and '.join(other)}"
            f"{f' ({changes})' if changes else ''}; a run cannot change its course. Start a new TrainingJob, or write "
            "to another output"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
