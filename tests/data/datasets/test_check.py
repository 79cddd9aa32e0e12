from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import random
from collections.abc import Callable
from functools import cache

import pytest
from backports import zstd

from perdure_api.conditions import Reason
from perdure_api.spec import DatasetFormat, DatasetSpec, RecordFields
from perdure_api.uri import StoreUri, parse_uri
from perdure_data.datasets import (
    DatasetBroken,
    DatasetDenied,
    DatasetEmpty,
    DatasetError,
    DatasetNotFound,
    DatasetReader,
    DatasetReport,
    Extent,
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
        files=1,
        size_bytes=len(content),
        documents=100,
        records=RecordFields.TEXT,
        extent=Extent.WHOLE,
        fingerprint=f"sha256:{hashlib.sha256(content).hexdigest()}",
    )


async def test_the_trainer_sees_the_fingerprint_that_the_check_saw(stores: Stores, folder: StoreUri) -> None:
    report = await check(stores, folder, documents(100))
    reader = DatasetReader(stores, Source.training(DatasetSpec(uri=report.uri)))
    assert len(list(reader.records())) == 100
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
    assert report.extent is Extent.SAMPLED
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


async def check_files(stores: Stores, folder: StoreUri, *contents: bytes, suffix: str = "jsonl") -> DatasetReport:
    for number, content in enumerate(contents, 1):
        stores.put(folder.child(f"part-{number}.{suffix}"), content)
    return await check_dataset(stores, DatasetSpec(uri=f"{folder}/"), SMALL_PLAN)


def read(stores: Stores, folder: StoreUri) -> tuple[int, str]:
    reader = DatasetReader(stores, Source(parse_uri(f"{folder}/")))
    return len(list(reader.records())), reader.fingerprint


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress], ids=["plain", "gzip", "zstd"])
async def test_files_of_a_folder_are_one_dataset_for_check_and_trainer(
    stores: Stores, folder: StoreUri, compress: Callable[[bytes], bytes]
) -> None:
    contents = [compress(documents(count)) for count in (10, 20, 30)]
    report = await check_files(stores, folder, *contents)
    assert (report.files, report.documents, report.extent) == (3, 60, Extent.WHOLE)
    assert report.size_bytes == sum(map(len, contents))
    assert read(stores, folder) == (60, report.fingerprint)


async def test_a_fingerprint_covers_content_and_order_but_no_names(stores: Stores, folder: StoreUri) -> None:
    one, two = documents(10), documents(20)
    fingerprints = {
        name: (await check_files(stores, folder.child(name), *contents, suffix=suffix)).fingerprint
        for name, contents, suffix in (
            ("a", (one, two), "jsonl"),
            ("renamed", (one, two), "json"),
            ("swapped", (two, one), "jsonl"),
            ("joined", (one + two,), "jsonl"),
        )
    }
    assert fingerprints["a"] == fingerprints["renamed"]
    assert len(set(fingerprints.values())) == 3


async def test_one_broken_line_in_the_middle_of_the_third_file_is_found(stores: Stores, folder: StoreUri) -> None:
    lines = documents(50).split(b"\n")
    lines.insert(25, b"broken")
    contents = [gzip.compress(content) for content in (documents(50), documents(50), b"\n".join(lines), documents(50))]
    with pytest.raises(DatasetBroken, match=f"^dataset {folder}/part-3.jsonl.gz, line 26: no JSON"):
        await check_files(stores, folder, *contents, suffix="jsonl.gz")
    with pytest.raises(DatasetBroken, match=f"^dataset {folder}/part-3.jsonl.gz, line 26: no JSON"):
        read(stores, folder)


async def test_records_of_two_kinds_in_two_files_are_no_dataset(stores: Stores, folder: StoreUri) -> None:
    pair = json.dumps({"prompt": "a", "completion": "b"}).encode()
    with pytest.raises(DatasetBroken, match=f'^dataset {folder}/part-2.jsonl, line 1: field "text" is missing'):
        await check_files(stores, folder, documents(10), pair)


async def test_of_many_large_files_each_is_looked_at_and_not_more_than_planned(
    stores: Stores, folder: StoreUri
) -> None:
    report = await check_files(stores, folder, documents(5_000), documents(2_000), documents(10))
    assert report.extent is Extent.SAMPLED
    assert report.documents == pytest.approx(7_010, rel=0.1)
    for number in (1, 2, 3):
        uri = folder.child(f"part-{number}.jsonl")
        whole = stores.read(uri, limit_bytes=10**6)
        for broken in (b"broken\n" + whole, whole + b"broken\n"):
            stores.put(uri, broken)
            with pytest.raises(DatasetBroken, match=f"{uri}, .*: no JSON"):
                await check_dataset(stores, DatasetSpec(uri=f"{folder}/"), SMALL_PLAN)
        stores.put(uri, whole)


@cache
def twenty_thousand_texts(compress: Callable[[bytes], bytes]) -> bytes:
    """Of random letters: these do not shrink much, so that the share that was read can be told."""
    texts = [random.Random(number).randbytes(300).hex() for number in range(20_000)]
    return compress(b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts))


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
async def test_of_large_compressed_data_the_front_is_read(
    stores: Stores, folder: StoreUri, compress: Callable[[bytes], bytes]
) -> None:
    uri = folder.child("data")
    stores.put(uri, twenty_thousand_texts(compress))
    report = await check_dataset(stores, DatasetSpec(uri=str(uri)), ReadingPlan(whole_limit_bytes=4_000_000))
    assert report.extent is Extent.FRONT
    assert report.fingerprint.startswith("front-sha256:")
    assert report.documents == pytest.approx(20_000, rel=0.2)


async def test_a_bomb_costs_no_more_than_the_plan(stores: Stores, folder: StoreUri) -> None:
    # Each of a million lines is a good one, and a kilobyte is all that they take.
    bomb = zstd.compress(b'{"text": "two words"}\n' * 1_000_000)
    report = await check(stores, folder, bomb)
    assert (report.extent, report.size_bytes) == (Extent.FRONT, len(bomb))


async def test_of_parquet_the_footer_is_read(
    stores: Stores, folder: StoreUri, parquet_of: Callable[..., bytes]
) -> None:
    contents = [parquet_of([{"text": f"document {number}"} for number in range(count)]) for count in (10, 20)]
    report = await check_files(stores, folder, *contents, suffix="parquet")
    assert (report.files, report.documents, report.extent) == (2, 30, Extent.FOOTER)
    assert report.fingerprint.startswith("footer-sha256:")
    count, fingerprint = read(stores, folder)
    assert (count, fingerprint.partition(":")[0]) == (30, "sha256")
    stores.put(folder.child("part-2.parquet"), parquet_of([{"text": f"dokument {number}"} for number in range(20)]))
    assert read(stores, folder)[1] != fingerprint


async def test_text_files_are_a_document_each(stores: Stores, folder: StoreUri) -> None:
    report = await check_files(stores, folder, b"Once upon a time", b"there was a cluster.\n" * 1000, suffix="txt")
    assert (report.files, report.documents, report.extent) == (2, 2, Extent.SAMPLED)


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
    with pytest.raises(DatasetNotFound, match=r"none was not found") as caught:
        await check_dataset(stores, DatasetSpec(uri=str(folder.child("none"))))
    assert caught.value.reason is Reason.DATASET_NOT_FOUND


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
