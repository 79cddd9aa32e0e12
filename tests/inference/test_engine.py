"""Requests that wait are computed together where that pays; what is wrong with one is no other's trouble."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from perdure_data.stores import Stores
from perdure_inference.encoder import SentenceEncoder
from perdure_inference.engine import EmbedJob, Engine, GenerateJob
from perdure_inference.errors import InvalidRequest, OutOfMemory, TooManyTokens
from perdure_inference.generator import Sampling, TextGenerator
from perdure_inference.models import Models
from tests.trainer.tiny import documents


class Busy:
    """Keeps the models' thread until it is let go, so that requests wait."""

    def __init__(self, engine: Engine) -> None:
        self.free = Event()
        self.began = Event()

        def wait(_: Models) -> None:
            self.began.set()
            self.free.wait(30)

        self._task = asyncio.create_task(engine.load(wait))

    async def __aenter__(self) -> None:
        await asyncio.to_thread(self.began.wait, 30)

    async def __aexit__(self, *_: object) -> None:
        self.free.set()
        await self._task


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts or prompts the models were given at a time."""
    counts: list[int] = []
    embed, generate = SentenceEncoder.embed, TextGenerator.generate

    def counting_embed(self: SentenceEncoder, texts: Any, **rest: Any) -> Any:
        counts.append(len(texts))
        return embed(self, texts, **rest)

    def counting_generate(self: TextGenerator, prompts: Any, *rest: Any) -> Any:
        counts.append(len(prompts))
        return generate(self, prompts, *rest)

    monkeypatch.setattr(SentenceEncoder, "embed", counting_embed)
    monkeypatch.setattr(TextGenerator, "generate", counting_generate)
    return counts


async def together(engine: Engine, *jobs: EmbedJob | GenerateJob) -> list[Any]:
    """The answers, or errors, of jobs that all wait before the first is begun."""
    async with Busy(engine):
        tasks = [
            asyncio.create_task(engine.embed(job) if isinstance(job, EmbedJob) else engine.generate(job))
            for job in jobs
        ]
        while len(engine._waiting) < len(jobs):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_small_requests_that_wait_are_computed_together(
    engine: Engine, encoder_uri: str, computed: list[int]
) -> None:
    texts = documents(5)

    answers = await together(engine, *(EmbedJob(encoder_uri, [text]) for text in texts))

    assert computed == [5]
    alone = await engine.embed(EmbedJob(encoder_uri, texts))
    np.testing.assert_allclose(np.concatenate([each.rows for each in answers]), alone.rows, atol=1e-6)
    assert sum(each.tokens for each in answers) == alone.tokens


async def test_prompts_that_wait_are_answered_together(engine: Engine, generator_uri: str, computed: list[int]) -> None:
    jobs = [GenerateJob(generator_uri, None, [prompt], sampling=Sampling(5)) for prompt in ("the", "a lazy dog")]

    answers = await together(engine, *jobs)

    assert computed == [2]
    assert [answer.answers for answer in answers] == [(await engine.generate(job)).answers for job in jobs]


async def test_exact_requests_are_computed_alone(engine: Engine, encoder_uri: str, computed: list[int]) -> None:
    jobs = [EmbedJob(encoder_uri, [text], exact=True) for text in documents(3)]

    first = await together(engine, *jobs)
    again = [await engine.embed(job) for job in jobs]

    assert computed == [1] * 6
    assert [each.rows.tobytes() for each in first] == [each.rows.tobytes() for each in again]


async def test_what_chance_decides_is_computed_alone(engine: Engine, generator_uri: str, computed: list[int]) -> None:
    sampling = Sampling(5, temperature=1.0)

    await together(engine, *(GenerateJob(generator_uri, None, ["the"], sampling=sampling) for _ in range(2)))

    assert computed == [1, 1]


async def test_full_requests_are_not_joined(engine: Engine, encoder_uri: str, computed: list[int]) -> None:
    await together(engine, EmbedJob(encoder_uri, documents(64)), EmbedJob(encoder_uri, documents(2)))

    assert computed == [64, 2]


async def test_requests_of_different_models_or_limits_are_not_joined(
    engine: Engine, encoder_uri: str, generator_uri: str, computed: list[int]
) -> None:
    await together(
        engine,
        EmbedJob(encoder_uri, ["the"]),
        EmbedJob(encoder_uri, ["the"], normalize=False),
        GenerateJob(generator_uri, None, ["the"], sampling=Sampling(5)),
        GenerateJob(generator_uri, None, ["the"], sampling=Sampling(6)),
    )

    assert computed == [1, 1, 1, 1]


async def test_what_is_wrong_with_one_is_told_to_it_and_the_others_are_answered(
    engine: Engine, generator_uri: str
) -> None:
    good = GenerateJob(generator_uri, None, ["the"], sampling=Sampling(5))
    long = GenerateJob(generator_uri, None, ["fox " * 200], sampling=Sampling(5))

    answers = await together(engine, good, long, good)

    assert isinstance(answers[1], TooManyTokens)
    assert answers[0].answers == answers[2].answers


async def test_when_computing_together_fails_each_is_computed_on_its_own(
    engine: Engine, encoder_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = SentenceEncoder.embed

    def refusing_two(self: SentenceEncoder, texts: Any, **rest: Any) -> Any:
        if len(texts) > 1:
            raise RuntimeError("two are too many")
        return embed(self, texts, **rest)

    monkeypatch.setattr(SentenceEncoder, "embed", refusing_two)

    answers = await together(engine, EmbedJob(encoder_uri, ["the"]), EmbedJob(encoder_uri, ["fox"]))

    assert [each.rows.shape[0] for each in answers] == [1, 1]


async def test_a_request_that_nobody_waits_for_any_more_is_not_begun(
    engine: Engine, encoder_uri: str, computed: list[int]
) -> None:
    async with Busy(engine):
        task = asyncio.create_task(engine.embed(EmbedJob(encoder_uri, ["the"])))
        while not engine._waiting:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await engine.embed(EmbedJob(encoder_uri, ["the", "fox"]))

    assert computed == [2]


async def test_a_model_is_loaded_once_and_the_least_recent_one_goes(
    tmp_path: Path, encoder_uri: str, generator_uri: str, chat_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = Models._loaded

    def counting(self: Models, how: Any) -> Any:
        model = load(self, how)
        loaded.append(model.fingerprint)
        return model

    monkeypatch.setattr(Models, "_loaded", counting)
    with Engine(Models(Stores(), tmp_path, keep=2)) as engine:
        for uri in (generator_uri, chat_uri, chat_uri, generator_uri):
            await engine.generate(GenerateJob(uri, None, ["the"], sampling=Sampling(1)))
        assert len(loaded) == 2
        await engine.embed(EmbedJob(encoder_uri, ["the"]))
        assert engine.models_kept == 2
        await engine.generate(GenerateJob(generator_uri, None, ["the"], sampling=Sampling(1)))
        assert len(loaded) == 3
        await engine.generate(GenerateJob(chat_uri, None, ["the"], sampling=Sampling(1)))
        assert len(loaded) == 4


@pytest.mark.parametrize(("failures", "answered"), [(1, "yes"), (2, "no")], ids=["once", "for good"])
async def test_memory_is_made_by_letting_other_models_go_before_a_request_is_refused(
    engine: Engine, encoder_uri: str, monkeypatch: pytest.MonkeyPatch, failures: int, answered: str
) -> None:
    left = failures
    embed = SentenceEncoder.embed

    def scarce(self: SentenceEncoder, texts: Any, **rest: Any) -> Any:
        nonlocal left
        left -= 1
        if left >= 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return embed(self, texts, **rest)

    monkeypatch.setattr(SentenceEncoder, "embed", scarce)
    job = EmbedJob(encoder_uri, ["the"])

    if answered == "yes":
        assert (await engine.embed(job)).rows.shape[0] == 1
    else:
        with pytest.raises(OutOfMemory, match="use a smaller model, shorter texts, or a larger GPU"):
            await engine.embed(job)


async def test_no_texts_are_no_request(engine: Engine, encoder_uri: str) -> None:
    with pytest.raises(InvalidRequest, match="found no texts; expected one or more"):
        await engine.embed(EmbedJob(encoder_uri, []))
