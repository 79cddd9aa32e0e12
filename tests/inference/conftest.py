from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure_data.stores import Stores
from perdure_inference.engine import Engine
from perdure_inference.models import Models
from tests.inference.tiny import write_encoder, write_generator


@pytest.fixture(scope="session")
def encoder_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"file://{write_encoder(tmp_path_factory.mktemp('encoder'))}"


@pytest.fixture(scope="session")
def generator_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"file://{write_generator(tmp_path_factory.mktemp('generator'))}"


@pytest.fixture(scope="session")
def chat_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"file://{write_generator(tmp_path_factory.mktemp('chat'), chat=True)}"


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(Stores(), tmp_path / "scratch", keep=4)


@pytest.fixture
def engine(models: Models) -> Iterator[Engine]:
    with Engine(models) as engine:
        yield engine
