"""Vectors as bytes: in an answer, and as a file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray


def packed(rows: NDArray[np.float32]) -> str:
    """Base64 of the numbers, little-endian, row by row."""
    return base64.b64encode(rows.astype("<f4", copy=False).tobytes()).decode()


def parquet(first_row: int, texts: Sequence[str], rows: NDArray[np.float32], about: Mapping[str, str]) -> bytes:
    """A Parquet file with the columns `row` (int64), `text` (string) and `vector` (fixed-size list of float32).

    The same content gives the same bytes.

    Args:
        first_row: Number of the first.
        texts: As many as there are rows.
        rows: (texts, dimension)
        about: Kept in the file's metadata.
    """
    numbers = pa.array(np.arange(first_row, first_row + len(texts), dtype=np.int64))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    table = pa.table({"row": numbers, "text": pa.array(texts, pa.string()), "vector": vectors})
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(dict(about)), sink, compression="zstd")
    return sink.getvalue()
