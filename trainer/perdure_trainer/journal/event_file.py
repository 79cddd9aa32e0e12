"""TensorBoard's event files: its protocol buffers, of which scalars need five fields, in TFRecord's frames.

https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto and summary.proto;
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from perdure_trainer.journal.journal import Note

_VERSION: Final = b"brain.Event:2"
_CASTAGNOLI: Final = 0x82F63B78
_CRC_MASK: Final = 0xA282EAD8
_UINT32: Final = 0xFFFFFFFF
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class EventFile:
    """An event file in a folder, made with the first note."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None

    def add(self, notes: Sequence[Note]) -> None:
        """See Page."""
        marks = [note for note in notes if note.is_mark]
        if not marks:
            return
        records = [framed(event(mark.time, mark.step, mark.values)) for mark in marks]
        if self._path is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # TensorBoard reads the files of a folder in the order of their names.
            self._path = self._folder / f"events.out.tfevents.{int(marks[0].time):010}.perdure"
            records.insert(0, framed(_field(1, _FIXED64, struct.pack("<d", marks[0].time)) + _text(3, _VERSION)))
        with self._path.open("ab") as file:
            file.write(b"".join(records))

    def close(self) -> None:
        """See Page."""


def event(time: float, step: int, values: Mapping[str, float]) -> bytes:
    """An Event with a Summary of scalars."""
    summary = b"".join(
        _text(1, _text(1, name.encode()) + _field(2, _FIXED32, struct.pack("<f", value)))
        for name, value in values.items()
    )
    return _field(1, _FIXED64, struct.pack("<d", time)) + _field(2, _VARINT, _varint(step)) + _text(5, summary)


def framed(record: bytes) -> bytes:
    """A record as it stands in a file: length, its checksum, the record, its checksum."""
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", _checksum(length)) + record + struct.pack("<I", _checksum(record))


def _field(number: int, kind: int, value: bytes) -> bytes:
    return _varint(number << 3 | kind) + value


def _text(number: int, value: bytes) -> bytes:
    return _field(number, _BYTES, _varint(len(value)) + value)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_CASTAGNOLI if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE: Final = _crc_table()


def _checksum(data: bytes) -> int:
    """CRC-32C, turned and shifted as TFRecord wants it, so that a checksum of checksums is none."""
    crc = _UINT32
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= _UINT32
    return ((crc >> 15 | crc << 17) + _CRC_MASK) & _UINT32
