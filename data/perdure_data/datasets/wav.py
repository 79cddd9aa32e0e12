"""What a WAV file says of itself: uncompressed samples, as whole numbers or floats.

The standard library's `wave` reads neither floats nor, before Python 3.12, what is written with an extensible header;
and a header is all that the control plane needs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HEAD_BYTES: Final = 16 * 2**10
"""As much of a file as it takes to know what it is; other chunks may stand before the samples."""

_EXTENSIBLE: Final = 0xFFFE
_UNKNOWN_LENGTH: Final = 0xFFFFFFFF
"""Written by programs that cannot go back to the header."""
_CHUNK: Final = struct.Struct("<4sI")
_FORMAT: Final = struct.Struct("<HHIIHH")
_SUBFORMAT_AT: Final = 24


class Encoding(IntEnum):
    """What a sample is; WAV's own numbers."""

    WHOLE = 1
    FLOAT = 3


_SAMPLE_BYTES: Final = {Encoding.WHOLE: (1, 2, 3, 4), Encoding.FLOAT: (4, 8)}


class WavError(ValueError):
    """No WAV file that can be read; the message goes on behind the file's name."""


@dataclass(frozen=True)
class WavHeader:
    """The layout of a WAV file."""

    encoding: Encoding
    channels: int
    rate: int
    """Samples a second, of each channel."""
    sample_bytes: int
    start: int
    """Where in the file the samples begin."""
    length: int
    """How many of each channel there are."""

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.length / self.rate


def wav_header(head: bytes, size_bytes: int) -> WavHeader:
    """The header of a file from its first HEAD_BYTES, or more.

    Raises:
        WavError: it is no WAV file, its samples are compressed, or less is there than it promises.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        raise WavError(f"is no WAV file (found {head[:4]!r}, expected b'RIFF'); convert it to WAV")
    place = 12
    layout: tuple[Encoding, int, int, int] | None = None
    while place + _CHUNK.size <= len(head):
        name, length = _CHUNK.unpack_from(head, place)
        place += _CHUNK.size
        if name == b"fmt ":
            layout = _layout(head[place : place + length])
        elif name == b"data":
            if layout is None:
                break
            return _header(layout, place, length, size_bytes)
        place += length + length % 2
    raise WavError("is a WAV file without samples or without their format; write it again")


def _layout(content: bytes) -> tuple[Encoding, int, int, int]:
    if len(content) < _FORMAT.size:
        raise WavError("is a WAV file that is cut within its header; upload it again")
    number, channels, rate, _, _, bits = _FORMAT.unpack_from(content)
    if number == _EXTENSIBLE and len(content) >= _SUBFORMAT_AT + 2:
        (number,) = struct.unpack_from("<H", content, _SUBFORMAT_AT)
    if number not in list(Encoding) or bits % 8 or bits // 8 not in _SAMPLE_BYTES[Encoding(number)]:
        raise WavError(
            f"holds samples of {bits} bits in encoding {number}; expected uncompressed whole numbers or floats. "
            "Convert it to 16-bit PCM"
        )
    if not channels or not rate:
        raise WavError(f"is a WAV file with {channels} channels and {rate} samples a second; write it again")
    return Encoding(number), channels, rate, bits // 8


def _header(layout: tuple[Encoding, int, int, int], start: int, promised: int, size_bytes: int) -> WavHeader:
    encoding, channels, rate, sample_bytes = layout
    there = size_bytes - start
    if promised == _UNKNOWN_LENGTH:
        promised = there
    if promised > there:
        raise WavError(f"is cut: it has {there} bytes of samples, {promised} by its own header; upload it again")
    return WavHeader(encoding, channels, rate, sample_bytes, start, promised // (sample_bytes * channels))
