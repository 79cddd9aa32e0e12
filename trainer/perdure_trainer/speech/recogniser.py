"""What a listener without a network understands: pocketsphinx, and the model of English that it brings along."""

from __future__ import annotations

from typing import Any, Final

from perdure_trainer.speech.waveform import Waveform, pcm16, resampled

_RATE: Final = 16_000
"""Of the recordings that the acoustic model was trained on."""


class Recogniser:
    """Writes down English speech. What it heard before does not matter."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder  # noqa: PLC0415 - an extra

        # "batch" takes the loudness of each recording from itself; "live" would from those before it.
        self._decoder: Any = Decoder(samprate=_RATE, cmn="batch", loglevel="FATAL")

    def hear(self, samples: Waveform, rate: int) -> str:
        """What is said; empty when nothing is."""
        pcm = pcm16(resampled(samples, rate, _RATE))
        if not pcm:
            return ""
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr if found else ""
