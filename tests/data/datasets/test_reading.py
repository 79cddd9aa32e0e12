from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from perdure_api.spec import DatasetSpec
from perdure_data.datasets import DatasetBroken, DatasetError, DatasetReader, ReadingPlan, Record, Source
from perdure_data.datasets.check import check_dataset_now
from perdure_data.stores import Stores

LINES = [
    b'{"text": "one two"}',
    b'{"text": "three"}',
    b'{"messages": [{"role": "assistant", "content": "four"}]}',
    b'{"prompt": "five", "completion": "six"}',
    b"",
    b"seven",
    b"\xff",
]
COMPRESS: list[Callable[[bytes], bytes]] = [
    bytes,
    gzip.compress,
    zstd.compress,
    lambda content: gzip.compress(content)[:-3],
]
FILES = st.tuples(
    st.sampled_from(["jsonl", "txt", "gz"]),
    st.sampled_from(COMPRESS),
    # Good lines come first, so that most files are good ones.
    st.lists(st.sampled_from(LINES[:2]) | st.sampled_from(LINES), max_size=4).map(b"\n".join),
)


def read(stores: Stores, spec: DatasetSpec) -> tuple[list[Record], str]:
    reader = DatasetReader(stores, Source.training(spec))
    return list(reader.records()), reader.fingerprint


@given(st.lists(FILES, min_size=1, max_size=4))
def test_check_and_trainer_agree_on_every_dataset_that_both_read_whole(
    files: list[tuple[str, Callable[[bytes], bytes], bytes]],
) -> None:
    with TemporaryDirectory() as folder:
        for number, (suffix, compress, content) in enumerate(files):
            Path(folder, f"{number}.{suffix}").write_bytes(compress(content))
        stores, spec = Stores(), DatasetSpec(uri=f"file://{folder}/")
        try:
            report = check_dataset_now(stores, spec, ReadingPlan())
        except DatasetError as error:
            refused = str(error)
        else:
            assert read(stores, spec)[1] == report.fingerprint
            return
        try:
            records, _ = read(stores, spec)
        except DatasetBroken as error:
            said = str(error)
            assert said == refused
        except DatasetError:
            pass  # an empty file
        else:
            assert "nothing but white space" in refused or "says only" in refused, records
