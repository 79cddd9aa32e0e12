"""The speech form on a tiny CSM and real recordings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from transformers import CsmConfig, CsmForConditionalGeneration

from perdure_api.spec import LoraSpec, Precision, TrainingJobSpec, TrainingSpec
from perdure_api.uri import parse_uri
from perdure_data.datasets import DatasetReader, Passage, Source, Utterance
from perdure_data.model_files import fetch_model
from perdure_data.stores import Stores
from perdure_trainer.evaluation import evaluate
from perdure_trainer.failures import ConfigError, DataError, Stopped
from perdure_trainer.models import csm, kind_of
from perdure_trainer.models.contract import Corpus
from perdure_trainer.models.csm import Csm, with_adapter
from perdure_trainer.speech.utterances import UtteranceBatch
from perdure_trainer.speech.waveform import waveform
from perdure_trainer.stopping import StopSignal
from tests.docs.markdown import blocks
from tests.trainer.speech import tiny

pytestmark = [
    pytest.mark.slow,
    # peft asks transformers by a name that has become an alias.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

FRAME = 1920
"""Samples: 24,000 a second, 12.5 frames."""
LORA = LoraSpec(rank=4, alpha=8.0)
TRAINING = TrainingSpec(max_steps=1, batch_size=2, sequence_length=100, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("csm")
    tiny.write_model(path)
    return path


def load(folder: Path, lora: LoraSpec = LORA, training: TrainingSpec = TRAINING) -> Csm:
    found = fetch_model(Stores(), f"file://{folder}", folder / "scratch")
    model = kind_of(found.report).load(found, lora, training)
    assert isinstance(model, Csm)
    return model


def utterances() -> list[Utterance]:
    records = DatasetReader(Stores(), Source(parse_uri(f"file://{tiny.CLIPS}"))).records()
    return [record for record in records if isinstance(record, Utterance)]


def corpus_of(model: Csm, place: Path) -> Corpus:
    model.prepare(utterances(), place)
    return model.corpus(place, 0.3)


@pytest.fixture
def model(folder: Path) -> Csm:
    return load(folder)


@pytest.fixture
def corpus(model: Csm, tmp_path: Path) -> Corpus:
    return corpus_of(model, tmp_path / "tokens")


def batch_of(corpus: Corpus, *indices: int) -> UtteranceBatch:
    batch = corpus.training.batch(indices)
    assert isinstance(batch, UtteranceBatch)
    return batch


def held_out_batches(corpus: Corpus) -> list[UtteranceBatch]:
    batches = [corpus.held_out.batch([index]) for index in range(len(corpus.held_out))]
    return [batch for batch in batches if isinstance(batch, UtteranceBatch)]


def own_loss(model: Csm, utterance: Utterance) -> tuple[float, int]:
    """What transformers makes of a recording itself, codec and all; and of how many frames."""
    base: Any = model.module.get_base_model()
    sound = torch.from_numpy(waveform(utterance.wav, 24_000))
    frames = math.ceil(len(sound) / base.codec_model.config.frame_size)
    text = [0, *model._tokenizer(f"[0]{utterance.text}")["input_ids"], 1]
    tokens = torch.tensor([[*text, *[2] * frames, 3]])
    labels = torch.where((tokens == 2) | (tokens == 3), tokens, -100)
    labels[0, : len(text)] = -100
    found = base(
        input_ids=tokens,
        input_values=sound[None, None],
        input_values_cutoffs=torch.tensor([[len(sound)]]),
        labels=labels,
    )
    return float(found.loss), frames + 1


def test_weights_are_found_where_csm_1b_has_them(model: Csm, tmp_path: Path) -> None:
    """In parts of another name, which config.json tells, beside weights in the format of those who made it."""
    tiny.write_model(tmp_path)
    base: Any = model.module.get_base_model()
    other = CsmForConditionalGeneration(base.config)
    other.save_pretrained(tmp_path / "parts", max_shard_size="200KB")
    for part in (tmp_path / "parts").glob("model*.safetensors*"):
        renamed = part.name.replace("model", "transformers", 1)
        content = part.read_bytes()
        if part.suffix == ".json":
            content = content.replace(b'"model-', b'"transformers-')
        (tmp_path / renamed).write_bytes(content)
    save_file({"some.weight": torch.ones(3)}, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    name = "transformers.safetensors.index.json"
    (tmp_path / "config.json").write_text(json.dumps({**config, "transformers_weights": name}))

    assert len(list(tmp_path.glob("transformers-*.safetensors"))) > 1
    found = load(tmp_path).module.get_base_model().state_dict()
    plain = {name.replace(".base_layer", ""): value for name, value in found.items()}
    assert all(torch.equal(plain[name], value) for name, value in other.state_dict().items())


def test_the_loss_is_the_one_that_transformers_defines(model: Csm, tmp_path: Path) -> None:
    model.module.eval()
    with torch.no_grad():
        for number, utterance in enumerate(utterances()[:2]):
            model.prepare([utterance, utterance], tmp_path / str(number))
            batch = batch_of(model.corpus(tmp_path / str(number), 0.5), 0)
            expected, frames = own_loss(model, utterance)
            assert batch.labels == frames
            assert float(model.loss(batch)) / frames == pytest.approx(expected, rel=1e-5)


def test_what_stands_beside_an_utterance_in_a_batch_does_not_matter(model: Csm, corpus: Corpus) -> None:
    model.module.eval()
    indices = range(len(corpus.training))
    with torch.no_grad():
        together = float(model.loss(batch_of(corpus, *indices)))
        frames = [batch_of(corpus, index).labels for index in indices]
        alone = [float(model.loss(batch_of(corpus, index))) for index in indices]
    assert len(set(frames)) > 1
    assert together == pytest.approx(sum(alone), rel=1e-4)


def test_only_sound_is_learnt(model: Csm, corpus: Corpus) -> None:
    model.module.eval()
    batch = batch_of(corpus, 0)
    tokens = batch.tokens.clone()
    tokens[~batch.is_frame] = 7
    with torch.no_grad():
        assert batch.labels == int(batch.is_frame.sum())
        assert float(model.loss(replace(batch, tokens=tokens))) != float(model.loss(batch))  # the text is read, though
    found = model.loss(batch)
    found.backward()  # type: ignore[no-untyped-call]
    assert found.dtype == torch.float32


def test_adapters_are_on_both_transformers_and_not_on_the_codec(model: Csm, corpus: Corpus) -> None:
    model.loss(batch_of(corpus, 0, 1)).backward()  # type: ignore[no-untyped-call]
    names = [name for name, parameter in model.module.named_parameters() if parameter.requires_grad]
    for part in ("backbone_model.layers.1.self_attn.q_proj", "depth_decoder.model.layers.0.mlp.down_proj"):
        assert any(part in name for name in names)
    assert not any("codec_model" in name or "lm_head" in name for name in names)
    assert all(
        parameter.grad is not None and bool(parameter.grad.isfinite().all())
        for parameter in model.module.parameters()
        if parameter.requires_grad
    )


def test_the_recipe_fits_csm_1b() -> None:
    """As far as shapes tell: transformers' own configuration is that of CSM-1B, here without any weights."""
    recipe = next(yaml.safe_load(block.text) for block in blocks("yaml") if block.page == "docs/speech.md")
    spec = TrainingJobSpec.from_wire(recipe["spec"])
    with torch.device("meta"):
        base = CsmForConditionalGeneration(CsmConfig())
        adapter = with_adapter(base, spec.lora, seed=0)
    trainable = {name: each.numel() for name, each in adapter.named_parameters() if each.requires_grad}
    transformers = 16 + 4
    assert len(trainable) == transformers * 7 * 2
    assert sum(trainable.values()) == 26_935_296


def test_a_few_steps_learn_the_recordings(model: Csm, corpus: Corpus) -> None:
    optimizer = torch.optim.AdamW([each for each in model.module.parameters() if each.requires_grad], lr=0.02)
    batch = batch_of(corpus, *range(len(corpus.training)))
    losses = []
    for _ in range(20):
        loss = model.loss(batch) / batch.labels
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.3
    with torch.no_grad(), model.without_adapter():
        assert float(model.loss(batch)) / batch.labels == pytest.approx(losses[0], rel=1e-4)


def test_half_the_digits_do_not_change_what_is_learnt(
    folder: Path, model: Csm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights may be bfloat16; the codec's never are, so that a recording has the same codes."""
    monkeypatch.setattr(csm, "EXAMINED", 1)
    short = load(folder, training=TRAINING.model_copy(update={"precision": Precision.BFLOAT16}))
    base: Any = short.module.get_base_model()
    assert base.lm_head.weight.dtype == torch.bfloat16
    corpora = [corpus_of(each, tmp_path / name) for name, each in {"whole": model, "half": short}.items()]
    batches = [batch_of(corpus, 0, 1) for corpus in corpora]
    assert torch.equal(batches[0].codes, batches[1].codes)
    losses = [each.loss(batch) for each, batch in zip((model, short), batches, strict=True)]
    assert float(losses[1].detach()) == pytest.approx(float(losses[0].detach()), rel=0.01)
    losses[1].backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(evaluate(short, corpora[1].held_out, 2, StopSignal()).metrics["wer"])


def test_activations_that_are_computed_twice_change_no_gradient(folder: Path, tmp_path: Path) -> None:
    gradients = []
    for twice in (False, True):
        model = load(folder, training=TRAINING.model_copy(update={"gradient_checkpointing": twice}))
        model.module.train()
        passes: list[int] = []
        layer: Any = model.module.get_base_model().backbone_model
        layer.layers[0].mlp.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        batch = batch_of(corpus_of(model, tmp_path / str(twice)), 0)
        model.loss(batch).backward()  # type: ignore[no-untyped-call]
        assert len(passes) == (2 if twice else 1)
        gradients.append([each.grad for each in model.module.parameters() if each.requires_grad])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_the_same_utterances_give_the_same_files(model: Csm, tmp_path: Path) -> None:
    for name in ("one", "two"):
        model.prepare(utterances(), tmp_path / name)
    contents = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert contents[0] == contents[1]


def test_the_evaluation_speaks_held_out_sentences_and_has_them_recognised(
    model: Csm, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csm, "EXAMINED", 2)
    state = torch.get_rng_state()
    with model.without_adapter():
        base = evaluate(model, corpus.held_out, 2, StopSignal())
    again = evaluate(model, corpus.held_out, 2, StopSignal())
    assert base.metrics == again.metrics  # a fresh adapter changes nothing
    assert base.metrics.keys() == {"eval_loss", "wer", "cer", "recordings_wer", "recordings_cer"}
    assert all(math.isfinite(value) and value >= 0 for value in base.metrics.values())
    assert base.counts == {"frames": sum(each.labels for each in held_out_batches(corpus)), "sentences": 2}
    assert torch.equal(torch.get_rng_state(), state)


def test_a_perfect_voice_through_a_perfect_codec_makes_no_errors(
    model: Csm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    understood = [each for each in utterances() if each.text in {"One moment, please.", "Please try again."}]
    model.prepare(understood, tmp_path)
    samples: Any = model.corpus(tmp_path, tmp_path).held_out
    recordings = {len(waveform(each.wav, 24_000)) // FRAME: waveform(each.wav, 24_000) for each in understood}
    by_transcript = {bytes(tokens): codes for tokens, codes in map(samples.utterance, range(len(samples)))}
    monkeypatch.setattr(model, "_sound", lambda codes: recordings[len(codes) - 1])

    monkeypatch.setattr(model, "_spoken", lambda tokens, _: torch.from_numpy(by_transcript[bytes(tokens)]))
    rates = {"wer": 0.0, "cer": 0.0, "recordings_wer": 0.0, "recordings_cer": 0.0, "sentences": 2}
    assert model.examine(samples, lambda: None) == rates

    one = next(iter(by_transcript.values()))  # whatever is asked for: half of the words are wrong
    monkeypatch.setattr(model, "_spoken", lambda *_: torch.from_numpy(one))
    found = model.examine(samples, lambda: None)
    assert found["wer"] == pytest.approx(1 / 2, abs=0.1)
    assert 0 < found["cer"] < 1
    assert found["recordings_wer"] == 0


def test_what_must_be_installed_for_speech_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csm, "_EXTRA", ("soxr", "not_there"))
    with pytest.raises(ConfigError, match=r"and not_there is not installed; .* install perdure\[speech\]"):
        load(folder)


def test_a_stop_ends_an_examination(model: Csm, corpus: Corpus) -> None:
    stop = StopSignal()
    stop.request("enough")
    samples: Any = corpus.held_out
    with pytest.raises(Stopped, match="enough"):
        model.examine(samples, stop.raise_if_requested)


def test_a_transcript_comes_back_from_its_tokens(model: Csm, corpus: Corpus) -> None:
    samples: Any = corpus.training
    found = {model._transcript(samples.utterance(index)[0]) for index in range(len(samples))}
    assert len(found) == len(samples)
    assert found < set(tiny.transcripts())


def test_the_adapter_loads_without_perdure(
    model: Csm, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        for parameter in model.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    model.save_adapter(tmp_path / "adapter", f"file://{folder}")
    monkeypatch.chdir(tmp_path)
    loaded: dict[str, Any] = {}
    exec(model.usage.program, loaded)
    expected = {name: value for name, value in model.module.state_dict().items() if "lora_" in name}
    found = {name: value for name, value in loaded["model"].state_dict().items() if "lora_" in name}
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def refused(utterance: Utterance) -> Iterator[Utterance]:
    yield utterance


def test_a_recording_that_is_longer_than_a_sequence_is_named(folder: Path, tmp_path: Path) -> None:
    model = load(folder, training=TRAINING.model_copy(update={"sequence_length": 30}))
    with pytest.raises(DataError, match=r"line 1: \d+ tokens of text and \d+ frames of sound do not fit"):
        model.prepare(utterances(), tmp_path / "tokens")


def test_a_dataset_of_text_is_refused(model: Csm, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^dataset d, line 1: text, but the model is one of speech"):
        model.prepare([Passage("a", ends_document=True, where="dataset d, line 1")], tmp_path / "tokens")


def test_one_recording_is_not_enough(model: Csm, tmp_path: Path) -> None:
    model.prepare(utterances()[:1], tmp_path / "tokens")
    with pytest.raises(DataError, match="no recordings to hold out"):
        model.corpus(tmp_path / "tokens", 0.5)


def test_held_out_recordings_may_be_a_dataset_of_their_own(model: Csm, tmp_path: Path) -> None:
    model.prepare(utterances()[:4], tmp_path / "training")
    model.prepare(utterances()[4:], tmp_path / "held-out")
    corpus = model.corpus(tmp_path / "training", tmp_path / "held-out")
    assert (len(corpus.training), len(corpus.held_out)) == (4, 2)


def test_silence_of_no_numbers_is_refused(model: Csm, tmp_path: Path) -> None:
    from tests.trainer.speech.test_waveform import wav  # noqa: PLC0415

    broken = replace(utterances()[0], wav=wav(np.full(8_000, np.nan, "<f4").tobytes(), 3, 32))
    with pytest.raises(DataError, match=r"line 1: the recording one-moment-please\.wav holds no sound"):
        model.prepare(refused(broken), tmp_path / "tokens")


@pytest.mark.parametrize(
    ("lora", "training", "sentence"),
    [
        pytest.param(LORA, {"sequence_length": 300}, "reads at most 256 tokens", id="sequence"),
        pytest.param(LoraSpec(rank=64), {}, "lora.rank is 64", id="rank"),
        pytest.param(
            LoraSpec(rank=2, target_modules=["fc1"]),
            {},
            "names fc1, which this model does not have; it has down_proj",
            id="the codec's layers",
        ),
    ],
)
def test_what_cannot_work_is_refused(folder: Path, lora: LoraSpec, training: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(folder, lora, TRAINING.model_copy(update=training))
