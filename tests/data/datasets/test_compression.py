from __future__ import annotations

import gzip
import itertools
import os
import random
import zlib
from collections.abc import Callable, Iterable, Iterator

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from perdure_api.uri import parse_uri
from perdure_data.datasets import DatasetBroken
from perdure_data.datasets.compression import SLICE_BYTES, Compression, compression_of, decompressed
from perdure_data.datasets.compression.gzip import PIECE_BYTES

URI = parse_uri("s3://b/train")
COMPRESS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.GZIP: lambda content: gzip.compress(content, mtime=0),
    Compression.ZSTD: lambda content: zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1}),
}
both = pytest.mark.parametrize("compression", Compression)


def read(compression: Compression, stored: bytes, chunk_bytes: int = 999) -> bytes:
    return b"".join(decompressed(URI, compression, chunks(stored, chunk_bytes)))


def chunks(content: bytes, chunk_bytes: int) -> Iterable[bytes]:
    return (content[start : start + chunk_bytes] for start in range(0, len(content), chunk_bytes))


@given(st.lists(st.binary(), min_size=1), st.integers(1, 50), st.sampled_from(Compression))
def test_content_comes_out_as_it_went_in_however_many_parts_it_has(
    parts: list[bytes], chunk_bytes: int, compression: Compression
) -> None:
    stored = b"".join(COMPRESS[compression](part) for part in parts)
    assert compression_of(stored[:10]) is compression
    assert read(compression, stored, chunk_bytes) == b"".join(parts)


@both
@pytest.mark.parametrize("size_bytes", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_content_of_about_a_piece_is_whole(compression: Compression, size_bytes: int) -> None:
    content = random.Random(size_bytes).randbytes(size_bytes // 2) + bytes(size_bytes - size_bytes // 2)
    assert read(compression, COMPRESS[compression](content), 2**20) == content


@both
@given(data=st.data())
def test_what_is_cut_is_refused_wherever_that_is(compression: Compression, data: st.DataObject) -> None:
    stored = COMPRESS[compression](b"one\ntwo\nthree\n" * 10)
    cut = data.draw(st.integers(1, len(stored) - 1))
    with pytest.raises(DatasetBroken, match=rf"dataset s3://b/train, line \d+: the {compression} data end in the mid"):
        read(compression, stored[:cut])


@both
@given(data=st.data())
def test_what_was_changed_is_read_as_it_was_or_refused(compression: Compression, data: st.DataObject) -> None:
    content = b"".join(f"line {number}\n".encode() for number in range(100))
    stored = bytearray(COMPRESS[compression](content))
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert read(compression, bytes(stored)) == content
    except DatasetBroken as error:
        said = str(error)
        assert said.startswith("dataset s3://b/train, line ")


@both
def test_damage_is_named_by_the_line_that_was_reached(compression: Compression) -> None:
    content = b"".join(os.urandom(50).hex().encode() + b"\n" for _ in range(40_000))
    stored = COMPRESS[compression](content)
    with pytest.raises(DatasetBroken) as caught:
        read(compression, stored[: len(stored) // 2])
    line = int(str(caught.value).partition("line ")[2].partition(":")[0])
    assert 10_000 < line < 30_000


@both
def test_a_bomb_is_read_in_small_pieces_and_only_as_far_as_one_looks(compression: Compression) -> None:
    stored = COMPRESS[compression](bytes(2**28))
    handed_out = 0

    def counted() -> Iterator[bytes]:
        nonlocal handed_out
        for chunk in chunks(stored, SLICE_BYTES):
            handed_out += 1
            yield chunk

    pieces = list(itertools.islice(decompressed(URI, compression, counted()), 4))
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert handed_out <= 2


def test_zeros_behind_gzip_are_padding_and_other_bytes_are_damage() -> None:
    stored = gzip.compress(b"hello")
    assert read(Compression.GZIP, stored + bytes(2000)) == b"hello"
    with pytest.raises(DatasetBroken, match="incorrect header check"):
        read(Compression.GZIP, stored + b"more")


def test_a_wrong_checksum_is_damage() -> None:
    stored = bytearray(gzip.compress(b"hello"))
    stored[-8:-4] = zlib.crc32(b"other").to_bytes(4, "little")
    with pytest.raises(DatasetBroken, match="incorrect data check"):
        read(Compression.GZIP, bytes(stored))


def test_frames_that_tools_put_before_zstd_are_skipped() -> None:
    skippable = (0x184D2A50).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"pzs"
    stored = skippable + zstd.compress(b"hello")
    assert compression_of(stored) is Compression.ZSTD
    assert read(Compression.ZSTD, stored, 1) == b"hello"


def test_zstd_that_asks_for_too_much_memory_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 28, zstd.CompressionParameter.enable_long_distance_matching: 1}
    compressor = zstd.ZstdCompressor(options=options)
    stored = compressor.compress(b"hello" * 1000) + compressor.flush()
    with pytest.raises(DatasetBroken, match="--long=27"):
        read(Compression.ZSTD, stored)
