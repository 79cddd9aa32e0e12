from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq


@pytest.fixture
def parquet_of() -> Callable[..., bytes]:
    """The bytes of a Parquet file with some records."""

    def written(records: list[dict[str, Any]] | pa.Table, **options: Any) -> bytes:
        buffer = io.BytesIO()
        table = records if isinstance(records, pa.Table) else pa.Table.from_pylist(records)
        pq.write_table(table, buffer, **options)
        return buffer.getvalue()

    return written
