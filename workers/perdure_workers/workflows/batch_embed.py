"""The workflow `batch_embed`: any number of texts into vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from perdure_api import names
    from perdure_api.inference import (
        RESULT_NUMBERS,
        BatchEmbedInput,
        BatchEmbedResult,
        Embedded,
        EmbedTexts,
        Problem,
        TextPart,
    )
    from perdure_workers.messages import SurveyTexts
    from perdure_workers.workflows import gpu_calls

FILES_PER_PART: Final = 8
"""A part is what one worker does at a time; a file is what it loses when it is killed."""
PARTS_AT_A_TIME: Final = 64
"""So many wait or are computed: enough for a pool to grow by, and few enough for others to get their turn."""
WITHOUT_OUTPUT: Final = 2048
"""Texts whose vectors can fit into a result, by models with as few as 64 numbers a vector."""


@workflow.defn(name=names.BATCH_EMBED_WORKFLOW_TYPE)
class BatchEmbedWorkflow:
    """Texts are divided into parts, which go to the pool; each part's vectors come back, or lie in files of its own."""

    @workflow.run
    async def run(self, wish: BatchEmbedInput) -> BatchEmbedResult:
        """The vectors, or where they are.

        Raises:
            ApplicationError: it is refused; its type is a Problem.
        """
        output = f"{wish.output.rstrip('/')}/{workflow.info().run_id}" if wish.output else None
        requests = await self._requests(wish, output)
        room = asyncio.Semaphore(PARTS_AT_A_TIME)

        async def embedded(request: EmbedTexts) -> Embedded:
            async with room:
                return await gpu_calls.embed_texts(request)

        found = await _all_or_first_failure(asyncio.create_task(embedded(request)) for request in requests)
        return _result(found, output)

    async def _requests(self, wish: BatchEmbedInput, output: str | None) -> list[EmbedTexts]:
        rows = wish.rows_per_file * FILES_PER_PART
        base = EmbedTexts(
            model=wish.model,
            output=output,
            rows_per_file=wish.rows_per_file,
            normalize=wish.normalize,
            exact=True,
            limit_numbers=RESULT_NUMBERS,
        )
        if wish.source is None:
            _refuse_too_many(len(wish.texts), output)
            starts = range(0, len(wish.texts), rows)
            pieces = [{"texts": wish.texts[start : start + rows], "first_row": start} for start in starts]
        else:
            parts = (await gpu_calls.survey_texts(SurveyTexts(source=wish.source, rows_per_part=rows))).parts
            _refuse_too_many(sum(part.rows for part in parts), output)
            pieces = [{"part": part, "first_row": first} for first, part in _numbered(parts)]
        return [base.model_copy(update=piece) for piece in pieces]


def _numbered(parts: Iterable[TextPart]) -> Iterable[tuple[int, TextPart]]:
    """Each part with the number of its first text."""
    first = 0
    for part in parts:
        yield first, part
        first += part.rows


def _refuse_too_many(count: int, output: str | None) -> None:
    if output is None and count > WITHOUT_OUTPUT:
        raise ApplicationError(
            f"found {count} texts and no output; expected at most {WITHOUT_OUTPUT} without one. Set output to a folder "
            f"in the object store, such as s3://bucket/vectors",
            type=Problem.OUTPUT_MISSING,
            non_retryable=True,
        )


async def _all_or_first_failure(tasks: Iterable[asyncio.Task[Embedded]]) -> list[Embedded]:
    """The results of all; a failure ends the others, which nobody would look at any more."""
    begun = list(tasks)
    try:
        return await asyncio.gather(*begun)
    except BaseException:
        for task in begun:
            task.cancel()
        raise


def _result(found: list[Embedded], output: str | None) -> BatchEmbedResult:
    numbers = sum(each.count * each.dimension for each in found)
    if output is None and numbers > RESULT_NUMBERS:
        raise ApplicationError(
            f"found {numbers} numbers in the vectors and no output; expected at most {RESULT_NUMBERS} without one. Set "
            f"output to a folder in the object store, such as s3://bucket/vectors",
            type=Problem.OUTPUT_MISSING,
            non_retryable=True,
        )
    return BatchEmbedResult(
        count=sum(each.count for each in found),
        dimension=found[0].dimension,
        tokens=sum(each.tokens for each in found),
        truncated=sum(each.truncated for each in found),
        seconds=round(sum(each.seconds for each in found), 6),
        model_fingerprint=found[0].model_fingerprint,
        # Nine digits tell every 32-bit float apart, and take half the room of the 64-bit ones that Python would write.
        vectors=[[float(f"{number:.9g}") for number in row] for each in found for row in each.rows()],
        uri=output,
        files=sum(len(each.files) for each in found),
    )
