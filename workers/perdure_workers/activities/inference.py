"""Asking models. Only workers of the GPU pool import this: it brings torch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from temporalio import activity

from perdure_api.inference import (
    PROMPTS_LIMIT,
    TEXTS_LIMIT,
    Embedded,
    EmbedTexts,
    Generate,
    Generated,
    GeneratedText,
    Problem,
    text_problem,
)
from perdure_api.uri import UriError, parse_uri
from perdure_data.errors import AccessDenied, NotFound, StoreError, Unavailable
from perdure_data.models import ModelDenied, ModelError, ModelNotFound
from perdure_data.stores import Stores
from perdure_data.texts import read_part
from perdure_inference import errors, generator
from perdure_inference.engine import EmbeddedTexts, EmbedJob, Engine, GenerateJob
from perdure_inference.generator import Sampling
from perdure_inference.models import Models
from perdure_inference.vectors import packed, parquet
from perdure_workers.activities.lasting import Lasting, lasting
from perdure_workers.activities.texts import problem, text_refusals
from perdure_workers.messages import ActivityName, EmbedNote, GenerateNote

_ANSWER_BYTES: Final = 1_900_000
"""Of texts in an answer, and in heartbeat details: Temporal takes 2 MiB."""


class InferenceActivities:
    """Embeds and generates, piece by piece."""

    def __init__(self, engine: Engine, stores: Stores, finish_seconds: float) -> None:
        self._engine = engine
        self._stores = stores
        self._finish_seconds = finish_seconds

    @activity.defn(name=ActivityName.EMBED_TEXTS)
    async def embed_texts(self, request: EmbedTexts) -> Embedded:
        """Vectors of texts, in the answer or in files.

        With files, each is a piece of work: whoever goes on begins with the first that is not written, and a file that
        is written twice has the same bytes. An answer is one piece.

        Raises:
            ApplicationError: it is refused; its type is a Problem.
        """
        async with lasting(EmbedNote, self._finish_seconds) as work:
            texts = await self._texts(request)
            with _refusals():
                if request.output is None:
                    return await self._embedded(work, request, texts)
                return await self._written(work, request, texts, request.output)

    @activity.defn(name=ActivityName.GENERATE)
    async def generate(self, request: Generate) -> Generated:
        """Answers to prompts. Those that are answered together are a piece of work.

        Raises:
            ApplicationError: it is refused; its type is a Problem.
        """
        _refuse_texts("prompt", request.prompts, PROMPTS_LIMIT)
        size = 1 if request.exact else generator.ROWS
        async with lasting(GenerateNote, self._finish_seconds) as work:
            with _refusals():
                while (first := len(work.note.texts)) < len(request.prompts):
                    said = await work.piece(self._engine.generate(_job(request, first, size)))
                    answers = [
                        GeneratedText(
                            text=answer.text,
                            prompt_tokens=answer.prompt_tokens,
                            completion_tokens=answer.completion_tokens,
                            finish_reason=answer.finish_reason,
                        )
                        for answer in said.answers
                    ]
                    texts = [*work.note.texts, *answers]
                    _refuse_large_answer(texts)
                    work.done(
                        GenerateNote(
                            texts=texts,
                            seconds=work.note.seconds + said.seconds,
                            model_fingerprint=said.fingerprint,
                        )
                    )
            return Generated(**work.note.model_dump())

    async def _texts(self, request: EmbedTexts) -> Sequence[str]:
        if request.part is None:
            _refuse_texts("text", request.texts, TEXTS_LIMIT)
            return request.texts
        with text_refusals():
            return await asyncio.to_thread(read_part, self._stores, request.part)

    async def _embedded(self, work: Lasting[EmbedNote], request: EmbedTexts, texts: Sequence[str]) -> Embedded:
        await work.piece(self._engine.load(lambda models: _refuse_many_numbers(models, request, len(texts))))
        found = await work.piece(self._engine.embed(_embed_job(request, texts)))
        return Embedded(
            count=len(texts),
            dimension=found.rows.shape[1],
            tokens=found.tokens,
            truncated=found.truncated,
            seconds=found.seconds,
            model_fingerprint=found.fingerprint,
            vectors=packed(found.rows),
        )

    async def _written(
        self, work: Lasting[EmbedNote], request: EmbedTexts, texts: Sequence[str], output: str
    ) -> Embedded:
        while (first := work.note.rows) < len(texts):
            note, some = work.note, texts[first : first + request.rows_per_file]
            found = await work.piece(self._engine.embed(_embed_job(request, some)))
            uri = f"{output.rstrip('/')}/part-{request.first_row + first:012d}.parquet"
            await work.piece(asyncio.to_thread(self._write, uri, request, first, some, found))
            work.done(
                EmbedNote(
                    rows=first + len(some),
                    tokens=note.tokens + found.tokens,
                    truncated=note.truncated + found.truncated,
                    seconds=note.seconds + found.seconds,
                    files=[*note.files, uri],
                    dimension=found.rows.shape[1],
                    model_fingerprint=found.fingerprint,
                )
            )
        note = work.note
        return Embedded(count=note.rows, **note.model_dump(exclude={"rows"}))

    def _write(self, uri: str, request: EmbedTexts, first: int, texts: Sequence[str], found: EmbeddedTexts) -> None:
        about = {"perdure.model": request.model, "perdure.model_fingerprint": found.fingerprint}
        content = parquet(request.first_row + first, texts, found.rows, about)
        try:
            self._stores.put(parse_uri(uri), content)
        except Unavailable:
            raise
        except StoreError as error:
            raise problem(Problem.OUTPUT_NOT_WRITABLE, f"output {error}") from error


def _embed_job(request: EmbedTexts, texts: Sequence[str]) -> EmbedJob:
    return EmbedJob(request.model, texts, normalize=request.normalize, exact=request.exact)


def _job(request: Generate, first: int, size: int) -> GenerateJob:
    """The prompts that are answered next. A seed of their own: they get the same answer, whoever begins with them."""
    return GenerateJob(
        request.model,
        request.adapter,
        request.prompts[first : first + size],
        request.system,
        request.chat,
        request.max_prompt_tokens,
        Sampling(request.max_new_tokens, request.temperature, request.top_p, request.seed + first),
        exact=request.exact,
    )


def _refuse_texts(what: str, texts: Sequence[str], limit: int) -> None:
    if not 0 < len(texts) <= limit:
        raise problem(Problem.INVALID_REQUEST, f"found {len(texts)} {what}s; expected 1 to {limit}")
    for number, text in enumerate(texts):
        if wrong := text_problem(text):
            raise problem(Problem.INVALID_TEXT, f"{what} {number} (the first is 0) {wrong}")


def _refuse_many_numbers(models: Models, request: EmbedTexts, count: int) -> None:
    dimension = models.encoder(request.model).dimension
    if count * dimension > request.limit_numbers:
        raise errors.TooMuchToAnswer(
            f"found {count} texts, of which each becomes {dimension} numbers, and no output; expected at most "
            f"{request.limit_numbers // dimension} texts without one. Set output to a folder in the object store, such "
            f"as s3://bucket/vectors"
        )


def _refuse_large_answer(texts: Sequence[GeneratedText]) -> None:
    size = sum(len(each.text.encode()) + 120 for each in texts)
    if size > _ANSWER_BYTES:
        raise errors.TooMuchToAnswer(
            f"the first {len(texts)} answers have {size} bytes; expected at most {_ANSWER_BYTES} in all, which is what "
            f"Temporal takes. Ask fewer prompts at a time, or for fewer new tokens"
        )


@contextmanager
def _refusals() -> Iterator[None]:
    """What asking a model raises, as a refusal; but for a store that is away, which is tried again."""
    try:
        yield
    except Unavailable:
        raise
    except (ModelError, errors.InferenceError, StoreError, UriError) as error:
        raise problem(_kind(error), str(error)) from error


def _kind(error: Exception) -> Problem:
    match error:
        case ModelNotFound() | NotFound():
            return Problem.MODEL_NOT_FOUND
        case ModelDenied() | AccessDenied():
            return Problem.ACCESS_DENIED
        case errors.TooManyTokens():
            return Problem.TOO_MANY_TOKENS
        case errors.TooMuchToAnswer():
            return Problem.OUTPUT_MISSING
        case errors.OutOfMemory():
            return Problem.OUT_OF_MEMORY
        case ModelError() | errors.ModelUnfit():
            return Problem.MODEL_BROKEN
        case _:
            return Problem.INVALID_REQUEST
