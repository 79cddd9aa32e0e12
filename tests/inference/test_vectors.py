from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq

from perdure_api.inference import Embedded
from perdure_inference.vectors import packed, parquet

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4) / 7


def test_what_is_packed_is_unpacked_without_numpy() -> None:
    embedded = Embedded(count=3, dimension=4, tokens=3, seconds=0, model_fingerprint="", vectors=packed(ROWS))

    assert embedded.rows() == ROWS.tolist()


def test_a_file_holds_number_text_and_vector_of_each() -> None:
    content = parquet(7, ["a", "zwei", "三"], ROWS, {"perdure.model": "s3://b/model"})

    table = pq.read_table(io.BytesIO(content))
    assert table.column("row").to_pylist() == [7, 8, 9]
    assert table.column("text").to_pylist() == ["a", "zwei", "三"]
    assert table.column("vector").to_pylist() == ROWS.tolist()
    assert table.schema.metadata[b"perdure.model"] == b"s3://b/model"


def test_the_same_content_gives_the_same_bytes() -> None:
    assert parquet(0, ["a", "b", "c"], ROWS, {"m": "1"}) == parquet(0, ["a", "b", "c"], ROWS, {"m": "1"})
