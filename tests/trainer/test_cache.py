from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from perdure_api.uri import StoreUri
from perdure_data.errors import StoreError, Unavailable
from perdure_data.stores import Stores
from perdure_trainer.data import cache
from perdure_trainer.data.cache import Keeper, TokenCache, cache_key

FILES = {"tokens": bytes(range(100)), "ends": b"abc", "nothing": b""}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PART_BYTES", 30)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_kept_is_loaded(stores: Stores, run_uri: StoreUri, source: Path, tmp_path: Path) -> None:
    kept = TokenCache(stores, run_uri.child("tokens"))
    kept.keep("key", source, "sha256:1", Event())
    assert kept.load("key", tmp_path / "target") == "sha256:1"
    assert files_in(tmp_path / "target") == FILES


def test_what_was_never_kept_is_not_there(stores: Stores, run_uri: StoreUri, source: Path, tmp_path: Path) -> None:
    kept = TokenCache(stores, run_uri.child("tokens"))
    kept.keep("key", source, "sha256:1", Event())
    assert kept.load("other", tmp_path / "target") is None


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip, id="flipped"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), id="cut"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes() + b"x"), id="longer"),
        pytest.param(Path.unlink, id="gone"),
    ],
)
@pytest.mark.parametrize("name", ["tokens-00000", "tokens-00003", "ends-00000", "manifest"])
def test_nothing_damaged_is_loaded(
    stores: Stores, tmp_path: Path, source: Path, name: str, damage: Callable[[Path], None]
) -> None:
    kept = TokenCache(stores, StoreUri("file", "", f"{tmp_path}/run/tokens"))
    kept.keep("key", source, "sha256:1", Event())
    damage(tmp_path / "run/tokens/key" / name)
    assert kept.load("key", tmp_path / "target") is None


def test_what_was_only_half_kept_is_not_there(stores: Stores, run_uri: StoreUri, source: Path, tmp_path: Path) -> None:
    kept = TokenCache(stores, run_uri.child("tokens"))
    abandoned = Event()
    abandoned.set()
    kept.keep("key", source, "sha256:1", abandoned)
    assert kept.load("key", tmp_path / "target") is None


class AwayStores(Stores):
    def __init__(self, error: StoreError) -> None:
        super().__init__()
        self._error = error

    def put(self, uri: StoreUri, content: bytes) -> None:
        raise self._error

    def read(self, uri: StoreUri, *, limit_bytes: int) -> bytes:
        raise self._error


def test_a_store_that_is_away_keeps_nothing_and_harms_nobody(source: Path) -> None:
    keeper = Keeper(TokenCache(AwayStores(Unavailable("away")), StoreUri("s3", "b", "tokens")))
    keeper.keep("key", source, "sha256:1")
    keeper.wait()


def test_a_store_that_is_away_is_asked_again_before_the_dataset_is_read(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        TokenCache(AwayStores(Unavailable("away")), StoreUri("s3", "b", "tokens")).load("key", tmp_path)


def test_a_store_that_refuses_is_as_good_as_empty(tmp_path: Path) -> None:
    assert TokenCache(AwayStores(StoreError("no")), StoreUri("s3", "b", "tokens")).load("key", tmp_path) is None


def test_what_is_forgotten_is_gone(stores: Stores, run_uri: StoreUri, source: Path, tmp_path: Path) -> None:
    kept = TokenCache(stores, run_uri.child("tokens"))
    keeper = Keeper(kept)
    keeper.keep("key", source, "sha256:1")
    keeper.wait()
    keeper.forget()
    assert kept.load("key", tmp_path / "target") is None
    assert stores.list_objects(run_uri.child("tokens")) == []


def test_another_dataset_tokenizer_or_setting_has_another_key() -> None:
    keys = {cache_key(["a", 1], {"tokenizer": "t"}, {"sequenceLength": length}) for length in (8, 16)}
    keys |= {cache_key(["a", 2], {"tokenizer": "t"}, {"sequenceLength": 8})}
    keys |= {cache_key(["a", 1], {"tokenizer": "u"}, {"sequenceLength": 8})}
    assert len(keys) == 4
