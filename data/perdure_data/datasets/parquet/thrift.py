"""Thrift's compact protocol, as far as Parquet's footer is written in it.

Structs become dictionaries by field number, so that nothing here knows what the numbers mean.
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any, Final

_DEPTH_LIMIT: Final = 16
_VARINT_LIMIT_BYTES: Final = 10
_LONG_LIST: Final = 15
_BOOLEAN_BYTES: Final = 1
_DOUBLE_BYTES: Final = 8


class ThriftError(ValueError):
    """The bytes are none of this protocol."""


class _Type(IntEnum):
    STOP = 0
    TRUE = 1
    FALSE = 2
    BYTE = 3
    I16 = 4
    I32 = 5
    I64 = 6
    DOUBLE = 7
    BINARY = 8
    LIST = 9
    SET = 10
    MAP = 11
    STRUCT = 12


def struct_of(content: bytes) -> dict[int, Any]:
    """The struct at the beginning of some bytes.

    Raises:
        ThriftError: there is none, or it does not end within them.
    """
    return _Reader(content).struct(0)


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > _DEPTH_LIMIT:
            raise ThriftError("nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while (header := self._byte()) & 0x0F != _Type.STOP:
            step = header >> 4
            number = number + step if step else self._signed()
            kind = _type(header)
            fields[number] = kind is _Type.TRUE if kind in {_Type.TRUE, _Type.FALSE} else self._value(kind, depth)
        return fields

    def _value(self, kind: _Type, depth: int) -> Any:
        match kind:
            case _Type.TRUE | _Type.FALSE:  # an element: only in a struct does the type say the value
                return self._byte() == _Type.TRUE
            case _Type.BYTE:
                return int.from_bytes(self._take(_BOOLEAN_BYTES), "little", signed=True)
            case _Type.I16 | _Type.I32 | _Type.I64:
                return self._signed()
            case _Type.DOUBLE:
                return struct.unpack("<d", self._take(_DOUBLE_BYTES))[0]
            case _Type.BINARY:
                return self._take(self._unsigned())
            case _Type.LIST | _Type.SET:
                return self._list(depth)
            case _Type.STRUCT:
                return self.struct(depth + 1)
            case _Type.MAP:
                return self._map(depth)
        raise ThriftError(f"type {kind} where a value is expected")

    def _list(self, depth: int) -> list[Any]:
        header = self._byte()
        length = header >> 4
        length = self._unsigned() if length == _LONG_LIST else length
        kind = _type(header)
        self._refuse_beyond_end(length)
        return [self._value(kind, depth) for _ in range(length)]

    def _map(self, depth: int) -> list[tuple[Any, Any]]:
        length = self._unsigned()
        if not length:
            return []
        kinds = self._byte()
        self._refuse_beyond_end(length)
        return [(self._value(_type(kinds >> 4), depth), self._value(_type(kinds), depth)) for _ in range(length)]

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def _unsigned(self) -> int:
        value = 0
        for place in range(_VARINT_LIMIT_BYTES):
            byte = self._byte()
            value |= (byte & 0x7F) << (7 * place)
            if not byte & 0x80:
                return value
        raise ThriftError("a number without an end")

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, length: int) -> bytes:
        self._refuse_beyond_end(length)
        self._place += length
        return self._content[self._place - length : self._place]

    def _refuse_beyond_end(self, length: int) -> None:
        """Each element has a byte at least: a length beyond the end is found before memory is asked for."""
        if length > len(self._content) - self._place:
            raise ThriftError("cut in the middle")


def _type(header: int) -> _Type:
    try:
        return _Type(header & 0x0F)
    except ValueError as error:
        raise ThriftError(f"unknown type {header & 0x0F}") from error
