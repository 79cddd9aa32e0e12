from __future__ import annotations

import numpy as np
import pytest

from perdure_trainer.speech.recogniser import Recogniser
from perdure_trainer.speech.waveform import waveform
from tests.trainer.speech import tiny


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser()


@pytest.mark.parametrize(
    ("name", "heard"), [("one-moment-please", "one moment please"), ("please-try-again", "please try again")]
)
def test_a_telephone_recording_is_understood(recogniser: Recogniser, name: str, heard: str) -> None:
    samples = waveform(tiny.CLIPS.with_name(f"{name}.wav").read_bytes(), 24_000)
    assert recogniser.hear(samples, 24_000) == heard


def test_what_was_heard_before_does_not_matter(recogniser: Recogniser) -> None:
    samples = waveform(tiny.CLIPS.with_name("one-moment-please.wav").read_bytes(), 16_000)
    first = recogniser.hear(samples, 16_000)
    recogniser.hear(samples[::-1].copy() / 100, 16_000)
    assert recogniser.hear(samples, 16_000) == first


@pytest.mark.parametrize(
    "samples",
    [np.empty(0, np.float32), np.zeros(10, np.float32), np.full(1600, np.nan, np.float32)],
    ids=["nothing", "next to nothing", "no numbers"],
)
def test_nothing_is_heard_where_there_is_nothing(recogniser: Recogniser, samples: np.ndarray) -> None:
    assert recogniser.hear(samples, 16_000) in {"", "the", "and"}
