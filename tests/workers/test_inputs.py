from __future__ import annotations

import gzip
import io
import json
import struct
import wave
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from perdure_api.conditions import Reason
from perdure_api.spec import TrainingJobSpec
from perdure_api.uri import parse_uri
from perdure_api.workflow import JobRef
from perdure_data.stores import Stores
from perdure_workers.activities.storage import StorageActivities
from perdure_workers.messages import CheckInputs, Input, InputsChecked

CHAT = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}


def lines(*records: object) -> bytes:
    return gzip.compress(b"".join(json.dumps(record).encode() + b"\n" for record in records), mtime=0)


async def check(stores: Stores, folder: str, *, has_model: bool = False, **dataset: str) -> InputsChecked:
    if not has_model:
        stores.put(parse_uri(f"{folder}/model/model.gguf"), b"GGUF")
    return await check_spec(stores, spec_of(folder, dataset=dataset))


def spec_of(folder: str, **parts: dict[str, str]) -> dict[str, Any]:
    """A good spec with parts changed."""
    spec: dict[str, Any] = {
        "model": {"uri": f"{folder}/model"},
        "dataset": {"uri": f"{folder}/data/"},
        "output": {"uri": f"{folder}/out"},
        "training": {"maxSteps": 1},
    }
    return spec | {name: spec[name] | part for name, part in parts.items()}


async def check_spec(stores: Stores, spec: dict[str, Any]) -> InputsChecked:
    request = CheckInputs(
        job=JobRef(namespace="default", name="chat", uid="uid-1"), spec=TrainingJobSpec.from_wire(spec)
    )
    checked: InputsChecked = await ActivityEnvironment().run(StorageActivities(stores).check_inputs, request)
    return checked


@pytest.fixture
def good(s3_folder: str) -> str:
    """A folder with a model and data that can be trained with."""
    stores = Stores()
    stores.put(parse_uri(f"{s3_folder}/model/model.gguf"), b"GGUF")
    stores.put(parse_uri(f"{s3_folder}/data/train.jsonl.gz"), lines(CHAT))
    return s3_folder


async def test_what_was_found_is_said_in_one_line(s3_folder: str) -> None:
    stores = Stores()
    contents = [lines(CHAT), lines(CHAT, CHAT)]
    for number, content in enumerate(contents):
        stores.put(parse_uri(f"{s3_folder}/data/part-{number}.jsonl.gz"), content)
    size = sum(map(len, contents))
    checked = await check(stores, s3_folder)
    assert checked.message == f"{s3_folder}/data/: 2 files, 3 conversations, {size} bytes"
    assert (checked.dataset_fingerprint or "").startswith("sha256:")


async def test_what_is_broken_is_refused_for_good_with_file_and_line(s3_folder: str) -> None:
    stores = Stores()
    for number, content in enumerate([lines(CHAT), lines(CHAT, {"messages": []})]):
        stores.put(parse_uri(f"{s3_folder}/data/part-{number}.jsonl.gz"), content)
    with pytest.raises(ApplicationError, match=f"{s3_folder}/data/part-1.jsonl.gz, line 2: field") as caught:
        await check(stores, s3_folder)
    assert (caught.value.type, caught.value.non_retryable) == (Reason.DATASET_BROKEN, True)


async def test_an_evaluation_set_inside_the_training_data_is_refused(s3_folder: str) -> None:
    with pytest.raises(ApplicationError, match="what is trained on would be measured with") as caught:
        await check(Stores(), s3_folder, evalUri=f"{s3_folder}/data/eval.jsonl")
    assert caught.value.type == Reason.DATASET_BROKEN


def put_voice(stores: Stores, folder: str, seconds: float, architecture: str = "CsmForConditionalGeneration") -> None:
    """A recording with its transcript, and a model's folder as far as it is looked at."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes(b"\x01\x02" * round(seconds * 8_000))
    objects = {
        "model/config.json": json.dumps({"architectures": [architecture]}).encode(),
        "model/tokenizer.json": b"{}",
        "model/model.safetensors": struct.pack("<Q", 2) + b"{}",
        "clips/a.wav": buffer.getvalue(),
        "data/train.jsonl.gz": lines({"audio": "../clips/a.wav", "text": "One moment, please."}),
    }
    for name, content in objects.items():
        stores.put(parse_uri(f"{folder}/{name}"), content)


async def test_recordings_are_checked_for_a_model_of_speech(s3_folder: str) -> None:
    stores = Stores()
    put_voice(stores, s3_folder, seconds=1)
    checked = await check(stores, s3_folder, has_model=True)
    assert checked.message.startswith(f"{s3_folder}/data/: 1 recordings with transcripts")


async def test_a_recording_longer_than_a_sequence_is_refused_with_file_and_line(s3_folder: str) -> None:
    stores = Stores()
    put_voice(stores, s3_folder, seconds=42)
    with pytest.raises(
        ApplicationError, match=r"train.jsonl.gz, line 1: the recording ../clips/a.wav lasts 42.0 s; at most 41.0 s fit"
    ) as caught:
        await check(stores, s3_folder, has_model=True)
    assert (caught.value.type, caught.value.non_retryable) == (Reason.DATASET_BROKEN, True)


async def test_recordings_are_refused_for_a_model_that_writes(s3_folder: str) -> None:
    stores = Stores()
    put_voice(stores, s3_folder, seconds=1, architecture="LlamaForCausalLM")
    with pytest.raises(ApplicationError, match=r"holds recordings with transcripts, but the model writes") as caught:
        await check(stores, s3_folder, has_model=True)
    assert (caught.value.type, caught.value.non_retryable) == (Reason.DATASET_BROKEN, True)


@pytest.mark.parametrize("name", ["model.uri", "dataset.uri", "dataset.evalUri", "output.uri"])
@pytest.mark.parametrize("uri", ["s3://b//", "s3://?a/b", "s3://b/#x", "s3://[b/x", "s3://b/%2E%2E/x"])
async def test_a_uri_that_leads_nowhere_is_refused_for_good_and_the_field_named(good: str, name: str, uri: str) -> None:
    part, field = name.split(".")
    with pytest.raises(ApplicationError) as caught:
        await check_spec(Stores(), spec_of(good, **{part: {field: uri}}))
    assert caught.value.message.startswith(f'spec.{name}: "s3://')
    assert (caught.value.type, caught.value.non_retryable) == (Reason.INVALID_SPEC, True)
    assert caught.value.details == (Input(part),)


@pytest.mark.parametrize(
    ("part", "name"), [("model", "model.gguf"), ("dataset", "train.jsonl"), ("dataset", "data/train.jsonl")]
)
async def test_what_is_in_the_image_is_not_looked_for_on_this_machine(
    good: str, tmp_path: Path, part: str, name: str
) -> None:
    there = tmp_path / name
    there.parent.mkdir(exist_ok=True)
    there.write_bytes(b"\x00 neither model nor data")
    uri = f"file://{there}" if there.parent == tmp_path else f"file://{there.parent}/"

    checked = await check_spec(Stores(), spec_of(good, **{part: {"uri": uri}}))

    if part == "dataset":
        assert checked.reason is Reason.NOT_CHECKED
        assert checked.message == f"{uri} is in the image: checked when training starts"
        assert checked.dataset_fingerprint is None
    else:
        assert checked.reason is Reason.DATASET_CHECKED


async def test_held_out_data_in_the_image_are_not_looked_for_on_this_machine(good: str, tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/eval.jsonl"
    (tmp_path / "eval.jsonl").write_bytes(b"\x00 no data")

    checked = await check_spec(Stores(), spec_of(good, dataset={"evalUri": uri}))

    assert checked.reason is Reason.DATASET_CHECKED
    assert checked.message.startswith(f"{good}/data/: 1 conversations, ")
    assert checked.message.endswith(f"; {uri} is in the image: checked when training starts")


async def test_held_out_data_in_a_store_are_checked_where_those_to_train_on_are_in_the_image(good: str) -> None:
    dataset = {"uri": "file:///data/train.jsonl", "evalUri": f"{good}/data/"}

    checked = await check_spec(Stores(), spec_of(good, dataset=dataset))
    assert checked.message.startswith(f"{good}/data/: 1 conversations, ")
    assert checked.message.endswith("; file:///data/train.jsonl is in the image: checked when training starts")
    assert (checked.reason, checked.dataset_fingerprint) == (Reason.NOT_CHECKED, None)

    dataset["evalUri"] = f"{good}/no-such.jsonl"
    with pytest.raises(ApplicationError, match=r"no-such\.jsonl was not found") as caught:
        await check_spec(Stores(), spec_of(good, dataset=dataset))
    assert caught.value.type == Reason.DATASET_NOT_FOUND


@pytest.mark.parametrize(
    ("part", "uri", "reason", "says"),
    [
        ("model", "s3://no-such-bucket/model", Reason.MODEL_NOT_FOUND, "model s3://no-such-bucket/model: there is no"),
        ("model", "{good}/none", Reason.MODEL_NOT_FOUND, "no files are there"),
        ("model", "{good}/data/", Reason.MODEL_BROKEN, "no config.json"),
        ("dataset", "s3://no-such-bucket/data/", Reason.DATASET_NOT_FOUND, "dataset s3://no-such-bucket/data/: there"),
        ("dataset", "{good}/none", Reason.DATASET_NOT_FOUND, "was not found"),
        ("output", "s3://no-such-bucket/out", Reason.OUTPUT_NOT_FOUND, "output s3://no-such-bucket/out/runs/uid-1: th"),
    ],
)
async def test_a_refusal_says_which_input_it_is_about(
    good: str, part: str, uri: str, reason: Reason, says: str
) -> None:
    with pytest.raises(ApplicationError, match=says) as caught:
        await check_spec(Stores(), spec_of(good, **{part: {"uri": uri.format(good=good)}}))
    assert (caught.value.type, caught.value.details) == (reason, (Input(part),))


@pytest.mark.parametrize(
    ("name", "value", "reason", "says"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", Reason.ACCESS_DENIED, "the secret key is not the one"),
        ("AWS_ENDPOINT_URL", "ftp://nowhere", Reason.MODEL_NOT_FOUND, "the store's endpoint is no http"),
    ],
)
async def test_a_store_that_does_not_serve_the_model_is_not_the_datasets_fault(
    good: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: Reason, says: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ApplicationError, match=says) as caught:
        await check_spec(Stores(), spec_of(good))
    assert caught.value.message.startswith(f"model {good}/model: ")
    assert (caught.value.type, caught.value.details) == (reason, (Input.MODEL,))


async def test_looking_at_the_output_leaves_nothing_there(good: str) -> None:
    await check_spec(Stores(), spec_of(good))
    assert Stores().list_objects(parse_uri(f"{good}/out")) == []
