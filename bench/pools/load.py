"""The tasks that are dropped: each a small batch_embed of its own, with a real encoder out of the store."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from bench.cluster.api import Document, each
from bench.cluster.errors import BenchError
from perdure_api.inference import BatchEmbedResult
from perdure_api.uri import parse_uri
from perdure_control.factory import start_workflow
from perdure_data.stores import Stores

FOLDER: Final = "s3://perdure-tests/bench-pools"
MODEL: Final = f"{FOLDER}/all-minilm-l6-v2"
_PREFIX: Final = "bench-pools-"
"""Of the ids of all workflows."""
_WORDS: Final = "the of and that in to he shall unto for I his a they be is him not them it with all thou"

Handle = WorkflowHandle[Any, BatchEmbedResult]


@dataclass(frozen=True)
class Texts:
    """Of one task."""

    count: int
    words: int
    """Of each."""


@dataclass(frozen=True)
class Load:
    """So many tasks at once, the last of which are large ones: some workers are still busy when others have nothing."""

    tasks: int
    texts: Texts
    large: int
    """How many of the tasks are; no more than there are workers, or the others would not have nothing to do."""
    large_texts: Texts

    def given(self, number: int) -> Document:
        """The input of one of the tasks, which no other has; they are numbered from 0."""
        texts = self.texts if number < self.tasks - self.large else self.large_texts
        chance = random.Random(number)
        return {
            "model": MODEL,
            "texts": [" ".join(chance.choices(_WORDS.split(), k=texts.words)) for _ in range(texts.count)],
        }


async def drop(client: Client, load: Load, name: str) -> list[Handle]:
    """Starts all of it, many at a time, the large ones when all the others are there."""
    handles: list[Handle] = []
    small = load.tasks - load.large

    async def start(document: Document) -> None:
        id_ = f"{_PREFIX}{os.getpid()}-{name}-{document['number']}"
        handles.append((await start_workflow(client, "batch_embed", document["given"], id_)).handle)

    for numbers in (range(small), range(small, load.tasks)):
        await each([{"number": number, "given": load.given(number)} for number in numbers], start)
    return handles


@asynccontextmanager
async def no_workflows_left(client: Client) -> AsyncIterator[None]:
    """None of the benchmark's before, and none afterwards: those that run are ended, and all are deleted."""
    await _delete_workflows(client)
    try:
        yield
    finally:
        await _delete_workflows(client)


async def _delete_workflows(client: Client) -> None:
    found = [
        {"id": workflow.id, "run": workflow.run_id}
        async for workflow in client.list_workflows(f'WorkflowId STARTS_WITH "{_PREFIX}"')
    ]

    async def delete(document: Document) -> None:
        execution = WorkflowExecution(workflow_id=document["id"], run_id=document["run"])
        request = DeleteWorkflowExecutionRequest(namespace=client.namespace, workflow_execution=execution)
        try:
            await client.workflow_service.delete_workflow_execution(request)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise

    await each(found, delete)


@contextmanager
def model_in_store(stores: Stores, encoder: Path) -> Iterator[None]:
    """An encoder's folder at MODEL, gone afterwards.

    Raises:
        BenchError: the folder is none.
    """
    if not (encoder / "config.json").exists():
        raise BenchError(f"found no encoder in {encoder}, expected its config.json there; run: make models")
    _empty(stores)
    try:
        for file in sorted(encoder.rglob("*")):
            if file.is_file():
                stores.put(parse_uri(f"{MODEL}/{file.relative_to(encoder)}"), file.read_bytes())
        yield
    finally:
        _empty(stores)


def _empty(stores: Stores) -> None:
    for found in stores.list_objects(parse_uri(FOLDER)):
        stores.delete(found.uri)
