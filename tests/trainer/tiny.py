"""A language model of a few thousand weights, and something for it to learn."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCE = "the quick brown fox jumps over a lazy dog and runs away from it to sleep under some old tree"
WORDS = SENTENCE.split()


def write_model(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([SENTENCE], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")  # type: ignore[no-untyped-call]
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def documents(count: int, seed: int = 0) -> list[str]:
    """Sentences whose words follow each other in a fixed circle: easy to learn, but not trivial."""
    draw = random.Random(seed)
    result = []
    for _ in range(count):
        start = draw.randrange(len(WORDS))
        result.append(" ".join(WORDS[(start + offset) % len(WORDS)] for offset in range(draw.randint(8, 30))))
    return result


def write_dataset(path: Path, count: int = 200) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(count)))
