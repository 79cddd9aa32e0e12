from __future__ import annotations

import gzip
import io
import json
import struct
import wave

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from perdure_api.conditions import Reason
from perdure_api.spec import TrainingJobSpec
from perdure_api.uri import parse_uri
from perdure_api.workflow import JobRef
from perdure_data.stores import Stores
from perdure_workers.activities.storage import StorageActivities
from perdure_workers.messages import CheckInputs, InputsChecked

CHAT = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}


def lines(*records: object) -> bytes:
    return gzip.compress(b"".join(json.dumps(record).encode() + b"\n" for record in records), mtime=0)


async def check(stores: Stores, folder: str, *, has_model: bool = False, **dataset: str) -> InputsChecked:
    if not has_model:
        stores.put(parse_uri(f"{folder}/model/model.gguf"), b"GGUF")
    spec = {
        "model": {"uri": f"{folder}/model"},
        "dataset": {"uri": f"{folder}/data/", **dataset},
        "output": {"uri": f"{folder}/out"},
        "training": {"maxSteps": 1},
    }
    request = CheckInputs(
        job=JobRef(namespace="default", name="chat", uid="uid-1"), spec=TrainingJobSpec.from_wire(spec)
    )
    checked: InputsChecked = await ActivityEnvironment().run(StorageActivities(stores).check_inputs, request)
    return checked


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
