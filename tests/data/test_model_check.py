from __future__ import annotations

import json
import struct

import pytest

from perdure_api.conditions import Reason
from perdure_api.uri import StoreUri
from perdure_data.models import ModelBroken, ModelLayout, ModelNotFound, check_model
from perdure_data.stores import Stores

CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"]}).encode()


def safetensors(data_bytes: int = 16, *, promised_bytes: int | None = None) -> bytes:
    end = data_bytes if promised_bytes is None else promised_bytes
    header = json.dumps({"w": {"dtype": "F32", "shape": [end // 4], "data_offsets": [0, end]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(data_bytes)


GOOD = {"config.json": CONFIG, "model.safetensors": safetensors(), "tokenizer.json": b"{}"}


def put(stores: Stores, folder: StoreUri, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        stores.put(folder.child(name), content)
    return str(folder)


async def test_a_hugging_face_folder_is_recognised(stores: Stores, folder: StoreUri) -> None:
    report = await check_model(stores, put(stores, folder, {**GOOD, "README.md": b"", "old/model.safetensors": b""}))
    assert (report.layout, report.architecture) == (ModelLayout.HUGGING_FACE, "LlamaForCausalLM")
    assert {info.uri.path.rpartition("/")[2] for info in report.files} == GOOD.keys()
    assert report.weights_bytes == len(safetensors())


@pytest.mark.parametrize("tail", ["", "/model.gguf"], ids=["folder", "file"])
async def test_a_gguf_is_recognised(stores: Stores, folder: StoreUri, tail: str) -> None:
    put(stores, folder, {"model.gguf": b"GGUF...."})
    report = await check_model(stores, f"{folder}{tail}")
    assert (report.layout, report.weights_bytes) == (ModelLayout.GGUF, 8)


async def test_a_model_of_speech_is_recognised(stores: Stores, folder: StoreUri) -> None:
    config = json.dumps({"architectures": ["CsmForConditionalGeneration"]}).encode()
    report = await check_model(stores, put(stores, folder, {**GOOD, "config.json": config}))
    assert (report.layout, report.of_speech) == (ModelLayout.HUGGING_FACE, True)
    assert not (await check_model(stores, put(stores, folder, GOOD))).of_speech


async def test_a_missing_folder_is_not_found(stores: Stores, folder: StoreUri) -> None:
    put(stores, folder, GOOD)
    with pytest.raises(ModelNotFound, match="no files are there") as caught:
        await check_model(stores, str(folder.child("none")))
    assert caught.value.reason is Reason.MODEL_NOT_FOUND


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        pytest.param({"README.md": b""}, r"no config.json and no \*.gguf", id="neither"),
        pytest.param({"config.json": CONFIG}, "config.json but no weights", id="no weights"),
        pytest.param(
            {"config.json": CONFIG, "pytorch_model.bin": b""}, "convert them with save_pretrained", id="pickled weights"
        ),
        pytest.param(
            {"config.json": CONFIG, "model.safetensors": safetensors()}, "found no tokenizer", id="no tokenizer"
        ),
        pytest.param({**GOOD, "config.json": b"{"}, "config.json that is no JSON", id="broken config"),
        pytest.param(
            {**GOOD, "config.json": b'{"architectures": ["BertForMaskedLM"]}'},
            r'"BertForMaskedLM" in config.json; expected a causal language model \(…ForCausalLM, …LMHeadModel\) or one '
            r"of speech \(CsmForConditionalGeneration\)",
            id="wrong architecture",
        ),
        pytest.param(
            {**GOOD, "model.safetensors": safetensors(8, promised_bytes=16)}, "by its own header", id="cut weights"
        ),
        pytest.param({**GOOD, "model.safetensors": b"junk"}, "without a readable header", id="junk weights"),
        pytest.param(
            {**GOOD, "model.safetensors.index.json": b'{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'},
            "0 of 2 files of weights; expected also 1.safetensors, 2.safetensors",
            id="missing shard",
        ),
        pytest.param(
            {**GOOD, "transformers.safetensors.index.json": b'{"weight_map": {"a": "model.safetensors", "b": "2"}}'},
            "1 of 2 files of weights; expected also 2",
            id="missing shard of another name",
        ),
        pytest.param({"a.gguf": b"GGUF", "b.gguf": b"GGUF"}, r"2 GGUF files \(a.gguf, b.gguf\)", id="two gguf"),
        pytest.param(
            {**GOOD, "config.json": b" " * (17 << 20)}, r"config.json that is too large \(.* has", id="huge config"
        ),
        pytest.param({"a.gguf": b"nope"}, "a GGUF file, which begins with", id="no gguf"),
    ],
)
async def test_what_cannot_be_trained_is_named(
    stores: Stores, folder: StoreUri, files: dict[str, bytes], sentence: str
) -> None:
    uri = put(stores, folder, files)
    with pytest.raises(ModelBroken, match=sentence) as caught:
        await check_model(stores, uri)
    assert str(caught.value).startswith(f"model {uri}: found ")
