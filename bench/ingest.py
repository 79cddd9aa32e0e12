"""How fast documents are ingested, and in how much memory: `make bench-ingest`, or `python -m bench.ingest --help`.

The whole way: a Temporal, the workflow, documents read in a child process, vectors, LanceDB. Without `--model` the
vectors are numbers made of the words, which costs next to nothing: what is left is the ingestion itself.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from perdure_api import names
from perdure_api.documents import DocumentIngestResult
from perdure_api.inference import Embedded, EmbedTexts
from perdure_api.uri import parse_uri
from perdure_control.factory import start_workflow
from perdure_data.stores import Stores
from perdure_data.texts import read_part
from perdure_documents.reader import DocumentReader
from perdure_workers.data_worker import data_worker
from perdure_workers.process import WORKFLOWS, sandbox
from perdure_workers.settings import Pool, WorkerSettings
from perdure_workers.slots import SlotsInUse

DIMENSION: Final = 384
SAMPLE_SECONDS: Final = 0.5
WORDS: Final = [
    f"{start}{end}" for start in ("bre", "wa", "sto", "li", "nu", "kra") for end in ("ad", "ter", "ne", "ght")
]
FLAT: Final = 1.25
"""The last quarter may hold so much more memory than the second: Python gives little of it back."""


@dataclass(frozen=True)
class Sample:
    """One look at it."""

    seconds: float
    documents: int
    bytes_: int
    """Of this process, with all workers in it, and of the child that reads."""


@dataclass(frozen=True)
class Results:
    """What was measured."""

    documents: int
    chunks: int
    seconds: float
    again_seconds: float
    """The same once more, when nothing has changed."""
    samples: list[Sample]

    @property
    def per_second(self) -> float:
        """Documents."""
        return self.documents / self.seconds

    def peak_bytes(self, first: float, last: float) -> int:
        """The most memory, between two parts of the time from 0 to 1."""
        end = self.samples[-1].seconds
        return max(each.bytes_ for each in self.samples if first * end <= each.seconds <= last * end)

    @property
    def growth(self) -> float:
        """How many times as much memory the last quarter holds at most as the second."""
        return self.peak_bytes(0.75, 1) / self.peak_bytes(0.25, 0.5)


def main() -> int:
    """0 when memory was flat."""
    parser = argparse.ArgumentParser(prog="bench.ingest", description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=10_000, metavar="N")
    parser.add_argument(
        "--model",
        type=lambda text: Path(text).resolve(),
        help="folder with a sentence encoder; left out: none is asked",
    )
    parser.add_argument("--output", type=Path, default=Path("build/bench/ingest.json"), metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
        results = asyncio.run(measure(Path(folder), options.documents, options.model))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(asdict(results), indent=2))
    show(results, options.model)
    return 0 if results.growth <= FLAT else 1


def show(results: Results, model: Path | None) -> None:
    """Prints it; the last line is the summary."""
    end = results.samples[-1].seconds
    print(f"\n{results.documents} documents, {results.chunks} chunks; vectors of {model or 'words, no model'}\n")
    print("| part of the time | documents | most memory, MiB |\n|---|---|---|")
    for quarter in range(4):
        first, last = quarter / 4, (quarter + 1) / 4
        done = [each.documents for each in results.samples if each.seconds <= last * end]
        print(f"| {first:.0%} to {last:.0%} | {done[-1]} | {results.peak_bytes(first, last) / 2**20:.0f} |")
    print(
        f"\n{results.per_second:.0f} documents/s ({results.seconds:.0f} s); again, with nothing changed: "
        f"{results.again_seconds:.0f} s; memory of the last quarter is {results.growth:.2f} times the second's"
    )


async def measure(folder: Path, count: int, model: Path | None) -> Results:
    """Ingests documents that are made in a folder."""
    write_documents(folder / "docs", count)
    wish = {
        "source": (folder / "docs").as_uri(),
        "store": (folder / "vectors").as_uri(),
        "model": model.as_uri() if model else "file:///words",
    }
    async with _workers(folder, model) as client:
        began = time.monotonic()
        started = await start_workflow(client, "document_ingest", wish)
        with _watched(began) as watch:
            watching = asyncio.create_task(_ask(started.handle, watch))
            result: DocumentIngestResult = await started.handle.result()
            seconds = time.monotonic() - began
            watching.cancel()
        samples = [*watch.samples, Sample(seconds, result.written, watch.samples[-1].bytes_)]
        began = time.monotonic()
        again: DocumentIngestResult = await (await start_workflow(client, "document_ingest", wish)).handle.result()
        again_seconds = time.monotonic() - began
    if (result.written, again.unchanged) != (count, count):
        raise SystemExit(
            f"found {result.written} written and then {again.unchanged} unchanged; expected {count} of both"
        )
    return Results(count, result.chunks, seconds, again_seconds, samples)


def write_documents(folder: Path, count: int) -> None:
    """Text, Markdown and HTML, 2 KB each; the same ones each time."""
    chance = random.Random(7)
    folder.mkdir()
    for number in range(count):
        paragraphs = [" ".join(chance.choices(WORDS, k=90)).capitalize() + "." for _ in range(4)]
        match number % 3:
            case 0:
                (folder / f"{number:06}.txt").write_text("\n\n".join(paragraphs))
            case 1:
                (folder / f"{number:06}.md").write_text(f"# Number {number}\n\n" + "\n\n".join(paragraphs))
            case _:
                body = "".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs)
                (folder / f"{number:06}.html").write_text(f"<html><body><h1>Number {number}</h1>\n{body}</body></html>")


@activity.defn(name="embed_texts")
async def embed_words(request: EmbedTexts) -> Embedded:
    """Stands in for a model."""
    if request.part is None or request.output is None:
        raise ValueError("found texts in the request; expected a part of a file, and an output")
    texts = read_part(Stores(), request.part)
    rows = np.zeros((len(texts), DIMENSION), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in text.split():
            row[hashlib.blake2b(word.encode(), digest_size=2).digest()[0]] += 1
    out = BytesIO()
    pq.write_table(pa.table({"vector": pa.array(list(rows), pa.list_(pa.float32(), DIMENSION))}), out)
    uri = f"{request.output}/part-0.parquet"
    await asyncio.to_thread(Stores().put, parse_uri(uri), out.getvalue())
    return Embedded(
        count=len(texts), dimension=DIMENSION, tokens=0, seconds=0, model_fingerprint="sha256:words", files=[uri]
    )


@dataclass
class _Watch:
    """What is known by now."""

    documents: int = 0
    samples: list[Sample] = field(default_factory=list)


@contextmanager
def _watched(began: float) -> Iterator[_Watch]:
    """Looks at memory from a thread: the loop of the workers may be busy."""
    watch, over = _Watch(), Event()

    def look() -> None:
        while not over.wait(SAMPLE_SECONDS):
            # A thread or a process may have ended since it was listed.
            with suppress(OSError):
                watch.samples.append(Sample(time.monotonic() - began, watch.documents, _memory()))

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


async def _ask(handle: WorkflowHandle[object, DocumentIngestResult], watch: _Watch) -> None:
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        with suppress(RPCError):  # busy
            told: DocumentIngestResult = await handle.query("progress", result_type=DocumentIngestResult)
            watch.documents = told.written


@asynccontextmanager
async def _workers(folder: Path, model: Path | None) -> AsyncIterator[Client]:
    program = str(Path(sys.executable).with_name("temporal"))
    reader = DocumentReader()
    async with AsyncExitStack() as stack:
        stack.callback(reader.close)
        environment = await stack.enter_async_context(
            await WorkflowEnvironment.start_local(
                dev_server_existing_path=program,
                dev_server_startup_timeout=timedelta(minutes=1),
                data_converter=pydantic_data_converter,
            )
        )
        client = environment.client
        settings = WorkerSettings(pool=Pool.GPU, grace_seconds=1)
        cpu = Worker(client, task_queue=names.TASK_QUEUE_CPU, workflows=WORKFLOWS, workflow_runner=sandbox())
        data = data_worker(client, Stores(), reader, settings, SlotsInUse())
        if model is None:
            gpu = Worker(client, task_queue=names.TASK_QUEUE_GPU, activities=[embed_words])
        else:
            from perdure_inference.engine import Engine  # noqa: PLC0415 - torch
            from perdure_inference.models import Models  # noqa: PLC0415
            from perdure_workers.gpu_process import gpu_worker  # noqa: PLC0415

            engine = stack.enter_context(Engine(Models(Stores(), folder, keep=1)))
            gpu = gpu_worker(client, engine, Stores(), settings, SlotsInUse())
        for worker in (cpu, data, gpu):
            await stack.enter_async_context(worker)
        yield client


def _memory() -> int:
    """Resident bytes of this process and of its children that run our code."""
    ours = [os.getpid(), *_children(os.getpid())]
    return sum(_resident(pid) for pid in ours)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    found = [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    return [child for child in found if b"perdure_documents" in Path(f"/proc/{child}/cmdline").read_bytes()]


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
