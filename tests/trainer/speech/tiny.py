"""A CSM of a hundred thousand random weights, with a codec to match, and six real recordings to learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CsmConfig, CsmForConditionalGeneration, PreTrainedTokenizerFast

CLIPS: Final = Path(__file__).parent / "clips" / "clips.jsonl"
MARKS: Final = ["<begin>", "<end>", "<audio>", "<audio end>"]
CODEBOOKS: Final = 3
CODES: Final = 16
CODE_MARKS: Final = 3
"""Codes that only the model knows, not the codec; CSM-1B has as many."""

_ATTENTION: Final = {"num_attention_heads": 2, "num_key_value_heads": 1}
_DECODER: Final[dict[str, Any]] = {
    "num_codebooks": CODEBOOKS,
    "vocab_size": CODES + CODE_MARKS,
    "hidden_size": 16,
    "intermediate_size": 32,
    **_ATTENTION,
}
_CODEC: Final[dict[str, Any]] = {
    "model_type": "mimi",
    "hidden_size": 16,
    "num_filters": 4,
    "codebook_size": CODES,
    "codebook_dim": 8,
    "num_quantizers": CODEBOOKS,
    "vector_quantization_hidden_dimension": 8,
    "upsample_groups": 16,
    "num_hidden_layers": 1,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "sliding_window": 50,
}


def transcripts() -> list[str]:
    return [json.loads(line)["text"] for line in CLIPS.read_text().splitlines()]


def write_model(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=MARKS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(transcripts(), trainer)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=MARKS[0], eos_token=MARKS[1], additional_special_tokens=MARKS[2:]
    )
    fast.save_pretrained(folder)
    model().save_pretrained(folder)


def model() -> CsmForConditionalGeneration:
    torch.manual_seed(1)
    config = CsmConfig(
        **_DECODER,
        text_vocab_size=300,
        num_hidden_layers=2,
        max_position_embeddings=128,
        bos_token_id=0,
        pad_token_id=2,
        audio_token_id=2,
        audio_eos_token_id=3,
        codebook_pad_token_id=CODES + 2,
        codebook_eos_token_id=0,
        depth_decoder_config={
            **_DECODER,
            "backbone_hidden_size": 16,
            "num_hidden_layers": 1,
            "max_position_embeddings": CODEBOOKS + 1,
        },
        codec_config=_CODEC,
    )
    csm = CsmForConditionalGeneration(config)
    for name, buffer in csm.codec_model.named_buffers():
        if name.endswith("embed_sum"):  # all zero before a codec is trained: every sound would be the same code
            buffer.copy_(torch.randn(buffer.shape))
    return csm
