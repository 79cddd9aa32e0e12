"""Sesame CSM: a transformer that reads text and frames of sound, and a small one that completes each frame."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoTokenizer, CsmForConditionalGeneration

from perdure_api.spec import LoraSpec, TrainingSpec
from perdure_data.datasets import Record, Utterance
from perdure_data.datasets.wav import WavError
from perdure_data.model_files import ModelFolder
from perdure_inference.loading import device_at_hand, dtype_for
from perdure_trainer.data.documents import Documents, DocumentWriter
from perdure_trainer.evaluation import spread
from perdure_trainer.failures import ConfigError, DataError
from perdure_trainer.models.adapted_model import AdaptedModel
from perdure_trainer.models.adapter import adaptable_layers, adapted
from perdure_trainer.models.contract import Measured, Usage
from perdure_trainer.models.loading import (
    check_sequence_length,
    place_elsewhere,
    spare_memory,
)
from perdure_trainer.speech.error_rates import error_rates
from perdure_trainer.speech.recogniser import Recogniser
from perdure_trainer.speech.utterances import Codes, Marks, UtteranceBatch, Utterances, as_document
from perdure_trainer.speech.waveform import Waveform, waveform

_EXTRA: Final = ("soxr", "pocketsphinx")
_CODEC: Final = "codec_model."
_SPEAKER: Final = "[0]"
"""CSM tells speakers apart by such a number before the text; a dataset is of one."""
EXAMINED: Final = 24
"""Held-out sentences that are spoken: each is as slow as thousands of training steps are fast."""
_ROOM: Final = 2
"""A sentence may be spoken so many times more slowly than its recording before it is cut off."""
_ROOM_FRAMES: Final = 12


class Csm(AdaptedModel):
    """A CSM, its tokenizer, its codec, and a LoRA adapter on both transformers."""

    def __init__(self, module: PeftModel, tokenizer: Any, folder: ModelFolder, training: TrainingSpec) -> None:
        super().__init__(module, tokenizer, folder, training, Usage("text-to-speech", _program(folder)))
        self._base: Any = module.get_base_model()
        self._codec: Any = self._base.codec_model
        config: Any = self._base.config
        self._marks = Marks(
            config.num_codebooks, config.audio_token_id, config.audio_eos_token_id, config.codebook_eos_token_id
        )
        self._recordings_heard: dict[int, str] = {}

    @classmethod
    def load(cls, folder: ModelFolder, lora: LoraSpec, training: TrainingSpec) -> Self:
        """See the contract."""
        _check_installed()
        device = device_at_hand()
        tokenizer = AutoTokenizer.from_pretrained(folder.path)
        base: Any = CsmForConditionalGeneration.from_pretrained(  # type: ignore[no-untyped-call] # left untyped there
            folder.path, dtype=dtype_for(training.precision, device)
        )
        check_sequence_length(base, training.sequence_length)
        _check_tokenizer(base, tokenizer)
        base.codec_model.float()  # its codebooks are close to each other: half the digits would find others
        base.to(device)
        module = with_adapter(base, lora, training.seed)
        spare_memory(base, training)
        return cls(module, tokenizer, folder, training)

    def prepare(self, records: Iterable[Record], folder: Path) -> None:
        """See the contract."""
        with DocumentWriter(folder) as writer:
            for record in records:
                if not isinstance(record, Utterance):
                    raise DataError(
                        f"{record.where}: text, but the model is one of speech; expected a record with "
                        '"audio" and "text". Use another dataset, or another model'
                    )
                writer.add(as_document(*self._encoded(record)))
                writer.end_document()
            writer.finish()

    def loss(self, batch: UtteranceBatch) -> Tensor:
        """See the contract: the backbone's loss of a frame and the depth decoder's mean over its other codes.

        Padding stands behind the sound and nothing looks ahead, so no attention mask is needed for it.
        """
        base = self._base
        is_frame = batch.is_frame[..., None]
        embeddings = torch.where(
            is_frame, base.backbone_model.embed_tokens(batch.codes), base.embed_text_tokens(batch.tokens)
        )
        labels = torch.where(is_frame, batch.codes, -100)
        found = self.module(inputs_embeds=embeddings, labels=labels, use_cache=False)
        loss: Tensor = found.loss.float() * batch.labels
        return loss

    def measure(self, batch: UtteranceBatch) -> Mapping[str, float]:
        """See the contract."""
        return {"loss": self.loss(batch).item(), "frames": batch.labels}

    def measured(self, sums: Mapping[str, float]) -> Measured:
        """See the contract."""
        rates = {name: sums[name] for name in ("wer", "cer", "recordings_wer", "recordings_cer")}
        metrics = {"eval_loss": sums["loss"] / sums["frames"], **rates}
        counts = {"frames": int(sums["frames"]), "sentences": int(sums["sentences"])}
        return Measured(metrics, counts)

    def examine(self, samples: Utterances, pause: Callable[[], None]) -> Mapping[str, float]:
        """See the contract: speaks held-out sentences, and has them and their recordings recognised."""
        recogniser, rate = Recogniser(), self._codec.config.sampling_rate
        spoken, recorded = [], []
        for index in spread(len(samples), EXAMINED):
            pause()
            tokens, codes = samples.utterance(index)
            text = self._transcript(tokens)
            spoken.append((text, recogniser.hear(self._sound(self._spoken(tokens, len(codes))), rate)))
            if index not in self._recordings_heard:
                self._recordings_heard[index] = recogniser.hear(self._sound(torch.from_numpy(codes)), rate)
            recorded.append((text, self._recordings_heard[index]))
        ours, theirs = error_rates(spoken), error_rates(recorded)
        return {
            "wer": ours.words,
            "cer": ours.characters,
            "recordings_wer": theirs.words,
            "recordings_cer": theirs.characters,
            "sentences": len(spoken),
        }

    def _samples(self, documents: Documents, what: str) -> Utterances:
        if len(documents.ends) == 0:
            raise DataError(
                f"the dataset has no recordings {what}; at least one is needed. Use more data, or give dataset.evalUri"
            )
        return Utterances(documents, self._marks, self._training.batch_size, self._training.seed)

    def _encoded(self, utterance: Utterance) -> tuple[list[int], Codes]:
        """The tokens of a transcript, and the frames of its recording."""
        tokens: list[int] = self._tokenizer(f"{_SPEAKER}{utterance.text}", add_special_tokens=False)["input_ids"]
        tokens = [self._tokenizer.bos_token_id, *tokens, self._tokenizer.eos_token_id]
        try:
            samples = waveform(utterance.wav, self._codec.config.sampling_rate)
        except WavError as error:
            raise DataError(f"{utterance.where}: the recording {utterance.audio} {error}") from error
        if not np.isfinite(samples).all() or len(samples) == 0:
            raise DataError(
                f"{utterance.where}: the recording {utterance.audio} holds no sound, or numbers that are none; record "
                "it again, or drop the record"
            )
        codes = self._codes(samples)
        length, room = len(tokens) + len(codes) + 1, self._training.sequence_length
        if length > room:
            raise DataError(
                f"{utterance.where}: {len(tokens)} tokens of text and {len(codes)} frames of sound do not fit into "
                f"training.sequenceLength ({room}); cut the recording into sentences, or raise that to {length}"
            )
        return tokens, codes

    def _codes(self, samples: Waveform) -> Codes:
        sound = torch.from_numpy(samples).to(self.device)[None, None]
        with torch.no_grad():
            codes = self._codec.encode(sound, num_quantizers=self._marks.codebooks).audio_codes[0]
        return codes.T.contiguous().to("cpu", torch.int32).numpy()  # type: ignore[no-any-return] # torch's Any

    def _transcript(self, tokens: Any) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip().removeprefix(_SPEAKER)

    def _spoken(self, tokens: Any, recorded_frames: int) -> Tensor:
        """What the model makes of a transcript: codes, frames x codebooks."""
        text = torch.from_numpy(tokens).to(self.device)[None]
        room = self._training.sequence_length - text.shape[1]
        with _always_alike(self._training.seed):
            codes: Tensor = self._base.generate(
                input_ids=text,
                attention_mask=torch.ones_like(text),
                max_new_tokens=max(1, min(room, _ROOM * recorded_frames + _ROOM_FRAMES)),
                use_cache=True,
                return_dict_in_generate=False,
            )[0]
        ends = (codes[:, :-1] == self._marks.end_code).all(1).nonzero()
        return codes[: int(ends[0])] if len(ends) else codes

    def _sound(self, codes: Tensor) -> Waveform:
        """A waveform of codes; the few that the codec does not know (the model's own marks) become its last one."""
        if len(codes) == 0:
            return np.empty(0, np.float32)
        known = codes.to(self.device).clamp(max=self._codec.config.codebook_size - 1)
        with torch.no_grad():
            sound = self._codec.decode(known.T[None]).audio_values[0, 0]
        return sound.float().cpu().numpy()  # type: ignore[no-any-return] # torch's Any


def _program(folder: ModelFolder) -> str:
    return (
        "from peft import PeftModel\n"
        "from transformers import AutoTokenizer, CsmForConditionalGeneration\n\n"
        f"base = {json.dumps(place_elsewhere(folder))}  # a copy of {folder.report.uri}\n"
        "tokenizer = AutoTokenizer.from_pretrained(base)\n"
        'model = PeftModel.from_pretrained(CsmForConditionalGeneration.from_pretrained(base), "adapter")\n'
    )


def with_adapter(base: Any, lora: LoraSpec, seed: int) -> PeftModel:
    """A CSM with a fresh adapter on both transformers, and none on its codec.

    Raises:
        ConfigError: it has no such layers, or the rank is too large for one.
    """
    layers = {name: layer for name, layer in adaptable_layers(base).items() if not name.startswith(_CODEC)}
    return adapted(base, layers, lora, seed, without=r"codec_model\..*")


@contextmanager
def _always_alike(seed: int) -> Iterator[None]:
    """Random numbers of its own: what is said does not depend on what came before, nor training on what is said."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _check_installed() -> None:
    if missing := [name for name in _EXTRA if find_spec(name) is None]:
        raise ConfigError(
            f"the model is one of speech, which needs {' and '.join(_EXTRA)}, and {' and '.join(missing)} is not "
            "installed; use an image that has it, or install perdure[speech]"
        )


def _check_tokenizer(base: Any, tokenizer: Any) -> None:
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise ConfigError(
            "the tokenizer has no tokens for the beginning and the end of a text (bos_token, eos_token); add them to "
            "tokenizer_config.json"
        )
    if len(tokenizer) > base.config.text_vocab_size:
        raise ConfigError(
            f"the tokenizer knows {len(tokenizer)} tokens, but the model has embeddings for "
            f"{base.config.text_vocab_size} only; they do not belong together. Upload the tokenizer that came with it"
        )
