"""The command, as a test types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.typed import Perdure, perdure_in


@pytest.fixture
def perdure(tmp_path: Path) -> Perdure:
    """The command."""
    return perdure_in(tmp_path)
