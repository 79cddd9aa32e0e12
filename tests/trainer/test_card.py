from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from perdure_api.pod import ResultDocument
from perdure_trainer.card import Card
from perdure_trainer.models.contract import Usage
from perdure_trainer.settings import from_environment
from tests.trainer.test_settings import pod

RESULT = ResultDocument(
    job_uid="uid-1",
    attempt=2,
    step=30,
    metrics={"eval_loss": 1.5, "perplexity": 4.48, "train_seconds": 12.5},
    base_metrics={"eval_loss": 2.5, "perplexity": 12.18},
    eval_samples=40,
    eval_counts={"tokens": 12345, "answers": 7},
    fingerprints={"dataset": "sha256:d", "model": "sha256:m", "tokenizer": "sha256:t"},
)


def card(**changes: object) -> Card:
    settings = from_environment(pod())
    usage = Usage("text-generation", "from peft import PeftModel\n")
    return Card(settings, RESULT.model_copy(update=changes), usage, "loss.png")


@pytest.fixture
def read(tmp_path: Path) -> ModelCard:
    """The card as the hub's own library reads it."""
    (tmp_path / "README.md").write_text(card().markdown())
    return ModelCard.load(tmp_path / "README.md")


def test_the_hub_reads_what_it_is_and_how_good(read: ModelCard) -> None:
    assert (read.data.library_name, read.data.pipeline_tag) == ("peft", "text-generation")
    assert read.data.eval_results is not None
    assert {each.metric_type: each.metric_value for each in read.data.eval_results} == {
        "eval_loss": 1.5,
        "perplexity": 4.48,
    }


def test_people_read_before_and_after_on_how_much(read: ModelCard) -> None:
    assert "| `eval_loss` | 2.5 | 1.5 |\n" in read.text
    assert "Measured on 40 samples, 12,345 tokens and 7 answers." in read.text


def test_people_read_what_went_in(read: ModelCard) -> None:
    settings = from_environment(pod())
    assert f"| dataset | `{settings.dataset.uri}` | `sha256:d` |" in read.text
    assert f"| model | `{settings.model.uri}` | `sha256:m` |" in read.text
    assert "| tokenizer |  | `sha256:t` |" in read.text
    assert f"| training.learningRate | `{settings.training.learning_rate}` |" in read.text
    assert f"| lora.rank | `{settings.lora.rank}` |" in read.text


def test_a_metric_that_is_no_number_is_not_told_to_the_hub(tmp_path: Path) -> None:
    text = card(metrics={"eval_loss": float("nan"), "perplexity": 2.0}).markdown()
    (tmp_path / "README.md").write_text(text)
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert [each.metric_type for each in results or []] == ["perplexity"]
