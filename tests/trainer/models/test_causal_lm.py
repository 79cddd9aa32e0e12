"""Small models of several families, with random weights: what must hold holds for any weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from perdure_api.spec import LoraSpec, TrainingSpec
from perdure_data.datasets import Completion, Passage
from perdure_data.model_files import fetch_model
from perdure_data.stores import Stores
from perdure_trainer.data.documents import Documents
from perdure_trainer.data.rows import Rows, TokenBatch, rows_of
from perdure_trainer.failures import ConfigError
from perdure_trainer.models.abilities import keeps_documents_apart, plain_head
from perdure_trainer.models.causal_lm import CausalLm
from perdure_trainer.models.token_loss import linear_cross_entropy
from tests.trainer import tiny

pytestmark = [
    pytest.mark.slow,
    # peft asks transformers by a name that has become an alias.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

WORDS = 320
SHAPE: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}


def llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


def gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3)
    )


def qwen2() -> Qwen2ForCausalLM:
    """Grouped queries, biases in the projections, tied embeddings."""
    return Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True))


def qwen2_sliding() -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM(Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=6, max_window_layers=1))


def gemma2() -> Gemma2ForCausalLM:
    """Caps its logits, so that its output layer is not plain."""
    return Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=0.5, pad_token_id=0))


def mamba() -> MambaForCausalLM:
    return MambaForCausalLM(MambaConfig(vocab_size=WORDS, hidden_size=32, state_size=4, num_hidden_layers=2))


FAMILIES = [llama, gpt2, qwen2, qwen2_sliding, gemma2]


def seeded(family: Any) -> Any:
    torch.manual_seed(2)
    model: PreTrainedModel = family()
    return model.eval()


def documents(count: int = 12) -> Documents:
    draw = np.random.default_rng(4)
    lengths = draw.integers(3, 30, count)
    return Documents(draw.integers(1, WORDS, lengths.sum()).astype(np.int32), lengths.cumsum())


def by_context(model: Any, rows: Rows, *, packing: bool) -> dict[tuple[int, ...], torch.Tensor]:
    """The logits at each place, found by everything that may be seen from there."""
    found = {}
    for number in range(len(rows)):
        batch: TokenBatch = rows.batch([number])
        where = {"position_ids": batch.positions} if packing else {}
        logits = model(input_ids=batch.tokens, use_cache=False, **where).logits[0]
        tokens, positions = batch.tokens[0].tolist(), batch.positions[0].tolist()
        for place, position in enumerate(positions):
            found[tuple(tokens[place - position : place + 1])] = logits[place]
    return found


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_packed_and_unpacked_logits_agree(family: Any) -> None:
    model = seeded(family)
    alone, together = (
        by_context(model, rows_of(documents(), 64, 1, 0, packing=packing), packing=packing) for packing in (False, True)
    )
    assert alone.keys() == together.keys()
    assert len(rows_of(documents(), 64, 1, 0, packing=True)) < 6
    for context, logits in alone.items():
        torch.testing.assert_close(together[context], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_keeps_documents_apart_is_known_by_trying_it(family: Any) -> None:
    assert keeps_documents_apart(seeded(family))


@contextmanager
def blind_to_positions(model: Any) -> Iterator[None]:
    """A model in which a row's later documents see the earlier ones."""
    forward = model.forward

    def seeing(*, position_ids: torch.Tensor | None = None, **inputs: Any) -> Any:
        if position_ids is not None:
            inputs["attention_mask"] = torch.ones_like(position_ids)
        return forward(position_ids=position_ids, **inputs)

    model.forward = seeing
    yield
    model.forward = forward


def test_a_model_that_lets_documents_see_each_other_is_known_by_trying_it() -> None:
    model = seeded(llama)
    with blind_to_positions(model):
        assert not keeps_documents_apart(model)


def test_a_model_without_positions_cannot_keep_documents_apart() -> None:
    assert not keeps_documents_apart(seeded(mamba))


@pytest.mark.parametrize(
    ("family", "plain"), [(llama, True), (gpt2, True), (qwen2, True), (gemma2, False), (mamba, True)]
)
def test_logits_that_are_more_than_the_output_layers_are_known_by_trying_it(family: Any, *, plain: bool) -> None:
    model = seeded(family)
    model.requires_grad_(requires_grad=False)
    assert (plain_head(model) is not None) == plain


def test_an_output_layer_that_is_trained_is_not_plain() -> None:
    assert plain_head(seeded(llama)) is None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("at_a_time", [1, 7, 10**6])
def test_the_loss_and_its_gradient_are_those_of_cross_entropy(
    monkeypatch: pytest.MonkeyPatch, *, bias: bool, at_a_time: int
) -> None:
    monkeypatch.setattr("perdure_trainer.models.token_loss._LOGITS_AT_A_TIME", at_a_time * 50)
    torch.manual_seed(3)
    head = nn.Linear(8, 50, bias=bias).requires_grad_(requires_grad=False)
    hidden, targets = torch.randn(20, 8, requires_grad=True), torch.randint(50, (20,))
    expected = nn.functional.cross_entropy(head(hidden), targets, reduction="sum") / 7
    (expected_gradient,) = torch.autograd.grad(expected, hidden)
    found = linear_cross_entropy(hidden, head, targets) / 7
    (gradient,) = torch.autograd.grad(found, hidden)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_a_loss_that_is_only_measured_finds_no_gradient() -> None:
    head = nn.Linear(8, 50).requires_grad_(requires_grad=False)
    assert not linear_cross_entropy(torch.randn(3, 8), head, torch.tensor([1, 2, 3])).requires_grad


def saved(model: Any, folder: Path) -> Path:
    tiny.write_model(folder)
    model.save_pretrained(folder)
    return folder


def loaded(folder: Path, *targets: str, **training: Any) -> CausalLm:
    spec = TrainingSpec(**{"max_steps": 1, "sequence_length": 64, "batch_size": 4, **training})
    return CausalLm.load(
        fetch_model(Stores(), f"file://{folder}", folder), LoraSpec(rank=2, target_modules=list(targets)), spec
    )


def mean_loss(model: CausalLm, folder: Path) -> tuple[float, int]:
    records = [Completion(f"{text[:9]}", text[9:]) for text in tiny.documents(20)]
    model.prepare(records, folder)
    rows = model.corpus(folder, folder).training
    batches = [rows.batch([number]) for number in range(len(rows))]
    model.module.eval()
    with torch.no_grad():
        return sum(model.loss(batch).item() for batch in batches), sum(batch.labels for batch in batches)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_same_packed_or_not(tmp_path: Path, family: Any) -> None:
    folder = saved(seeded(family), tmp_path / "model")
    results = [mean_loss(loaded(folder, packing=packing), tmp_path / str(packing)) for packing in (True, False)]
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert results[0][1] == results[1][1]


def test_a_model_that_cannot_pack_is_refused_unless_packing_is_off(tmp_path: Path) -> None:
    folder = saved(seeded(mamba), tmp_path / "model")
    with pytest.raises(ConfigError, match=r"see each other in a MambaForCausalLM; set training\.packing to false"):
        loaded(folder)
    assert mean_loss(loaded(folder, "in_proj", packing=False), tmp_path / "data")[1] > 0


def test_activations_that_are_computed_twice_change_no_gradient(tmp_path: Path) -> None:
    folder = saved(seeded(llama), tmp_path / "model")
    gradients = []
    for twice in (False, True):
        model = loaded(folder, gradient_checkpointing=twice)
        model.prepare([Passage(text, ends_document=True) for text in tiny.documents(10)], tmp_path / "data")
        model.module.train()
        layer = model.module.get_base_model().model.layers[0].mlp  # type: ignore[union-attr] # a Llama
        passes: list[int] = []
        layer.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))  # type: ignore[misc] # a hook
        torch.manual_seed(1)
        model.loss(model.corpus(tmp_path / "data", 0.2).training.batch([0])).backward()
        assert len(passes) == (2 if twice else 1)
        gradients.append([part.grad for part in model.module.parameters() if part.requires_grad])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_what_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    model = loaded(saved(seeded(llama), tmp_path / "model"))
    passages = [Passage(text, ends_document=True) for text in tiny.documents(50)]
    model.prepare(passages, tmp_path / "data")
    corpus = model.corpus(tmp_path / "data", 0.2)
    kept, held_out = (part.batch(range(len(part))).labels for part in (corpus.training, corpus.held_out))
    assert 0.1 < held_out / (kept + held_out) < 0.3
