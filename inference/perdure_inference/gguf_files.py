"""GGUF files, read as quickly as they can be.

transformers (5.23) reads the head of a Llama's file anew for the configuration, the tokenizer and the weights, each of
some 100,000 strings through np.memmap, and makes text of them byte by byte; and it makes the table of tensor names anew
for each of hundreds of modules. For SmolLM2-135M that is ten times the work of making numbers of the weights.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import gguf
import numpy as np
from numpy.typing import NDArray
from transformers import modeling_gguf_pytorch_utils
from transformers.integrations.gguf import reader

_ARRAY_HEAD: Final = struct.Struct("<IQ")
_LENGTH: Final = struct.Struct("<Q")


class _Reader(gguf.GGUFReader):
    """Slices a plain array: each slice of an np.memmap costs several times as much."""

    @property  # type: ignore[override] # there it is an np.memmap, of which slices are all that is taken
    def data(self) -> NDArray[np.uint8]:
        """The whole file, of which only what is looked at is read."""
        return self._data

    @data.setter
    def data(self, mapped: NDArray[np.uint8]) -> None:
        self._data = np.asarray(mapped)

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> tuple[int, list[Any], list[int], list[Any]]:
        """The library's own goes through a dozen calls for each entry of an array; vocabularies are arrays."""
        head = self._data[orig_offs : orig_offs + _ARRAY_HEAD.size].tobytes()
        if raw_type != gguf.GGUFValueType.ARRAY or self.byte_order == "S":
            return super()._get_field_parts(orig_offs, raw_type)
        kind, count = _ARRAY_HEAD.unpack(head)
        begin = orig_offs + _ARRAY_HEAD.size
        if kind == gguf.GGUFValueType.STRING:
            entries, end = self._strings(begin, count)
        elif kind in self.gguf_scalar_to_np:
            numbers = self._get(begin, self.gguf_scalar_to_np[kind], count)
            entries, end = list(numbers.reshape(-1, 1)), begin + numbers.nbytes
        else:
            return super()._get_field_parts(orig_offs, raw_type)
        types = [gguf.GGUFValueType.ARRAY] + [gguf.GGUFValueType(kind)] * (count > 0)
        return end - orig_offs, entries, list(range(count)), types

    def _strings(self, place: int, count: int) -> tuple[list[Any], int]:
        """The content of each, and where they end."""
        view = self._data.data
        found = []
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(view, place)
            place += _LENGTH.size + length
            found.append(bytes(view[place - length : place]))
        return found, place


@contextmanager
def read_once() -> Iterator[None]:
    """Inside, transformers finds what it has read and made before; in one thread at a time."""
    library: Any = gguf
    weights: Any = modeling_gguf_pytorch_utils
    parse = weights._gguf_parse_value  # noqa: SLF001 - there is no other way in

    def parsed(value: Any, kind: Any) -> Any:
        """A text of ours is bytes already, which the library makes a list of, an array of that, and bytes again."""
        return value.decode() if isinstance(value, bytes) else parse(value, kind)

    with (
        _replaced(library, "GGUFReader", cache(_Reader)),
        _replaced(library, "get_tensor_name_map", cache(library.get_tensor_name_map)),
        _replaced(weights, "_gguf_parse_value", parsed),
        _replaced(reader, "_mapped", _mapped),
    ):
        yield


def _mapped(path: str) -> NDArray[np.uint8]:
    return np.asarray(np.memmap(path, mode="r", dtype=np.uint8))


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    usual = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, usual)
