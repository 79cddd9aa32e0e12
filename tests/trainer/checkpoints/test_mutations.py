"""A thousand damaged checkpoints: each is either what was saved, or is passed over with a sentence."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from perdure_trainer.checkpoints.repository import Committed, committed
from perdure_trainer.state import Snapshot
from tests.trainer.checkpoints.test_repository import repository, snapshot

MUTATIONS = 1000
NEWEST, OLDER = 3, 2


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def lengthen(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randint(1, 64)))


def blank(path: Path, draw: random.Random) -> None:
    """A block that the disk gave back empty."""
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content))
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(content)


def scramble(path: Path, draw: random.Random) -> None:
    """Two parts in each other's place."""
    content = path.read_bytes()
    middle = draw.randrange(len(content))
    path.write_bytes(content[middle:] + content[:middle])


def lose(path: Path, _: random.Random) -> None:
    path.unlink()


def swap(path: Path, draw: random.Random) -> None:
    """Another file's content under this name."""
    other = draw.choice([each for each in path.parent.iterdir() if each != path])
    path.write_bytes(other.read_bytes())


def add(path: Path, draw: random.Random) -> None:
    """A file that was never written by a trainer."""
    path.with_name(f"extra-{draw.randrange(99)}.safetensors").write_bytes(draw.randbytes(64))


DAMAGES: list[Callable[[Path, random.Random], None]] = [flip, cut, lengthen, blank, scramble, lose, swap, add]


def same(found: Snapshot, saved: Snapshot) -> bool:
    return (
        found.position == saved.position
        and found.generators == saved.generators
        and found.losses == saved.losses
        and all(
            left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
            for left, right in (
                (found.adapter, saved.adapter),
                (found.optimizer, saved.optimizer),
                (found.randomness, saved.randomness),
            )
        )
    )


@dataclass
class Kept:
    """A checkpoint's folder, and what was written into it."""

    step: int
    folder: Path
    content: dict[Path, bytes]

    @classmethod
    def of(cls, checkpoint: Committed) -> Kept:
        folder = Path(checkpoint.folder.path)
        return cls(checkpoint.step, folder, {path: path.read_bytes() for path in sorted(folder.iterdir())})

    @property
    def intact(self) -> bool:
        """Whether all that was written is there; there may be more."""
        return all(path.exists() and path.read_bytes() == content for path, content in self.content.items())

    @property
    def committed(self) -> bool:
        return (self.folder / "manifest.json").exists()

    def restore(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()
        for path, content in self.content.items():
            path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [1, 2], ids=["the newest", "every one"])
def test_a_damaged_checkpoint_is_never_loaded_as_something_else(stores: Stores, tmp_path: Path, damaged: int) -> None:
    run_uri = parse_uri(f"file://{tmp_path}/run")
    saved = {step: snapshot(step) for step in (OLDER, NEWEST)}
    for each in saved.values():
        repository(stores, run_uri).save(each)
    kept = [Kept.of(each) for each in committed(info.uri for info in stores.list_objects(run_uri))]
    draw = random.Random(4)
    harmful: Counter[str] = Counter()
    resumed_from: Counter[int | None] = Counter()
    for _ in range(MUTATIONS):
        for victim in kept[:damaged]:
            damage = draw.choice(DAMAGES)
            damage(draw.choice(list(victim.content)), draw)
            harmful[damage.__name__] += not victim.intact
        broken: dict[Committed, str] = {}

        found = repository(stores, run_uri, attempt=2).load_newest(broken.__setitem__)

        expected = next((each.step for each in kept if each.intact), None)
        assert (found and found[0].step) == expected
        assert found is None or same(found[1], saved[found[0].step])
        # Each newer one is told of, unless it was never committed.
        passed_over = [each.step for each in kept if each.committed and each.step > (expected or 0)]
        assert [each.step for each in broken] == passed_over
        assert all(broken.values())
        resumed_from[expected] += 1
        for victim in kept:
            victim.restore()
    assert {name for name, times in harmful.items() if times} == {each.__name__ for each in DAMAGES} - {"add"}
    assert resumed_from.keys() == ({NEWEST, OLDER} if damaged == 1 else {NEWEST, OLDER, None})
