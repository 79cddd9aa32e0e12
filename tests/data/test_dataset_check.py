from __future__ import annotations

import hashlib
import itertools
import json
import random

import pytest

from perdure_api.conditions import Reason
from perdure_api.spec import DatasetFormat, DatasetSpec
from perdure_api.uri import StoreUri
from perdure_data.datasets import (
    DatasetBroken,
    DatasetDenied,
    DatasetEmpty,
    DatasetError,
    DatasetNotFound,
    DatasetReader,
    DatasetReport,
    ReadingPlan,
    Source,
    check_dataset,
)
from perdure_data.errors import Unavailable
from perdure_data.stores import Stores

SMALL_PLAN = ReadingPlan(whole_limit_bytes=10_000, edge_bytes=1_000, sample_bytes=1_000, samples=8)


def documents(count: int) -> bytes:
    return b"".join(json.dumps({"text": f"document {number}"}).encode() + b"\n" for number in range(count))


async def check(
    stores: Stores, folder: StoreUri, content: bytes, format_: DatasetFormat = DatasetFormat.JSONL
) -> DatasetReport:
    uri = folder.child("data")
    stores.put(uri, content)
    return await check_dataset(stores, DatasetSpec(uri=str(uri), format=format_), SMALL_PLAN)


async def test_a_good_dataset_is_counted_and_fingerprinted(stores: Stores, folder: StoreUri) -> None:
    content = documents(100)
    assert await check(stores, folder, content) == DatasetReport(
        uri=str(folder.child("data")),
        size_bytes=len(content),
        documents=100,
        whole=True,
        fingerprint=f"sha256:{hashlib.sha256(content).hexdigest()}",
    )


async def test_the_trainer_sees_the_fingerprint_that_the_check_saw(stores: Stores, folder: StoreUri) -> None:
    report = await check(stores, folder, documents(100))
    reader = DatasetReader(stores, Source.training(DatasetSpec(uri=report.uri)))
    assert len(list(reader.passages())) == 100
    assert reader.fingerprint == report.fingerprint


async def test_held_out_data_is_checked_too(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("train"), documents(10))
    stores.put(folder.child("eval"), b"broken")
    spec = DatasetSpec(uri=str(folder.child("train")), eval_uri=str(folder.child("eval")))
    with pytest.raises(DatasetBroken, match=f"{folder.child('eval')}, line 1: no JSON"):
        await check_dataset(stores, spec)
    stores.put(folder.child("eval"), documents(5))
    report = await check_dataset(stores, spec)
    assert report.held_out is not None
    assert (report.documents, report.held_out.documents) == (10, 5)


async def test_a_large_dataset_is_sampled_and_its_documents_estimated(stores: Stores, folder: StoreUri) -> None:
    report = await check(stores, folder, documents(5_000))
    assert not report.whole
    assert report.documents == pytest.approx(5_000, rel=0.1)
    assert report.fingerprint.startswith("sampled-sha256:")
    assert (await check(stores, folder, documents(5_001))).fingerprint != report.fingerprint


@pytest.mark.parametrize("place", [0.0, 1.0], ids=["head", "tail"])
async def test_a_break_at_either_end_of_a_large_dataset_is_found(
    stores: Stores, folder: StoreUri, place: float
) -> None:
    content = documents(5_000).split(b"\n")
    content.insert(round(place * (len(content) - 2)), b"broken")
    with pytest.raises(DatasetBroken, match="no JSON"):
        await check(stores, folder, b"\n".join(content))


@pytest.mark.parametrize("size_bytes", [0, 1, 10_000, 10_001, 12_345, 10**6])
def test_regions_cover_both_ends_and_never_overlap(size_bytes: int) -> None:
    regions = SMALL_PLAN.regions(size_bytes)
    assert regions[0].start == 0
    assert regions[-1].end == size_bytes
    assert all(before.end <= after.start for before, after in itertools.pairwise(regions))
    assert sum(region.end - region.start for region in regions) <= SMALL_PLAN.whole_limit_bytes


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"", "has 0 bytes", id="empty"),
        pytest.param(b" \n\n\t\n", "holds nothing but white space", id="white space"),
        pytest.param(b'{"text": " "}\n', "holds nothing but white space", id="white documents"),
    ],
)
async def test_a_dataset_with_nothing_in_it_is_refused(
    stores: Stores, folder: StoreUri, content: bytes, sentence: str
) -> None:
    with pytest.raises(DatasetEmpty, match=sentence) as caught:
        await check(stores, folder, content)
    assert caught.value.reason is Reason.DATASET_EMPTY


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"hello hello\nhello", 'says only "hello", 3 times', id="one word"),
        pytest.param(b"aaaa aa\na", "nothing can be learnt", id="one character"),
        pytest.param("好好好".encode(), 'says only "好好好", 1 times', id="one character of many bytes"),
    ],
)
async def test_one_thing_over_and_over_is_refused(
    stores: Stores, folder: StoreUri, content: bytes, sentence: str
) -> None:
    with pytest.raises(DatasetBroken, match=sentence) as caught:
        await check(stores, folder, content, DatasetFormat.TEXT)
    assert caught.value.reason is Reason.DATASET_BROKEN


async def test_a_text_without_spaces_is_not_one_word_over_and_over(stores: Stores, folder: StoreUri) -> None:
    report = await check(stores, folder, "天地玄黃宇宙洪荒".encode(), DatasetFormat.TEXT)
    assert report.documents == 1


async def test_binary_data_is_refused(stores: Stores, folder: StoreUri) -> None:
    noise = random.Random(1).randbytes(20_000)
    for format_ in DatasetFormat:
        with pytest.raises(DatasetBroken):
            await check(stores, folder, noise, format_)


async def test_a_missing_dataset_is_named(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("data/part-1.jsonl"), documents(1))
    with pytest.raises(DatasetNotFound, match=r"none was not found") as caught:
        await check_dataset(stores, DatasetSpec(uri=str(folder.child("none"))))
    assert caught.value.reason is Reason.DATASET_NOT_FOUND
    with pytest.raises(DatasetNotFound, match=r"it is a folder; .* must be one file, such as part-1.jsonl there"):
        await check_dataset(stores, DatasetSpec(uri=str(folder.child("data"))))


async def test_wrong_credentials_are_a_reason_of_their_own(
    stores: Stores, s3_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(DatasetDenied, match="the secret key") as caught:
        await check_dataset(stores, DatasetSpec(uri=f"{s3_folder}/train.jsonl"))
    assert isinstance(caught.value, DatasetError)
    assert caught.value.reason is Reason.ACCESS_DENIED


@pytest.mark.usefixtures("broken_store")
async def test_a_store_that_is_away_is_no_error_of_the_dataset(stores: Stores) -> None:
    with pytest.raises(Unavailable):
        await check_dataset(stores, DatasetSpec(uri="s3://somewhere/train.jsonl"))
