"""A thousand damaged checkpoints: each is either what was saved, or is passed over with a sentence."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
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


@pytest.mark.slow
def test_a_damaged_checkpoint_is_never_loaded_as_something_else(stores: Stores, tmp_path: Path) -> None:
    run_uri = parse_uri(f"file://{tmp_path}/run")
    saved = {step: snapshot(step) for step in (OLDER, NEWEST)}
    for each in saved.values():
        repository(stores, run_uri).save(each)
    folder = Path(committed(info.uri for info in stores.list_objects(run_uri))[0].folder.path)
    originals = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    draw = random.Random(4)
    seen: Counter[tuple[str, bool]] = Counter()
    for _ in range(MUTATIONS):
        damage, path = draw.choice(DAMAGES), draw.choice(list(originals))
        damage(path, draw)
        intact = all(each.exists() and each.read_bytes() == content for each, content in originals.items())
        broken: dict[Committed, str] = {}

        found = repository(stores, run_uri, attempt=2).load_newest(broken.__setitem__)

        assert found is not None
        assert same(found[1], saved[found[0].step])
        uncommitted = not (folder / "manifest.json").exists()
        passed_over = found[0].step == OLDER
        # Told of, unless it was never committed, or nothing that was written has changed.
        assert passed_over or intact, (damage.__name__, path.name)
        assert [each.step for each in broken] == [NEWEST] * (passed_over and not uncommitted)
        assert all(broken.values())
        seen[damage.__name__, passed_over] += 1
        for each in folder.iterdir():
            each.unlink()
        for each, content in originals.items():
            each.write_bytes(content)
    assert {name for name, passed_over in seen if passed_over} == {each.__name__ for each in DAMAGES} - {"add"}
    assert seen["add", False] > 0
