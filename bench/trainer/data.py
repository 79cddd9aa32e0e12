"""The benchmark's model and data: SmolLM2-135M as float32, and documents of many lengths from the King James Bible.

python data.py MODEL.gguf CHAPTERS.jsonl FOLDER
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

MEDIAN_CHARACTERS = 500
SPREAD = 0.8
"""Of the logarithm of the lengths: most sets of instructions are about that uneven."""
LONGEST_CHARACTERS = 1500
"""So that no document is longer than a sequence, which others would cut off."""
DOCUMENTS, HELD_OUT = 1500, 24


def write_documents(chapters: Path, folder: Path) -> None:
    """Two JSON Lines files of whole lines of the chapters: to train on, and held out."""
    draw = random.Random(0)
    lines = [line for row in chapters.read_text().splitlines() for line in json.loads(row)["text"].splitlines()]
    documents: list[str] = []
    place = 0
    while len(documents) < DOCUMENTS + HELD_OUT and place < len(lines):
        wanted = min(LONGEST_CHARACTERS, draw.lognormvariate(0, SPREAD) * MEDIAN_CHARACTERS)
        document = lines[place][:LONGEST_CHARACTERS]
        place += 1
        while place < len(lines) and len(document) + len(lines[place]) + 1 < wanted:
            document += "\n" + lines[place]
            place += 1
        documents.append(document)
    for name, part in (("train", documents[HELD_OUT:]), ("held-out", documents[:HELD_OUT])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))


def texts(path: Path) -> list[str]:
    """The documents of a file."""
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def write_model(gguf: Path, folder: Path) -> None:
    """The model of a GGUF file in the Hugging Face layout, which all of them read."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - takes seconds

    if (folder / "tokenizer_config.json").exists():
        return
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


if __name__ == "__main__":
    source, text, target = (Path(argument) for argument in sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    write_documents(text, target)
    write_model(source, target / "model")
