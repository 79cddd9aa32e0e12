"""From WAV files to waveforms: one channel of floats from -1 to 1, at a rate that is asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perdure_data.datasets.wav import Encoding, WavHeader, wav_header

Waveform = npt.NDArray[np.float32]


def waveform(wav: bytes, rate: int) -> Waveform:
    """The mean of all channels of a WAV file, resampled.

    Raises:
        WavError: it is no such file.
    """
    header = wav_header(wav, len(wav))
    size = header.length * header.channels * header.sample_bytes
    samples = _floats(header, wav[header.start : header.start + size])
    return resampled(samples.reshape(-1, header.channels).mean(1), header.rate, rate)


def resampled(samples: Waveform, from_rate: int, to_rate: int) -> Waveform:
    """A waveform at another rate."""
    if from_rate == to_rate:
        return samples
    import soxr  # noqa: PLC0415 - an extra

    found: Waveform = soxr.resample(samples, from_rate, to_rate)
    return found


def pcm16(samples: Waveform) -> bytes:
    """A waveform as little-endian 16-bit whole numbers."""
    return (np.clip(np.nan_to_num(samples), -1, 1) * (2**15 - 1)).astype("<i2").tobytes()


def _floats(header: WavHeader, content: bytes) -> Waveform:
    size = header.sample_bytes
    if header.encoding is Encoding.FLOAT:
        return np.frombuffer(content, f"<f{size}").astype(np.float32)
    if size == 1:  # the only size without a sign
        return ((np.frombuffer(content, np.uint8).astype(np.float64) - 128) / 128).astype(np.float32)
    # In the upper bytes of 32 bits, so that 24 bits keep their sign.
    padded = np.zeros((len(content) // size, 4), np.uint8)
    padded[:, 4 - size :] = np.frombuffer(content, np.uint8).reshape(-1, size)
    return (padded.view("<i4")[:, 0] / np.float64(2**31)).astype(np.float32)
