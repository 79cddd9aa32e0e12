"""Prompts into texts, by a causal language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import torch
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from perdure_api.inference import FinishReason
from perdure_api.spec import Precision
from perdure_data.model_files import ModelFolder
from perdure_inference.batches import batches
from perdure_inference.errors import Interrupted, InvalidRequest, ModelUnfit, TooManyTokens
from perdure_inference.loading import device_at_hand, dtype_for, load_causal_lm

ROWS: Final = 16
"""Prompts that are answered together."""
_TOKENS: Final = 65_536
"""Of a batch, prompts and answers together: what the model remembers of each costs memory."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    """0: the likeliest."""
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """What a model said."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason


class TextGenerator:
    """A causal language model and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, uri: str, fingerprint: str) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._uri = uri
        self.fingerprint = fingerprint
        told = model.generation_config.eos_token_id
        ends = {tokenizer.eos_token_id, *(told if isinstance(told, list) else [told])} - {None}
        if not ends:
            raise ModelUnfit(
                f"model {uri}: found no end-of-text token; expected eos_token in tokenizer_config.json. Add it"
            )
        self._ends = sorted(ends)
        self._padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self._ends[0]
        # What the folder would have us sample by is not what was asked for.
        model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]

    @classmethod
    def load(cls, folder: ModelFolder, adapter: Path | None, fingerprint: str) -> Self:
        """The model of a folder, on the GPU where there is one, with an adapter merged into it.

        Raises:
            ModelUnfit: the adapter is not one for this model, or it has no end.
        """
        device = device_at_hand()
        tokenizer, model = load_causal_lm(folder, dtype_for(Precision.AUTO, device))
        if adapter is not None:
            try:
                model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
            except (RuntimeError, ValueError, KeyError, OSError) as error:
                raise ModelUnfit(
                    f"the adapter does not fit the model {folder.report.uri}: {_first_line(error)}; give the base "
                    f"model that it was trained on"
                ) from error
        return cls(model.to(device).eval(), tokenizer, folder.report.uri, fingerprint)

    @property
    def limit_tokens(self) -> int | None:
        """How many tokens it reads, its own included; None: it does not say."""
        limit: int | None = getattr(self._model.config, "max_position_embeddings", None)
        return limit

    def tokens(self, prompt: str, system: str, chat: bool | None) -> list[int]:  # noqa: FBT001 - three values
        """What the model reads of a prompt.

        Raises:
            InvalidRequest: a conversation is asked for, and the model knows of none.
        """
        templated = bool(self._tokenizer.chat_template) if chat is None else chat
        if templated and not self._tokenizer.chat_template:
            raise InvalidRequest(f"chat is true, and model {self._uri} has no chat template; leave chat out")
        if system and not templated:
            raise InvalidRequest(
                f"system is given, and model {self._uri} has no chat template or chat is false; put it into the prompt"
            )
        if not templated:
            plain: list[int] = self._tokenizer(prompt)["input_ids"]
            return plain
        turns = [{"role": "system", "content": system}] if system else []
        text = self._tokenizer.apply_chat_template(
            [*turns, {"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def check_length(self, tokens: int, max_prompt_tokens: int | None, max_new_tokens: int) -> None:
        """Raises TooManyTokens when a prompt is longer than was allowed, or leaves no room for the answer."""
        reads = self.limit_tokens
        if max_prompt_tokens is not None and tokens > max_prompt_tokens:
            raise TooManyTokens(
                f"the prompt has {tokens} tokens; expected at most {max_prompt_tokens} (maxPromptTokens). Shorten it"
            )
        if reads is not None and tokens + max_new_tokens > reads:
            raise TooManyTokens(
                f"the prompt has {tokens} tokens and maxNewTokens is {max_new_tokens}; expected at most {reads} "
                f"together, which is all that model {self._uri} reads. Shorten the prompt, or ask for fewer new tokens"
            )

    def generate(
        self, prompts: Sequence[list[int]], sampling: Sampling, given_up: Callable[[], bool] = lambda: False
    ) -> list[Answer]:
        """Answers in the order of the prompts (token ids, none of them empty).

        Raises:
            Interrupted: it was given up.
        """
        torch.manual_seed(sampling.seed)
        answers: dict[int, Answer] = {}
        room = [len(prompt) + sampling.max_new_tokens for prompt in prompts]
        for batch in batches(room, ROWS, _TOKENS):
            answers |= zip(batch, self._batch([prompts[row] for row in batch], sampling, given_up), strict=True)
        return [answers[row] for row in range(len(prompts))]

    @torch.inference_mode()
    def _batch(self, prompts: Sequence[list[int]], sampling: Sampling, given_up: Callable[[], bool]) -> list[Answer]:
        width = max(len(prompt) for prompt in prompts)
        device = self._model.device
        tokens = torch.tensor([[self._padding] * (width - len(each)) + each for each in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts], device=device)
        written = self._model.generate(
            input_ids=tokens,
            attention_mask=mask,
            generation_config=self._config(sampling),
            stopping_criteria=StoppingCriteriaList([_GivenUp(given_up)]),
        )
        if given_up():
            raise Interrupted("given up")
        return [self._answer(len(prompt), row[width:].tolist()) for prompt, row in zip(prompts, written, strict=True)]

    def _config(self, sampling: Sampling) -> GenerationConfig:
        chance = sampling.temperature > 0
        how = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0} if chance else {}
        return GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=sampling.max_new_tokens,
            do_sample=chance,
            eos_token_id=self._ends,
            pad_token_id=self._padding,
            **how,
        )

    def _answer(self, prompt_tokens: int, written: list[int]) -> Answer:
        end = next((place for place, token in enumerate(written) if token in self._ends), None)
        said = written if end is None else written[:end]
        text: str = self._tokenizer.decode(said, skip_special_tokens=True)
        return Answer(text, prompt_tokens, len(said), "length" if end is None else "stop")


class _GivenUp(StoppingCriteria):
    def __init__(self, given_up: Callable[[], bool]) -> None:
        self._given_up = given_up

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - the library's signature
        return torch.full((len(input_ids),), self._given_up(), dtype=torch.bool, device=input_ids.device)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
