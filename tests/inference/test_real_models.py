"""SmolLM2-135M and all-MiniLM-L6-v2, as they come out of their packages: `make models`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from perdure_devcluster.paths import paths_from_environment
from perdure_inference.generator import Sampling
from perdure_inference.models import Models

pytestmark = pytest.mark.slow

FOLDER = paths_from_environment(os.environ).cache / "models"


def uri_of(path: Path) -> str:
    if not path.exists():
        pytest.skip(f"{path.name} is not there: make models")
    return f"file://{path}"


def test_minilm_puts_what_means_the_same_close_together(models: Models) -> None:
    """The cosines are those that the model's makers show for these sentences."""
    sentences = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]

    found = models.encoder(uri_of(FOLDER / "all-minilm-l6-v2")).embed(sentences, normalize=True)

    assert found.rows.shape == (4, 384)
    np.testing.assert_allclose(found.rows[0] @ found.rows[1:].T, [0.695, 0.943, 0.257], atol=2e-3)


def test_minilm_reads_256_tokens_of_a_text(models: Models) -> None:
    found = models.encoder(uri_of(FOLDER / "all-minilm-l6-v2")).embed(["word " * 1000, "word " * 100], normalize=True)

    assert (found.truncated, found.tokens) == (1, 256 + 102)


def test_smollm2_answers_in_its_chat_template_and_stops_by_itself(models: Models) -> None:
    model = models.generator(uri_of(FOLDER / "smollm2-135m.gguf"), None)
    prompt = model.tokens("What is the capital of France? Answer in one word.", "", None)

    answer, again = model.generate([prompt, prompt], Sampling(max_new_tokens=30))

    assert "Paris" in answer.text
    assert answer.finish_reason == "stop"
    assert answer == again
