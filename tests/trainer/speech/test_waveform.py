from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest

from perdure_trainer.speech.waveform import pcm16, resampled, waveform
from tests.trainer.speech import tiny

TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000)).astype(np.float32)


def wav(content: bytes, encoding: int, bits: int, channels: int = 1, rate: int = 8_000) -> bytes:
    layout = struct.pack("<HHIIHH", encoding, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    chunks = b"fmt " + struct.pack("<I", len(layout)) + layout + b"data" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def whole(bits: int) -> bytes:
    scaled = np.round(TONE * (2 ** (bits - 1) - 1)).astype("<i4")
    return scaled.view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()


@pytest.mark.parametrize(
    ("content", "encoding", "bits", "precision"),
    [
        pytest.param(np.round(TONE * 127 + 128).astype(np.uint8).tobytes(), 1, 8, 1e-2, id="8 bits"),
        pytest.param(whole(16), 1, 16, 1e-4, id="16 bits"),
        pytest.param(whole(24), 1, 24, 1e-6, id="24 bits"),
        pytest.param(whole(32), 1, 32, 1e-6, id="32 bits"),
        pytest.param(TONE.astype("<f4").tobytes(), 3, 32, 0.0, id="floats"),
        pytest.param(TONE.astype("<f8").tobytes(), 3, 64, 0.0, id="doubles"),
    ],
)
def test_a_tone_is_the_same_in_every_encoding(content: bytes, encoding: int, bits: int, precision: float) -> None:
    found = waveform(wav(content, encoding, bits), 8_000)
    assert found.dtype == np.float32
    assert np.abs(found - TONE).max() <= precision


def test_channels_are_mixed() -> None:
    both = np.stack([TONE, np.zeros_like(TONE)], 1)
    assert np.allclose(waveform(wav(both.tobytes(), 3, 32, channels=2), 8_000), TONE / 2)


def test_another_rate_keeps_pitch_and_length() -> None:
    found = resampled(TONE, 8_000, 24_000)
    assert len(found) == 24_000
    assert np.abs(np.fft.rfft(found)).argmax() == 440


def test_a_recording_is_what_the_standard_library_reads() -> None:
    path = tiny.CLIPS.with_name("transfer.wav")
    with wave.open(str(path)) as file:
        expected = file.readframes(file.getnframes())
    # 2^15 - 1 steps either way, and WAV has one more below
    difference = np.frombuffer(pcm16(waveform(path.read_bytes(), 8_000)), "<i2") - np.frombuffer(
        expected, "<i2"
    ).astype(int)
    assert np.abs(difference).max() <= 1


def test_what_is_written_with_the_standard_library_is_read() -> None:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes(pcm16(TONE))
    assert np.abs(waveform(buffer.getvalue(), 8_000) - TONE).max() < 1e-4
