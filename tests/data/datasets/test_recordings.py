from __future__ import annotations

import io
import json
import wave
from typing import Any

import pytest

from perdure_api.spec import DatasetSpec, RecordFields
from perdure_api.uri import StoreUri, parse_uri
from perdure_data.datasets import (
    DatasetBroken,
    DatasetError,
    DatasetReader,
    DatasetReport,
    Extent,
    Source,
    Utterance,
    check_dataset,
)
from perdure_data.datasets.recordings import recording_uri
from perdure_data.stores import Stores


def wav(seconds: float) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes(b"\x01\x02" * round(seconds * 8_000))
    return buffer.getvalue()


def put(stores: Stores, folder: StoreUri, *records: dict[str, Any], **clips: bytes) -> DatasetSpec:
    for name, content in clips.items():
        stores.put(folder.child("clips", f"{name}.wav"), content)
    uri = folder.child("train.jsonl")
    stores.put(uri, "".join(json.dumps(record) + "\n" for record in records).encode())
    return DatasetSpec(uri=str(uri))


def record(name: str, text: str = "some words") -> dict[str, str]:
    return {"audio": f"clips/{name}.wav", "text": text}


async def refusal(stores: Stores, spec: DatasetSpec, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        await check_dataset(stores, spec, **options)
    return str(caught.value)


async def test_recordings_are_found_beside_the_file_that_names_them(stores: Stores, folder: StoreUri) -> None:
    spec = put(stores, folder, record("a"), {**record("b"), "id": 7}, a=wav(1), b=wav(2))
    report = await check_dataset(stores, spec)
    assert (report.documents, report.records, report.extent) == (2, RecordFields.SPEECH, Extent.SAMPLED)
    assert report.noun == "recordings with transcripts"


async def test_a_recording_may_be_anywhere_in_the_store(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("elsewhere.wav"), wav(1))
    spec = put(stores, folder, {"audio": str(folder.child("elsewhere.wav")), "text": "some words"})
    assert (await check_dataset(stores, spec)).documents == 1


def test_the_trainer_reads_them_whole(stores: Stores, folder: StoreUri) -> None:
    spec = put(stores, folder, record("a", "one"), record("b", "two"), a=wav(1), b=wav(2))
    found = list(DatasetReader(stores, Source.training(spec)).records())
    assert [(each.text, each.wav) for each in found if isinstance(each, Utterance)] == [
        ("one", wav(1)),
        ("two", wav(2)),
    ]


async def fingerprints(stores: Stores, spec: DatasetSpec) -> tuple[str, str]:
    reader = DatasetReader(stores, Source.training(spec))
    list(reader.records())
    return reader.fingerprint, (await check_dataset(stores, spec)).fingerprint


async def test_another_recording_is_another_dataset(stores: Stores, folder: StoreUri) -> None:
    spec = put(stores, folder, record("a"), a=wav(1))
    before = await fingerprints(stores, spec)
    assert await fingerprints(stores, spec) == before
    put(stores, folder, record("a"), a=wav(2))
    after = await fingerprints(stores, spec)
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    ("clip", "sentence"),
    [
        pytest.param(None, "line 2: the recording ", id="missing"),
        pytest.param(b"ID3" + bytes(100), "line 2: the recording clips/b.wav is no WAV file", id="no WAV"),
        pytest.param(b"", "line 2: the recording clips/b.wav is no WAV file", id="no bytes"),
        pytest.param(wav(0), "line 2: the recording clips/b.wav is empty (0.00 s of sound)", id="empty"),
        pytest.param(wav(1)[:-8], "line 2: the recording clips/b.wav is cut", id="cut"),
        pytest.param(
            wav(5), "line 2: the recording clips/b.wav lasts 5.0 s; at most 4.0 s fit", id="longer than a sequence"
        ),
    ],
)
async def test_what_cannot_be_heard_is_named_before_it_is_trained_on(
    stores: Stores, folder: StoreUri, clip: bytes | None, sentence: str
) -> None:
    clips = {"a": wav(1)} | ({} if clip is None else {"b": clip})
    spec = put(stores, folder, record("a"), record("b"), **clips)
    message = await refusal(stores, spec, longest_seconds=4.0)
    assert message.startswith(f"dataset {spec.uri}, {sentence}")


@pytest.mark.parametrize("clip", [None, b"ID3" + bytes(100), wav(1)[:-8]], ids=["missing", "no WAV", "cut"])
async def test_check_and_trainer_say_the_same(stores: Stores, folder: StoreUri, clip: bytes | None) -> None:
    spec = put(stores, folder, record("a"), **({} if clip is None else {"a": clip}))
    with pytest.raises(DatasetBroken) as caught:
        list(DatasetReader(stores, Source.training(spec)).records())
    assert str(caught.value) == await refusal(stores, spec)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        pytest.param({"audio": "a.wav", "text": " "}, 'field "text" is empty; it must say what is said', id="silent"),
        pytest.param({"audio": 7, "text": "a b"}, 'field "audio" is a number (7); it must be a string', id="a number"),
        pytest.param({"audio": " ", "text": "a b"}, "expected a path relative to this file", id="no name"),
        pytest.param({"text": "a b"}, 'field "audio" is missing', id="no audio"),
    ],
)
async def test_a_record_must_name_both(stores: Stores, folder: StoreUri, fields: dict[str, Any], sentence: str) -> None:
    message = await refusal(stores, put(stores, folder, record("a"), fields, a=wav(1)))
    assert message.startswith(f"dataset {folder.child('train.jsonl')}, line 2: ")
    assert sentence in message


async def test_the_text_of_recordings_can_be_trained_on_alone(stores: Stores, folder: StoreUri) -> None:
    spec = put(stores, folder, record("not there"), record("neither")).model_copy(update={"records": RecordFields.TEXT})
    assert (await check_dataset(stores, spec)).records is RecordFields.TEXT


async def test_text_stays_text_when_a_later_record_names_a_sound(stores: Stores, folder: StoreUri) -> None:
    report = await check_dataset(stores, put(stores, folder, {"text": "some words"}, record("not there")))
    assert (report.documents, report.records) == (2, RecordFields.TEXT)


@pytest.mark.parametrize(
    ("file", "name", "uri"),
    [
        pytest.param("s3://b/d/train.jsonl", "a.wav", "s3://b/d/a.wav", id="beside"),
        pytest.param("s3://b/d/train.jsonl", "../x/./a b.wav", "s3://b/x/a b.wav", id="above"),
        pytest.param("s3://b/train.jsonl", "x/a.wav", "s3://b/x/a.wav", id="at the root"),
        pytest.param("file:///d/train.jsonl", "../a.wav", "file:///a.wav", id="file"),
        pytest.param("s3://b/d/train.jsonl", "gs://c/a.wav", "gs://c/a.wav", id="another store"),
        pytest.param("file:///d/train.jsonl", "file:///e/a.wav", "file:///e/a.wav", id="another folder"),
    ],
)
def test_a_name_leads_to_a_recording(file: str, name: str, uri: str) -> None:
    assert str(recording_uri(parse_uri(file), Utterance("line 1", name, "a"))) == uri


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        pytest.param("../../a.wav", "expected a path relative to this file", id="out of the bucket"),
        pytest.param("/etc/passwd", "expected a path relative to this file", id="absolute"),
        pytest.param("file:///etc/passwd", "a path of whichever machine reads it", id="a file of the machine's"),
        pytest.param("https://x/a.wav", "starts with no scheme that Perdure knows", id="the web"),
    ],
)
def test_a_name_leads_nowhere_else(name: str, sentence: str) -> None:
    with pytest.raises(DatasetBroken, match=sentence):
        recording_uri(parse_uri("s3://b/d/train.jsonl"), Utterance("line 1", name, "a"))


async def test_far_into_a_dataset_every_sixteenth_header_is_read(
    stores: Stores, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure_data.datasets.recordings.READ_AT_FIRST", 2)
    folder = parse_uri(f"file://{tmp_path}/folder")

    async def checked(broken: int) -> DatasetReport:
        clips = {f"c{number}": b"no sound" if number == broken else wav(1) for number in range(33)}
        return await check_dataset(stores, put(stores, folder, *(record(name) for name in clips), **clips))

    for read in (0, 1, 16, 32):
        with pytest.raises(DatasetBroken, match=f"line {read + 1}: the recording"):
            await checked(read)
    assert (await checked(15)).documents == 33
