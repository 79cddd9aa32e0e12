"""A sentence encoder: what its vectors are, and which models it is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from perdure_api.uri import parse_uri
from perdure_data.models import ModelBroken
from perdure_data.stores import Stores
from perdure_inference.errors import Interrupted, ModelUnfit
from perdure_inference.models import Models
from tests.inference.tiny import DIMENSION, READS, write_encoder
from tests.trainer.tiny import documents

TEXTS = [*documents(40), "短い", "Ein kürzerer Satz", "مرحبا", "x"]


def test_a_vector_is_the_mean_of_a_texts_tokens_at_length_one(models: Models, encoder_uri: str) -> None:
    """As sentence-transformers computes it: one text at a time, by transformers alone."""
    found = models.encoder(encoder_uri).embed(TEXTS, normalize=True)

    path = encoder_uri.removeprefix("file://")
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)
    with torch.inference_mode():
        for text, row in zip(TEXTS, found.rows, strict=True):
            ids = tokenizer(text, truncation=True, max_length=READS, return_tensors="pt")
            mean = model(**ids).last_hidden_state[0].mean(0)
            np.testing.assert_allclose(row, (mean / mean.norm()).numpy(), atol=1e-6)


def test_without_normalizing_a_vector_has_its_own_length(models: Models, encoder_uri: str) -> None:
    encoder = models.encoder(encoder_uri)

    plain, unit = (encoder.embed(TEXTS, normalize=each).rows for each in (False, True))

    assert not np.allclose(np.linalg.norm(plain, axis=1), 1)
    np.testing.assert_allclose(plain / np.linalg.norm(plain, axis=1, keepdims=True), unit, atol=1e-6)


def test_the_same_texts_give_the_same_bits(models: Models, encoder_uri: str) -> None:
    encoder = models.encoder(encoder_uri)

    assert encoder.embed(TEXTS, normalize=True).rows.tobytes() == encoder.embed(TEXTS, normalize=True).rows.tobytes()


def test_what_is_longer_than_the_model_reads_is_cut_and_counted(models: Models, encoder_uri: str) -> None:
    encoder = models.encoder(encoder_uri)
    long = "fox " * 1000

    found = encoder.embed(["fox", long], normalize=True)

    assert found.truncated == 1
    assert found.tokens == encoder.embed(["fox"], normalize=True).tokens + READS
    np.testing.assert_allclose(found.rows[1], encoder.embed([long + "other"], normalize=True).rows[0], atol=1e-6)


def test_a_text_of_a_million_characters_is_read_as_far_as_the_model_does(models: Models, encoder_uri: str) -> None:
    found = models.encoder(encoder_uri).embed(["fox " * 250_000], normalize=True)

    assert (found.rows.shape, found.truncated) == ((1, DIMENSION), 1)


def test_what_is_given_up_ends_at_the_next_batch(models: Models, encoder_uri: str) -> None:
    asked: list[bool] = []

    def after_the_first() -> bool:
        asked.append(len(asked) > 0)
        return asked[-1]

    with pytest.raises(Interrupted):
        models.encoder(encoder_uri).embed(TEXTS * 10, normalize=True, given_up=after_the_first)

    assert asked == [False, True]


def test_another_pooling_is_refused(models: Models, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "model", "pooling_mode_cls_token")

    with pytest.raises(ModelUnfit, match="asks for pooling_mode_cls_token; expected pooling_mode_mean_tokens"):
        models.encoder(f"file://{folder}")


def test_a_language_model_without_padding_is_no_encoder(models: Models, generator_uri: str) -> None:
    with pytest.raises(ModelUnfit, match=r"found a LlamaModel .*; expected a sentence encoder with"):
        models.encoder(generator_uri)


def test_an_encoder_from_the_store_has_the_same_vectors(models: Models, encoder_uri: str, s3_folder: str) -> None:
    stores = Stores()
    for info in stores.list_objects(parse_uri(encoder_uri)):
        name = str(info.uri).removeprefix(f"{encoder_uri}/")
        stores.put(parse_uri(f"{s3_folder}/{name}"), stores.read(info.uri, limit_bytes=1 << 24))

    fetched = models.encoder(s3_folder)

    local = models.encoder(encoder_uri)
    assert fetched.fingerprint == local.fingerprint
    assert np.array_equal(fetched.embed(TEXTS, normalize=True).rows, local.embed(TEXTS, normalize=True).rows)


def test_a_folder_without_weights_is_told_before_anything_is_loaded(models: Models, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "model")
    (folder / "model.safetensors").unlink()

    with pytest.raises(ModelBroken, match=r"found config\.json but no weights"):
        models.encoder(f"file://{folder}")
