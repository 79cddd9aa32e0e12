"""Workers for the workflows on documents and evaluations, with stand-ins for models: they need no torch."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from perdure_api import names
from perdure_api.inference import Embedded, EmbedTexts, Generate, Generated, GeneratedText
from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from perdure_data.texts import read_part
from perdure_documents.reader import DocumentReader
from perdure_workers.data_worker import data_worker
from perdure_workers.process import WORKFLOWS, sandbox
from perdure_workers.settings import WorkerSettings
from perdure_workers.slots import SlotsInUse
from tests.temporal_server import dev_server


@dataclass
class Models:
    """A sentence encoder to which a text is the words in it, and a language model with its answers by heart."""

    dimension: int = 64
    fingerprint: str = "sha256:words"
    embedded: list[str] = field(default_factory=list)
    """Every text that was."""
    answers: dict[str, str] = field(default_factory=dict)
    asked: list[Generate] = field(default_factory=list)
    """Every request for answers."""

    @activity.defn(name="embed_texts")
    async def embed_texts(self, request: EmbedTexts) -> Embedded:
        texts = request.texts if request.part is None else read_part(Stores(), request.part)
        self.embedded += texts
        rows = np.array([self._vector(text) for text in texts], dtype=np.float32)
        told = {"dimension": self.dimension, "tokens": len(texts), "seconds": 0.5, "count": len(texts)}
        if request.output is None:
            vectors = base64.b64encode(rows.tobytes()).decode()
            return Embedded(**told, vectors=vectors, model_fingerprint=self.fingerprint)
        files = []
        for first in range(0, len(rows), 3):
            table = pa.table(
                {"vector": pa.array(list(rows[first : first + 3]), pa.list_(pa.float32(), self.dimension))}
            )
            out = BytesIO()
            pq.write_table(table, out)
            files.append(f"{request.output}/part-{first:012}.parquet")
            await asyncio.to_thread(Stores().put, parse_uri(files[-1]), out.getvalue())
        return Embedded(**told, files=files, model_fingerprint=self.fingerprint)

    @activity.defn(name="generate")
    async def generate(self, request: Generate) -> Generated:
        self.asked.append(request)
        texts = [
            GeneratedText(
                text=self.answers.get(prompt, "?"), prompt_tokens=1, completion_tokens=1,
                finish_reason="stop" if prompt in self.answers else "length",
            )
            for prompt in request.prompts
        ]  # fmt: skip
        return Generated(texts=texts, seconds=0.5, model_fingerprint=f"{self.fingerprint}/{request.adapter}")

    def _vector(self, text: str) -> list[float]:
        vector = [0.0] * self.dimension
        for word in re.findall(r"\w+", text.casefold()):
            vector[hashlib.sha256(word.encode()).digest()[0] % self.dimension] += 1.0
        return vector


@asynccontextmanager
async def all_workers(models: Models) -> AsyncIterator[Client]:
    """A real Temporal, and whoever carries the workflows out on it."""
    reader = DocumentReader()
    async with dev_server() as client:
        cpu = Worker(client, task_queue=names.TASK_QUEUE_CPU, workflows=WORKFLOWS, workflow_runner=sandbox())
        gpu = Worker(client, task_queue=names.TASK_QUEUE_GPU, activities=[models.embed_texts, models.generate])
        data = data_worker(client, Stores(), reader, WorkerSettings(grace_seconds=1), SlotsInUse())
        async with cpu, gpu, data:
            yield client
    reader.close()
