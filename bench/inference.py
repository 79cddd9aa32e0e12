"""Vectors and answers through a worker beside a bare loop over the same model: `make bench-inference`.

Both are measured in turns, in one process and on one machine, so that whatever else happens on it happens to both. The
bare loop is transformers alone, with the batches that the worker makes; through the worker texts are read from a file,
go through Temporal and a workflow, and vectors are written as Parquet.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
import transformers
from temporalio import workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from perdure_api import names
from perdure_api.inference import Generate, Generated
from perdure_control.factory import start_workflow
from perdure_data.stores import Stores
from perdure_inference import generator
from perdure_inference.batches import batches
from perdure_inference.encoder import SentenceEncoder
from perdure_inference.engine import Engine
from perdure_inference.generator import TextGenerator
from perdure_inference.models import Models
from perdure_workers.activities.texts import TextActivities
from perdure_workers.gpu_process import gpu_worker
from perdure_workers.process import WORKFLOWS, sandbox
from perdure_workers.settings import Pool, WorkerSettings
from perdure_workers.slots import SlotsInUse
from perdure_workers.workflows import gpu_calls

GOAL: Final = 0.9
WORDS: Final = "the of and that in to he shall unto for I his a they be is him not them it with all thou"


@workflow.defn(sandboxed=False)
class AskWorkflow:
    """Nothing but the activity."""

    @workflow.run
    async def run(self, request: Generate) -> Generated:
        """The answers."""
        return await gpu_calls.generate(request)


@dataclass(frozen=True)
class Measured:
    """How long the same work took, in seconds, turn by turn."""

    what: str
    unit: str
    amount: int
    bare: list[float]
    worker: list[float]

    def line(self) -> str:
        """What is printed of it."""
        bare, worker = (self.amount / statistics.median(seconds) for seconds in (self.bare, self.worker))
        ratio = statistics.median(b / w for b, w in zip(self.bare, self.worker, strict=True))
        verdict = "reached" if ratio >= GOAL else "MISSED"
        return (
            f"{self.what}: bare loop {bare:.1f} {self.unit}/s, through a worker {worker:.1f} {self.unit}/s, "
            f"ratio {ratio:.3f} (median of {len(self.bare)} turns; goal {GOAL}: {verdict})"
        )


def main() -> int:
    """Measures and prints; the exit status is 0 whatever comes out."""
    options = _parser().parse_args()
    transformers.utils.logging.disable_progress_bar()
    _print_conditions(options)
    for measured in asyncio.run(_measured(options)):
        print(measured.line(), flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Throughput through a worker beside a bare loop.")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of a sentence encoder")
    parser.add_argument("--generator", type=Path, required=True, help="folder or GGUF file of a language model")
    parser.add_argument("--texts", type=int, default=4096, help="to embed in a turn (%(default)s)")
    parser.add_argument("--prompts", type=int, default=64, help="to answer in a turn (%(default)s)")
    parser.add_argument("--new-tokens", type=int, default=32, help="of each answer (%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="of each, after one that does not count (%(default)s)")
    parser.add_argument("--slots", type=int, default=2, help="of the worker (%(default)s)")
    return parser


def _print_conditions(options: argparse.Namespace) -> None:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cpus, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{cpus} CPUs, {torch.get_num_threads()} threads, {device}; load {load:.1f}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, Python {sys.version.split()[0]}")
    print(f"{options.texts} texts of 5 to 60 words; {options.prompts} prompts, {options.new_tokens} new tokens each;")
    print(f"{options.turns} turns; a worker of {options.slots} slots and a Temporal dev server on the same machine")


async def _measured(options: argparse.Namespace) -> list[Measured]:
    server = str(Path(sys.executable).with_name("temporal"))
    stores = Stores()
    settings = WorkerSettings(pool=Pool.GPU, slots=options.slots)
    with TemporaryDirectory() as scratch, Engine(Models(stores, Path(scratch), keep=4)) as engine:
        async with await WorkflowEnvironment.start_local(
            dev_server_existing_path=server, data_converter=pydantic_data_converter
        ) as environment:
            client = environment.client
            cpu = Worker(
                client,
                task_queue=names.TASK_QUEUE_CPU,
                workflows=[*WORKFLOWS, AskWorkflow],
                activities=[TextActivities(stores).survey_texts],
                workflow_runner=sandbox(),
            )
            async with cpu, gpu_worker(client, engine, stores, settings, SlotsInUse()):
                return [
                    await _embedding(client, options, stores, Path(scratch)),
                    await _generation(client, options, stores, Path(scratch)),
                ]


async def _embedding(client: Client, options: argparse.Namespace, stores: Stores, scratch: Path) -> Measured:
    texts = _texts(options.texts)
    (scratch / "texts.txt").write_text("\n".join(texts))
    model = f"file://{options.encoder.resolve()}"
    encoder = Models(stores, scratch, keep=1).encoder(model)

    async def through_worker() -> None:
        given = {
            "model": model,
            "source": {"uri": f"file://{scratch}/texts.txt"},
            "output": f"file://{scratch}/vectors",
        }
        started = await start_workflow(client, "batch_embed", given, f"embed-{uuid.uuid4()}")
        result = await started.handle.result()
        assert result.count == len(texts)

    bare, worker = await _in_turns(options.turns, lambda: _bare_vectors(encoder, texts), through_worker)
    return Measured("embedding", "texts", len(texts), bare, worker)


async def _generation(client: Client, options: argparse.Namespace, stores: Stores, scratch: Path) -> Measured:
    prompts = [" ".join(text.split()[:20]) for text in _texts(options.prompts)]
    model = f"file://{options.generator.resolve()}"
    language_model = Models(stores, scratch, keep=1).generator(model, None)
    request = Generate(model=model, prompts=prompts, chat=False, max_new_tokens=options.new_tokens)
    spoken = 0

    async def through_worker() -> None:
        nonlocal spoken
        answered: Generated = await client.execute_workflow(
            AskWorkflow.run,
            request,
            id=f"generate-{uuid.uuid4()}",
            task_queue=names.TASK_QUEUE_CPU,
            execution_timeout=timedelta(hours=1),
        )
        spoken = sum(each.completion_tokens for each in answered.texts)

    def bare_loop() -> None:
        _bare_answers(language_model, prompts, options.new_tokens)

    bare, worker = await _in_turns(options.turns, bare_loop, through_worker)
    return Measured("generation", "tokens", spoken, bare, worker)


async def _in_turns(
    turns: int, bare: Callable[[], object], worker: Callable[[], Awaitable[None]]
) -> tuple[list[float], list[float]]:
    """Seconds of each; the first turn of both, in which models are loaded and caches filled, does not count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns + 1):
        began = time.monotonic()
        await asyncio.to_thread(bare)
        between = time.monotonic()
        await worker()
        seconds[0].append(between - began)
        seconds[1].append(time.monotonic() - between)
    return seconds[0][1:], seconds[1][1:]


def _texts(count: int) -> list[str]:
    draw = random.Random(7)
    return [f"{number} {' '.join(draw.choices(WORDS.split(), k=draw.randint(5, 60)))}" for number in range(count)]


@torch.inference_mode()
def _bare_vectors(encoder: SentenceEncoder, texts: Sequence[str]) -> None:
    """What a person would write: batches of texts of like length, a mean over their tokens."""
    model: Any = encoder._model  # noqa: SLF001 - the same model, not a copy of it
    tokenizer: Any = encoder._tokenizer  # noqa: SLF001 - as above
    lengths = [len(ids) for ids in tokenizer(list(texts), truncation=True, max_length=256)["input_ids"]]
    for rows in batches(lengths):
        batch = tokenizer(
            [texts[row] for row in rows], truncation=True, max_length=256, padding=True, return_tensors="pt"
        ).to(model.device)
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).cpu()


@torch.inference_mode()
def _bare_answers(language_model: TextGenerator, prompts: Sequence[str], new_tokens: int) -> None:
    model: Any = language_model._model  # noqa: SLF001 - as above
    tokenizer: Any = language_model._tokenizer  # noqa: SLF001 - as above
    tokenizer.padding_side = "left"
    for first in range(0, len(prompts), generator.ROWS):
        some = list(prompts[first : first + generator.ROWS])
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        batch = tokenizer(some, padding=True, return_tensors="pt").to(model.device)
        written = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


if __name__ == "__main__":
    sys.exit(main())
