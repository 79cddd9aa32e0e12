from __future__ import annotations

import gzip
import io

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from perdure_api.spec import DatasetFormat, DatasetSpec
from perdure_api.uri import StoreUri, parse_uri
from perdure_data.datasets import DatasetBroken, DatasetDenied, DatasetEmpty, DatasetNotFound, Source
from perdure_data.datasets.files import data_files, locate, look_at
from perdure_data.datasets.formats import FileFormat, recognise
from perdure_data.stores import ObjectInfo, Stores

LINE = b'{"text": "hello"}\n'


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["hello"]}), buffer)
    return buffer.getvalue()


def objects(*names: str, size_bytes: int = 9) -> list[ObjectInfo]:
    return [ObjectInfo(parse_uri(f"s3://b/data/{name}"), size_bytes, None) for name in names]


def source(format_: DatasetFormat = DatasetFormat.AUTO) -> Source:
    return Source(parse_uri("s3://b/data/"), format_)


@pytest.mark.parametrize(
    ("name", "head", "format_"),
    [
        ("train.jsonl", LINE, FileFormat.JSONL),
        ("train", LINE, FileFormat.JSONL),
        ("train.txt", b"Once upon a time", FileFormat.TEXT),
        ("train.TXT.gz", gzip.compress(b"Once upon a time"), FileFormat.TEXT),
        ("train.txt", b"\xef\xbb\xbf \n" + LINE, FileFormat.JSONL),
        ("train.txt", gzip.compress(LINE), FileFormat.JSONL),
        ("train.txt", parquet(), FileFormat.PARQUET),
        ("train.gz", b"Once upon a time", FileFormat.JSONL),
    ],
    ids=[
        "jsonl", "no suffix", "text", "text in gzip", "JSON under the name of text", "the same in gzip",
        "Parquet under the name of text", "text under another name",
    ],
)  # fmt: skip
def test_the_first_bytes_say_what_a_file_is_and_then_its_name(name: str, head: bytes, format_: FileFormat) -> None:
    (info,) = objects(name)
    assert recognise(info, head, DatasetFormat.AUTO).format is format_


@pytest.mark.parametrize("format_", [DatasetFormat.TEXT, DatasetFormat.JSONL])
def test_a_format_that_is_asked_for_is_not_questioned(format_: DatasetFormat) -> None:
    (info,) = objects("train.txt")
    assert recognise(info, LINE, format_).format == format_.value


def test_what_was_said_to_be_parquet_must_be() -> None:
    (info,) = objects("train.parquet")
    with pytest.raises(DatasetBroken, match=r"s3://b/data/train.parquet is no Parquet file \(found b'{\"te'"):
        recognise(info, LINE, DatasetFormat.PARQUET)


def test_a_file_is_a_dataset_and_so_is_a_folder_in_the_order_of_names(stores: Stores, folder: StoreUri) -> None:
    for name in ("b.jsonl", "a/z.jsonl.zst", "c.jsonl.gz", "a.jsonl"):
        stores.put(folder.child(name), LINE)
    stores.put(parse_uri(f"{folder}-beside/d.jsonl"), LINE)
    (one,) = locate(stores, Source(folder.child("b.jsonl")))
    assert one.uri == folder.child("b.jsonl")
    several = locate(stores, Source(parse_uri(f"{folder}/")))
    names = ["a.jsonl", "a/z.jsonl.zst", "b.jsonl", "c.jsonl.gz"]
    assert [info.uri for info in several] == [folder.child(name) for name in names]


def test_a_folder_without_its_slash_is_explained(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("a.jsonl"), LINE)
    with pytest.raises(DatasetNotFound, match=r'it is a folder; end spec.dataset.uri with "/" to train on all'):
        locate(stores, Source(folder))


def test_a_folder_that_is_not_there_is_named(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("a.jsonl"), LINE)
    with pytest.raises(DatasetNotFound, match=f"{folder}/none/ has no files; upload them or correct the URI"):
        locate(stores, Source(parse_uri(f"{folder}/none/")))


def test_an_empty_file_of_several_is_named(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("a.jsonl"), LINE)
    stores.put(folder.child("b.jsonl"), b"")
    with pytest.raises(DatasetEmpty, match=f"{folder}/b.jsonl has 0 bytes"):
        locate(stores, Source(parse_uri(f"{folder}/")))


def test_a_folder_that_may_not_be_read_is_denied(
    stores: Stores, s3_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(DatasetDenied, match="the secret key"):
        locate(stores, Source(parse_uri(f"{s3_folder}/")))


@pytest.mark.parametrize("name", [".DS_Store", "_metadata", ".ipynb_checkpoints/a.jsonl", "b/._a.jsonl"])
def test_hidden_files_are_named(name: str) -> None:
    with pytest.raises(DatasetBroken, match=rf'hidden files \("{name}"\), which may be data or not; remove them'):
        data_files(source(), objects("a.jsonl", name))


def test_files_of_an_unknown_kind_are_named() -> None:
    names = [f"{number}.csv" for number in range(9)]
    with pytest.raises(DatasetBroken, match=r'another kind \("0.csv", .*"5.csv" and 3 more\); expected .jsonl, .txt'):
        data_files(source(), objects("a.jsonl", *names))


@pytest.mark.parametrize(
    ("format_", "fitting", "other"),
    [
        (DatasetFormat.JSONL, ["part-0", "a.json", "b.ndjson.zst", "c.jsonl.gz"], "d.txt"),
        (DatasetFormat.TEXT, ["part-0", "a.txt", "b.md", "c.text.gz"], "d.jsonl"),
        (DatasetFormat.PARQUET, ["part-0", "a.parquet", "b.pq"], "d.jsonl"),
    ],
)
def test_with_a_format_only_names_of_that_format_fit(format_: DatasetFormat, fitting: list[str], other: str) -> None:
    found = objects(*fitting)
    assert data_files(source(format_), found) == found
    with pytest.raises(DatasetBroken, match=f'another kind \\("{other}"\\); expected {format_} files'):
        data_files(source(format_), [*found, *objects(other)])


def test_empty_objects_that_stand_for_folders_are_no_files() -> None:
    found = objects("a/b/c.jsonl")
    markers = objects("", "a", "a/", "a/b", "_SUCCESS", size_bytes=0)
    assert data_files(source(), [*markers, *found]) == found


def test_files_of_two_formats_are_named(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("a.parquet"), parquet())
    stores.put(folder.child("b/README.md"), b"About these data")
    mixed = Source(parse_uri(f"{folder}/"))
    with pytest.raises(DatasetBroken, match=r"two formats \(parquet: a.parquet, text: b/README.md\)"):
        list(look_at(stores, mixed, locate(stores, mixed)))


@pytest.mark.parametrize(
    ("uri", "eval_uri"),
    [("s3://b/data/", "s3://b/data/eval.jsonl"), ("s3://b/data/train/", "s3://b/data/"), ("s3://b/a/", "s3://b/a/")],
    ids=["eval inside", "train inside", "the same folder"],
)
def test_what_is_measured_with_must_not_be_trained_on(uri: str, eval_uri: str) -> None:
    with pytest.raises(DatasetBroken, match="what is trained on would be measured with"):
        Source.held_out(DatasetSpec(uri=uri, eval_uri=eval_uri))
