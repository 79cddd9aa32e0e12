"""A language model: what it reads, what it says, where it stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from perdure_data.errors import NotFound
from perdure_data.models import ModelBroken
from perdure_inference.errors import Interrupted, InvalidRequest, ModelUnfit, TooManyTokens
from perdure_inference.generator import Sampling, TextGenerator
from perdure_inference.models import Models
from tests.inference.tiny import write_generator
from tests.trainer.tiny import documents

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

PROMPTS = ["the quick", "a", "fox jumps over a lazy dog", "日本語"]


def said(model: TextGenerator, *prompts: str, **sampling: object) -> list[str]:
    tokens = [model.tokens(prompt, "", None) for prompt in prompts]
    return [answer.text for answer in model.generate(tokens, Sampling(max_new_tokens=12, **sampling))]  # type: ignore[arg-type]


def test_an_answer_is_what_transformers_alone_says(models: Models, generator_uri: str) -> None:
    """Prompts of different lengths are answered together, and each as if it were alone."""
    found = said(models.generator(generator_uri, None), *PROMPTS)

    path = generator_uri.removeprefix("file://")
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path)
    for prompt, answer in zip(PROMPTS, found, strict=True):
        assert answer == tokenizer.decode(by_transformers(model, tokenizer, prompt), skip_special_tokens=True)


def by_transformers(model: Any, tokenizer: Any, prompt: str) -> list[int]:
    ids = tokenizer(prompt, return_tensors="pt")
    config = GenerationConfig(max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=0)  # type: ignore[no-untyped-call]
    written = model.generate(**ids, generation_config=config)
    tokens: list[int] = written[0, ids["input_ids"].shape[1] :].tolist()
    return tokens


def test_an_answer_is_cut_at_its_limit_and_says_so(models: Models, generator_uri: str) -> None:
    model = models.generator(generator_uri, None)
    tokens = model.tokens("the quick", "", None)

    (answer,) = model.generate([tokens], Sampling(max_new_tokens=3))

    assert (answer.prompt_tokens, answer.completion_tokens, answer.finish_reason) == (len(tokens), 3, "length")


def test_an_answer_ends_where_the_model_says_so(models: Models, tmp_path: Path) -> None:
    folder = write_generator(tmp_path / "model")
    alone, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    written = by_transformers(alone, tokenizer, "the quick")
    end = next(token for place, token in enumerate(written) if place > 2 and token not in written[:place])
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, end]}))

    model = models.generator(f"file://{folder}", None)
    (answer,) = model.generate([model.tokens("the quick", "", None)], Sampling(max_new_tokens=12))

    assert (answer.finish_reason, answer.completion_tokens) == ("stop", written.index(end))


def test_chance_is_decided_by_the_seed(models: Models, generator_uri: str) -> None:
    model = models.generator(generator_uri, None)

    one, again, other = (said(model, "the", temperature=1.5, seed=seed) for seed in (1, 1, 2))

    assert one == again != other


def test_what_the_folder_would_sample_by_is_not_used(models: Models, tmp_path: Path, generator_uri: str) -> None:
    folder = write_generator(tmp_path / "model")
    (folder / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 9.0, "eos_token_id": 0})
    )

    assert said(models.generator(f"file://{folder}", None), *PROMPTS) == said(
        models.generator(generator_uri, None), *PROMPTS
    )


def test_a_prompt_is_put_into_the_chat_template_where_there_is_one(models: Models, chat_uri: str) -> None:
    model = models.generator(chat_uri, None)
    tokenizer = AutoTokenizer.from_pretrained(chat_uri.removeprefix("file://"))

    assert tokenizer.decode(model.tokens("fox", "Be brief.", None)) == "<system>Be brief.<user>fox<assistant>"
    assert tokenizer.decode(model.tokens("fox", "", chat=False)) == "fox"


@pytest.mark.parametrize(
    ("system", "chat", "says"),
    [("", True, "chat is true, and model .* has no chat template"), ("Be brief.", None, "system is given, and model")],
    ids=["a conversation", "a system prompt"],
)
def test_a_model_that_knows_no_conversation_is_not_asked_for_one(
    models: Models, generator_uri: str, system: str, chat: Any, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        models.generator(generator_uri, None).tokens("fox", system, chat)


@pytest.mark.parametrize(
    ("tokens", "allowed", "new", "says"),
    [
        (11, 10, 5, r"has 11 tokens; expected at most 10 \(maxPromptTokens\)"),
        (100, None, 29, "has 100 tokens and maxNewTokens is 29; expected at most 128 together"),
    ],
    ids=["than allowed", "than the model reads"],
)
def test_a_prompt_that_is_longer_is_refused(
    models: Models, generator_uri: str, tokens: int, allowed: int | None, new: int, says: str
) -> None:
    model = models.generator(generator_uri, None)
    model.check_length(10, 10, 5)
    model.check_length(100, None, 28)

    with pytest.raises(TooManyTokens, match=says):
        model.check_length(tokens, allowed, new)


def test_what_is_given_up_ends_at_the_next_token(models: Models, generator_uri: str) -> None:
    model = models.generator(generator_uri, None)
    asked: list[bool] = []

    def after_three() -> bool:
        asked.append(len(asked) >= 3)
        return asked[-1]

    with pytest.raises(Interrupted):
        model.generate([model.tokens("the", "", None)], Sampling(max_new_tokens=100), after_three)

    assert len(asked) <= 6


def write_adapter(folder: Path, base: str, rank: int = 4) -> Path:
    model = AutoModelForCausalLM.from_pretrained(base.removeprefix("file://"))
    torch.manual_seed(3)
    adapted = get_peft_model(model, LoraConfig(r=rank, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(str(folder))
    return folder


def test_an_adapter_changes_what_is_said(models: Models, generator_uri: str, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", generator_uri)

    base, adapted = models.generator(generator_uri, None), models.generator(generator_uri, f"file://{adapter}")

    assert said(base, *documents(4)) != said(adapted, *documents(4))
    assert base.fingerprint != adapted.fingerprint


def test_an_adapter_for_another_model_is_refused(models: Models, generator_uri: str, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", generator_uri)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "r": 8}))

    with pytest.raises(ModelUnfit, match="the adapter does not fit the model"):
        models.generator(generator_uri, f"file://{adapter}")


def test_an_adapter_that_is_not_there_is_told(models: Models, generator_uri: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"adapter_config\.json was not found"):
        models.generator(generator_uri, f"file://{tmp_path}/none")


def test_an_encoder_does_not_write(models: Models, encoder_uri: str) -> None:
    with pytest.raises(ModelBroken, match=r'the architecture "BertModel" in config\.json; expected a causal language'):
        models.generator(encoder_uri, None)
