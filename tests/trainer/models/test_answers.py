from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from perdure_trainer.data.documents import Documents, stored
from perdure_trainer.data.rows import rows_of
from perdure_trainer.models.answers import exact_answers
from perdure_trainer.models.token_loss import linear_scores, scores
from tests.trainer.models.test_causal_lm import WORDS, gemma2, llama, loaded, saved, seeded

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

Part = tuple[list[int], bool]
"""Tokens, and whether they are learnt."""


def document(*parts: Part) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.concatenate([stored(tokens, learnt=learnt) for tokens, learnt in parts])


def documents(*each: np.ndarray[Any, np.dtype[np.int32]]) -> Documents:
    return Documents(np.concatenate(each), np.cumsum([len(one) for one in each]))


def written(model: Any, prompt: list[int], count: int) -> list[int]:
    """What a model writes behind a prompt when it takes the most likely token each time."""
    tokens = model.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False, eos_token_id=None)
    return [int(token) for token in tokens[0, len(prompt) :]]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("family", [llama, gemma2])
def test_an_answer_is_exact_when_the_model_would_write_it(tmp_path: Path, family: Any, *, packing: bool) -> None:
    model = seeded(family)
    draw = np.random.default_rng(5)
    questions = []
    for number in range(9):
        prompt = draw.integers(1, WORDS, draw.integers(2, 9)).tolist()
        answer = written(model, prompt, int(draw.integers(1, 9)))
        if number % 3 == 0:  # one wrong token, anywhere in it
            wrong = int(draw.integers(len(answer)))
            answer[wrong] = (answer[wrong] + 1) % WORDS
        questions.append(document((prompt, False), (answer, True)))
    rows = rows_of(documents(*questions), 32, 4, 0, packing=packing)
    with torch.no_grad():
        loaded_model = loaded(saved(model, tmp_path / "model"), packing=packing)
        loaded_model.module.eval()
        sums = loaded_model.measure(rows.batch(range(len(rows))))
    assert (sums["answers"], sums["exact"]) == (9, 6)


@pytest.mark.parametrize(
    ("parts", "answers"),
    [
        pytest.param([([1, 2], False), ([3, 4], True)], 1, id="a question and an answer"),
        pytest.param([([1], True), ([2], False), ([3], True)], 1, id="behind a mark of the beginning"),
        pytest.param([([1, 2, 3, 4], True)], 0, id="plain text"),
        pytest.param([([1, 2], False), ([3], True), ([4, 5], False), ([6], True)], 0, id="a conversation of two turns"),
    ],
)
@pytest.mark.parametrize("packing", [True, False])
def test_only_a_question_with_one_answer_counts(parts: list[Part], answers: int, *, packing: bool) -> None:
    """Beside a longer text, so that there is padding, or another document in the row."""
    longer = document(([9] * 20, True))
    rows = rows_of(documents(document(*parts), longer), 64, 2, 0, packing=packing)
    batch = rows.batch(range(len(rows)))
    assert exact_answers(batch, torch.ones(batch.labels, dtype=torch.bool)) == (answers, answers)
    assert exact_answers(batch, torch.zeros(batch.labels, dtype=torch.bool)) == (answers, 0)


@pytest.mark.parametrize("at_a_time", [1, 7, 10**6])
def test_scores_do_not_depend_on_how_many_logits_there_are_at_a_time(
    monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr("perdure_trainer.models.token_loss._LOGITS_AT_A_TIME", at_a_time * 5)
    torch.manual_seed(3)
    head = torch.nn.Linear(8, 5)
    hidden, targets = torch.randn(20, 8), torch.randint(5, (20,))
    losses, hits = linear_scores(hidden, head, targets)
    torch.testing.assert_close((losses, hits), scores(head(hidden), targets))
    assert 0 < int(hits.sum()) < len(hits)


def test_metrics_are_means_over_all_that_was_counted(tmp_path: Path) -> None:
    model = loaded(saved(seeded(llama), tmp_path / "model"))
    measured = model.measured({"loss": 0.0, "tokens": 8, "correct": 6, "answers": 4, "exact": 1})
    assert measured.metrics == {"eval_loss": 0.0, "perplexity": 1.0, "token_accuracy": 0.75, "exact_match": 0.25}
    assert measured.counts == {"tokens": 8, "answers": 4}


def test_without_answers_nothing_is_said_of_exact_ones(tmp_path: Path) -> None:
    model = loaded(saved(seeded(llama), tmp_path / "model"))
    measured = model.measured({"loss": 1.0, "tokens": 8, "correct": 6, "answers": 0, "exact": 0})
    assert "exact_match" not in measured.metrics
    assert measured.counts == {"tokens": 8}
