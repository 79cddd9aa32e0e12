"""Without the libraries of the extra `documents` there is nothing to test here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.typed import Perdure, perdure_in

collect_ignore_glob = [] if find_spec("pypdf") and find_spec("lancedb") else ["test_*.py"]


@pytest.fixture
def perdure(tmp_path: Path) -> Perdure:
    """The command."""
    return perdure_in(tmp_path)
