from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_data.datasets.wav import Encoding, WavError, WavHeader, wav_header

PCM16 = struct.pack("<HHIIHH", 1, 1, 8_000, 16_000, 2, 16)


def chunk(name: bytes, content: bytes, promised: int | None = None) -> bytes:
    length = len(content) if promised is None else promised
    return name + struct.pack("<I", length) + content + b"\0" * (len(content) % 2)


def wav(*chunks: bytes) -> bytes:
    return b"RIFF\0\0\0\0WAVE" + b"".join(chunks)


def header(content: bytes) -> WavHeader:
    return wav_header(content, len(content))


def test_a_header_tells_layout_and_length() -> None:
    found = header(wav(chunk(b"fmt ", PCM16), chunk(b"data", bytes(8_000))))
    assert found == WavHeader(Encoding.WHOLE, 1, 8_000, 2, start=44, length=4_000)
    assert found.seconds == 0.5


def test_other_chunks_are_passed_over() -> None:
    found = header(wav(chunk(b"LIST", b"odd"), chunk(b"fmt ", PCM16), chunk(b"fact", b"1234"), chunk(b"data", b"ab")))
    assert (found.start, found.length) == (12 + 12 + 24 + 12 + 8, 1)


def test_an_extensible_header_names_its_encoding_further_down() -> None:
    layout = struct.pack("<HHIIHHHHIH14x", 0xFFFE, 2, 48_000, 288_000, 6, 24, 22, 24, 3, 1)
    found = header(wav(chunk(b"fmt ", layout), chunk(b"data", bytes(60))))
    assert found == WavHeader(Encoding.WHOLE, 2, 48_000, 3, start=68, length=10)


def test_what_was_written_into_a_pipe_goes_to_the_end_of_the_file() -> None:
    assert header(wav(chunk(b"fmt ", PCM16), chunk(b"data", bytes(10), promised=0xFFFFFFFF))).length == 5


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"", r"is no WAV file \(found b''", id="nothing"),
        pytest.param(b"ID3\x03" + bytes(40), r"is no WAV file \(found b'ID3\\x03', expected b'RIFF'\)", id="MP3"),
        pytest.param(wav(), "without samples or without their format", id="no chunks"),
        pytest.param(wav(chunk(b"data", b"ab"), chunk(b"fmt ", PCM16)), "without samples or", id="format behind"),
        pytest.param(wav(chunk(b"fmt ", PCM16[:10])), "cut within its header", id="cut header"),
        pytest.param(
            wav(chunk(b"fmt ", PCM16), chunk(b"data", b"ab", promised=9)),
            "is cut: it has 2 bytes of samples, 9 by its own header",
            id="cut samples",
        ),
        pytest.param(
            wav(chunk(b"fmt ", struct.pack("<HHIIHH", 7, 1, 8_000, 8_000, 1, 8)), chunk(b"data", b"ab")),
            "holds samples of 8 bits in encoding 7; expected uncompressed",
            id="mu-law",
        ),
        pytest.param(
            wav(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 0, 8_000, 0, 0, 16)), chunk(b"data", b"ab")),
            "with 0 channels",
            id="no channels",
        ),
    ],
)
def test_what_is_no_wav_file_is_named(content: bytes, sentence: str) -> None:
    with pytest.raises(WavError, match=sentence):
        header(content)


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_whatever_the_bytes_are_there_is_a_header_or_a_sentence(before: bytes, content: bytes) -> None:
    try:
        found = header(wav(before, chunk(b"fmt ", PCM16), chunk(b"data", content)))
    except WavError:
        return
    assert found.rate > 0
    assert found.start + found.length * found.channels * found.sample_bytes <= 80 + 80 + 60
