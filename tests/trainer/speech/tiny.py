"""The tiny CSM of the example, and six real recordings to learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import prepare_speech_data

CLIPS: Final = Path(__file__).parent / "clips" / "clips.jsonl"


def transcripts() -> list[str]:
    return [json.loads(line)["text"] for line in CLIPS.read_text().splitlines()]


def write_model(folder: Path) -> None:
    prepare_speech_data.write_model(folder, transcripts())
