"""Raw results in files, compressed or not."""

from __future__ import annotations

import gzip
from pathlib import Path


def read(path: Path) -> str:
    """The text of a file; of one that ends in `.gz`, what is in it.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not what its name says.
    """
    if path.suffix != ".gz":
        return path.read_text()
    try:
        return gzip.decompress(path.read_bytes()).decode()
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(str(error)) from error
