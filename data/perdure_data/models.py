"""Whether a folder holds a model that can be trained, or asked: by its files, their headers and its config.json.

No weights are read and no torch is needed, so this runs in the control plane before any GPU is asked for.
"""

from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final

from perdure_api.conditions import Reason
from perdure_api.uri import StoreUri, parse_uri
from perdure_data.errors import AccessDenied, NotFound, TooLarge
from perdure_data.stores import ObjectInfo, Stores

_CONFIG_LIMIT_BYTES: Final = 16 * 2**20
_HEADER_LIMIT_BYTES: Final = 100_000_000
"""Limit of safetensors itself."""
_CAUSAL_SUFFIXES: Final = ("ForCausalLM", "LMHeadModel")
SPEECH_ARCHITECTURES: Final = ("CsmForConditionalGeneration",)
_TOKENIZERS: Final = frozenset({"tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json"})
_FILES_SHOWN: Final = 8


class ModelError(Exception):
    """A model cannot be used; the message says what was found, what was expected, and what to do.

    ModelError
    ├── ModelNotFound
    ├── ModelDenied
    └── ModelBroken
    """

    reason: ClassVar[Reason] = Reason.MODEL_BROKEN


class ModelNotFound(ModelError):
    """There is nothing at the URI."""

    reason = Reason.MODEL_NOT_FOUND


class ModelDenied(ModelError):
    """It may not be read with the credentials at hand."""

    reason = Reason.ACCESS_DENIED


class ModelBroken(ModelError):
    """Something is there, but no model that can be used so."""


class ModelLayout(StrEnum):
    """How a model's files are laid out."""

    HUGGING_FACE = "huggingface"
    GGUF = "gguf"


@dataclass(frozen=True)
class ModelReport:
    """What a base model is."""

    uri: str
    layout: ModelLayout
    files: tuple[ObjectInfo, ...]
    """Everything that the model needs: configuration, tokenizer, weights."""
    weights_bytes: int
    architecture: str | None
    """First of config.json's `architectures`; None for GGUF, and where config.json names none."""

    @property
    def of_speech(self) -> bool:
        """Whether it speaks; else it writes."""
        return self.architecture in SPEECH_ARCHITECTURES


class ModelUse(StrEnum):
    """What a model is wanted for."""

    TRAINING = "training"
    GENERATION = "generation"
    EMBEDDING = "embedding"
    """By any architecture that reads text: what it would say is not asked for."""


_CAUSAL: Final = f"a causal language model ({', '.join(f'…{suffix}' for suffix in _CAUSAL_SUFFIXES)})"
_SUPPORTED: Final = {
    ModelUse.TRAINING: f"{_CAUSAL} or one of speech ({', '.join(SPEECH_ARCHITECTURES)})",
    ModelUse.GENERATION: _CAUSAL,
    ModelUse.EMBEDDING: "one that reads text",
}


async def check_model(stores: Stores, uri: str) -> ModelReport:
    """What is at the URI of a base model, in a thread of its own.

    Raises:
        ModelError: it cannot be trained; its `reason` and message say why.
        Unavailable: the store is away; try again later.
    """
    return await asyncio.to_thread(check_model_now, stores, uri)


def check_model_now(stores: Stores, uri: str, use: ModelUse = ModelUse.TRAINING) -> ModelReport:
    """The same as `check_model`, for callers that may block, and for any use."""
    place = parse_uri(uri)
    try:
        files = _files(stores, place)
        return _Folder(stores, uri, {_name(info): info for info in files}, use).report()
    except NotFound as error:
        raise ModelNotFound(f"model {error}") from error
    except AccessDenied as error:
        raise ModelDenied(f"model {error}") from error


def _files(stores: Stores, place: StoreUri) -> list[ObjectInfo]:
    if place.path.endswith(".gguf"):
        return [stores.head(place)]
    files, _ = stores.children(place)
    if not files:
        raise ModelNotFound(
            f"model {place}: no files are there; expected config.json with *.safetensors, or one *.gguf. "
            "Upload the model or correct its URI"
        )
    return files


@dataclass(frozen=True)
class _Folder:
    stores: Stores
    uri: str
    files: dict[str, ObjectInfo]
    use: ModelUse

    def report(self) -> ModelReport:
        if "config.json" in self.files:
            return self._hugging_face()
        match [name for name in self.files if name.endswith(".gguf")]:
            case [one]:
                return self._gguf(one)
            case []:
                raise self._broken("no config.json and no *.gguf", "config.json with *.safetensors, or one *.gguf")
            case several:
                raise self._broken(f"{len(several)} GGUF files ({_listed(several)})", "exactly one: name it in the URI")

    def _hugging_face(self) -> ModelReport:
        architecture = self._architecture()
        weights = {name: info for name, info in self.files.items() if name.endswith(".safetensors")}
        if not weights:
            pickled = any(name.endswith((".bin", ".pt", ".pth")) for name in self.files)
            hint = "; pickled weights are not loaded, convert them with save_pretrained" if pickled else ""
            raise self._broken("config.json but no weights", f"*.safetensors beside it{hint}")
        self._check_shards(weights)
        for info in weights.values():
            self._check_size(info)
        if not _TOKENIZERS & self.files.keys():
            raise self._broken("no tokenizer", "tokenizer.json or tokenizer.model beside the weights")
        return self._result(ModelLayout.HUGGING_FACE, weights, architecture)

    def _gguf(self, name: str) -> ModelReport:
        head = self.stores.read_range(self.files[name], 0, 4)
        if head != b"GGUF":
            raise self._broken(f"{name} that begins with {head!r}", 'a GGUF file, which begins with "GGUF"')
        return self._result(ModelLayout.GGUF, {name: self.files[name]}, None)

    def _result(self, layout: ModelLayout, weights: dict[str, ObjectInfo], architecture: str | None) -> ModelReport:
        needed = tuple(info for name, info in self.files.items() if name in weights or _is_small_part(name))
        weights_bytes = sum(info.size_bytes for info in weights.values())
        return ModelReport(self.uri, layout, needed, weights_bytes, architecture)

    def _architecture(self) -> str | None:
        config = self._json("config.json")
        match config.get("architectures"):
            case [str(first), *_]:
                if not _suits(first, self.use):
                    raise self._broken(f'the architecture "{first}" in config.json', _SUPPORTED[self.use])
                return first
            case _:
                return None

    def _check_shards(self, weights: dict[str, ObjectInfo]) -> None:
        # Its name is not always `model`: CSM-1B has weights of two formats beside each other.
        for index in (name for name in self.files if name.endswith(".safetensors.index.json")):
            named = set(map(str, self._json(index).get("weight_map", {}).values()))
            if missing := sorted(named - weights.keys()):
                raise self._broken(
                    f"{len(named) - len(missing)} of {len(named)} files of weights", f"also {_listed(missing)}"
                )

    def _check_size(self, info: ObjectInfo) -> None:
        """Compares a file's size with what its header promises: an upload that was cut off is found here."""
        promised = self._promised_bytes(info)
        if promised is None:
            raise self._broken(f"{_name(info)} without a readable header", "a safetensors file")
        if promised != info.size_bytes:
            raise self._broken(
                f"{_name(info)} with {info.size_bytes} bytes", f"{promised} by its own header. Upload it again"
            )

    def _promised_bytes(self, info: ObjectInfo) -> int | None:
        prefix = self.stores.read_range(info, 0, 8)
        if len(prefix) < 8:  # noqa: PLR2004 - safetensors: 8 bytes of header length, the header, the data
            return None
        (length,) = struct.unpack("<Q", prefix)
        if length > min(_HEADER_LIMIT_BYTES, info.size_bytes):
            return None
        try:
            header = json.loads(self.stores.read_range(info, 8, 8 + length))
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return None
        return 8 + int(length) + max(ends, default=0)

    def _json(self, name: str) -> dict[str, Any]:
        try:
            document = json.loads(self.stores.read(self.files[name].uri, limit_bytes=_CONFIG_LIMIT_BYTES))
        except TooLarge as error:
            raise self._broken(f"{name} that is too large ({error})", "one JSON object") from error
        except ValueError as error:
            raise self._broken(f"{name} that is no JSON ({error})", "one JSON object") from error
        if not isinstance(document, dict):
            raise self._broken(f"{name} that is no JSON object", "one JSON object")
        return document

    def _broken(self, found: str, expected: str) -> ModelBroken:
        return ModelBroken(f"model {self.uri}: found {found}; expected {expected} (files there: {_listed(self.files)})")


def _suits(architecture: str, use: ModelUse) -> bool:
    of_speech = architecture in SPEECH_ARCHITECTURES
    match use:
        case ModelUse.TRAINING:
            return of_speech or architecture.endswith(_CAUSAL_SUFFIXES)
        case ModelUse.GENERATION:
            return architecture.endswith(_CAUSAL_SUFFIXES)
        case ModelUse.EMBEDDING:
            return not of_speech


def _is_small_part(name: str) -> bool:
    return name.endswith((".json", ".model", ".txt", ".jinja"))


def _name(info: ObjectInfo) -> str:
    return info.uri.path.rpartition("/")[2]


def _listed(names: Any) -> str:
    shown = list(names)[:_FILES_SHOWN]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ", ".join(shown) + more
