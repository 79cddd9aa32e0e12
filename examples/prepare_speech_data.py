"""Prepares something to try speech with: real recordings, and a CSM that is tiny and knows nothing.

    apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-en # telephone prompts, and what is said in them
    python examples/prepare_speech_data.py OUTPUT

writes OUTPUT/train.jsonl and OUTPUT/eval.jsonl, whose records name the recordings where the package has them (spoken by
Allison Smith, CC BY-SA 3.0), and OUTPUT/model: CSM and its codec with a hundred thousand random weights, which no
training will make speak. Needs perdure[speech].
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CsmConfig, CsmForConditionalGeneration, PreTrainedTokenizerFast

SOUNDS: Final = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TRANSCRIPTS: Final = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
WORDS: Final = 3
"""A sentence has so many at least."""
SECONDS: Final = 6.0
"""Of a sentence at most, so that trying it takes minutes on a CPU."""
HELD_OUT_EVERY: Final = 20

CODEBOOKS: Final = 3
CODES: Final = 16
MARKS: Final = ("<begin>", "<end>", "<audio>", "<audio end>")
_TOKENS: Final = 300
_CODE_MARKS: Final = 3
"""Codes that only the model knows, not the codec; CSM-1B has as many."""
_TRANSFORMER: Final[dict[str, Any]] = {
    "num_codebooks": CODEBOOKS,
    "vocab_size": CODES + _CODE_MARKS,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
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


@dataclass(frozen=True)
class Clip:
    """A recording and what is said in it."""

    path: Path
    text: str


def main() -> int:
    """Writes model and data; the exit status."""
    options = _parser().parse_args()
    for needed in (options.sounds, options.transcripts):
        if not needed.exists():
            print(f"{needed} is not there; apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-en")
            return 1
    clips = [clip for clip in read_clips(options.sounds, options.transcripts) if _is_sentence(clip)]
    held_out = clips[::HELD_OUT_EVERY]
    kept = [clip for clip in clips if clip not in held_out]
    write_model(options.output / "model", [clip.text for clip in clips])
    _write(options.output / "train.jsonl", kept)
    _write(options.output / "eval.jsonl", held_out)
    print(f"{options.output}: {len(kept)} recordings to train on, {len(held_out)} held out")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Prepares something to try speech with.")
    parser.add_argument("output", type=Path, help="folder to write to")
    parser.add_argument("--sounds", type=Path, default=SOUNDS, help="folder of recordings (%(default)s)")
    parser.add_argument("--transcripts", type=Path, default=TRANSCRIPTS, help="what is said in them (%(default)s)")
    return parser


def read_clips(sounds: Path, transcripts: Path) -> Iterator[Clip]:
    """The recordings of a package that are there: lines of `name: what is said` say which."""
    with gzip.open(transcripts, "rt") as lines:
        for line in lines:
            name, separator, text = line.partition(": ")
            path = sounds / f"{name}.wav"
            if separator and path.exists():
                yield Clip(path.resolve(), text.strip())


def _is_sentence(clip: Clip) -> bool:
    if len(clip.text.split()) < WORDS or re.search(r"[\[\d]", clip.text):  # a sound, or numbers that are not spelled
        return False
    with wave.open(str(clip.path)) as recording:
        return recording.getnframes() <= SECONDS * recording.getframerate()


def _write(path: Path, clips: Iterable[Clip]) -> None:
    records = ({"audio": f"file://{clip.path}", "text": clip.text} for clip in clips)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_model(folder: Path, sentences: Iterable[str]) -> None:
    """A tiny CSM with a tokenizer that was made for those sentences, in the layout of CSM-1B."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_TOKENS,
        special_tokens=list(MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    begin, end, *others = MARKS
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin, eos_token=end, additional_special_tokens=others
    ).save_pretrained(folder)
    _model().save_pretrained(folder)


def _model() -> CsmForConditionalGeneration:
    torch.manual_seed(1)
    decoder = {"backbone_hidden_size": 16, "num_hidden_layers": 1, "max_position_embeddings": CODEBOOKS + 1}
    config = CsmConfig(
        **_TRANSFORMER,
        text_vocab_size=_TOKENS,
        num_hidden_layers=2,
        max_position_embeddings=256,
        bos_token_id=MARKS.index("<begin>"),
        pad_token_id=MARKS.index("<audio>"),
        audio_token_id=MARKS.index("<audio>"),
        audio_eos_token_id=MARKS.index("<audio end>"),
        codebook_pad_token_id=CODES + 2,
        codebook_eos_token_id=0,
        depth_decoder_config={**_TRANSFORMER, **decoder},
        codec_config=_CODEC,
    )
    model = CsmForConditionalGeneration(config)
    for name, buffer in model.codec_model.named_buffers():
        if name.endswith("embed_sum"):  # all zero before a codec is trained: every sound would be the same code
            buffer.copy_(torch.randn(buffer.shape))
    return model


if __name__ == "__main__":
    sys.exit(main())
