"""What each part of the built-in trainer's speed is worth: the same step with that part done as others do it.

    python bench/trainer/levers.py build/bench/trainer

after compare.py has put model and documents there. Variants take steps in turns on the same rows; the last column is
the time of a token as a multiple of the trainer's own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from recipe import DOCUMENTS_PER_STEP, LENGTH, SEED

HERE = Path(__file__).parent
NOT_MEASURED = "Not measured: anything on a GPU, torch.compile, Liger's kernels, FlashAttention with lengths."
LEARNT_SHARE = 4
"""Of so many tokens one is learnt, where only answers are."""


@dataclass
class Variant:
    """One way to take a step."""

    name: str
    step: Callable[[], int]
    """Takes a step; the tokens of it."""
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    """Of a token."""

    def measure(self) -> None:
        """One more step."""
        wall, cpu = time.perf_counter(), time.process_time()
        tokens = self.step()
        self.cpu_seconds.append((time.process_time() - cpu) / tokens)
        self.seconds.append((time.perf_counter() - wall) / tokens)


def main() -> None:
    """Measures all variants in turns, and prints a table."""
    parser = argparse.ArgumentParser(description="Measures the parts of the trainer's speed one by one.")
    parser.add_argument("folder", type=Path, help="of compare.py")
    parser.add_argument("--rounds", type=int, default=6, help="the first does not count (%(default)s)")
    parser.add_argument("--only", nargs="+", help="words that the names of variants hold")
    options = parser.parse_args()
    found = _variants(options.folder.resolve())
    variants = [
        found[0],
        *(each for each in found[1:] if not options.only or any(w in each.name for w in options.only)),
    ]
    for number in range(options.rounds):
        for each in variants:
            each.measure()
        sys.stderr.write(f"levers: round {number + 1} of {options.rounds}\n")
    own, own_cpu = (statistics.median(each[1:]) for each in (variants[0].seconds, variants[0].cpu_seconds))
    print(f"{'':58} {'ms/token':>9} {'CPU ms':>8} {'x':>6} {'x CPU':>6}")
    for each in variants:
        wall, cpu = statistics.median(each.seconds[1:]), statistics.median(each.cpu_seconds[1:])
        print(f"{each.name:58} {1000 * wall:9.3f} {1000 * cpu:8.3f} {wall / own:6.2f} {cpu / own_cpu:6.2f}")
    print(NOT_MEASURED)


def _variants(folder: Path) -> list[Variant]:
    import torch  # noqa: PLC0415 - after the environment is set
    from ours import spec_of  # noqa: PLC0415

    from perdure_api.trainingjob import parse_spec  # noqa: PLC0415
    from perdure_data.datasets import Passage  # noqa: PLC0415
    from perdure_data.model_files import fetch_model  # noqa: PLC0415
    from perdure_data.stores import Stores  # noqa: PLC0415
    from perdure_trainer import state  # noqa: PLC0415
    from perdure_trainer.data.ahead import ahead  # noqa: PLC0415
    from perdure_trainer.data.documents import Documents  # noqa: PLC0415
    from perdure_trainer.data.rows import TokenBatch, rows_of  # noqa: PLC0415
    from perdure_trainer.models.causal_lm import CausalLm  # noqa: PLC0415

    spec = parse_spec(spec_of(folder, folder / "model", maxSteps=1, batchSize=1))
    assert spec.training
    assert spec.lora
    source = fetch_model(Stores(), f"file://{folder / 'model'}", folder)
    model = CausalLm.load(source, spec.lora, spec.training)
    model.module.train()
    lines = (folder / "train.jsonl").read_text().splitlines()
    passages = [Passage(json.loads(line)["text"], ends_document=True) for line in lines]
    tokens = Path(tempfile.mkdtemp(dir=folder))
    model.prepare(passages, tokens)

    documents = Documents.in_folder(tokens)
    samples = rows_of(documents, LENGTH, 1, SEED, packing=True)
    parameters = [parameter for _, parameter in state.trainable(model.module)]
    base: Any = model.module.get_base_model()

    def adam(**how: bool) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=1e-5, **how)

    def full_logits(batch: TokenBatch) -> torch.Tensor:
        logits = model.module(input_ids=batch.tokens, position_ids=batch.positions, use_cache=False).logits.float()
        targets = torch.full((batch.tokens.numel(),), -100)
        targets[batch.places] = batch.targets
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=-100, reduction="sum")

    def answers(batch: TokenBatch) -> TokenBatch:
        kept = slice(None, None, LEARNT_SHARE)
        return TokenBatch(batch.tokens, batch.positions, batch.places[kept], batch.targets[kept])

    def step(
        optimizer: torch.optim.Optimizer,
        batches: Any,
        loss: Callable[[TokenBatch], torch.Tensor] = model.loss,
        kept: Callable[[TokenBatch], TokenBatch] = lambda batch: batch,
    ) -> int:
        batch = next(batches)
        chosen = kept(batch)
        (loss(chosen) / chosen.labels).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0).item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return int(batch.labels)

    def one_by_one(of: Any, size: int = 1) -> Any:
        return (of.batch(range(start, start + size)) for start in range(0, len(of) - size, size))

    half_the_digits = torch.autocast("cpu", torch.bfloat16)(full_logits)
    fused = adam(fused=True)
    buckets = rows_of(documents, LENGTH, DOCUMENTS_PER_STEP, SEED, packing=False)
    shuffled = torch.randperm(len(buckets), generator=torch.Generator().manual_seed(1)).tolist()
    mixed = (
        buckets.batch(shuffled[start : start + DOCUMENTS_PER_STEP])
        for start in range(0, len(shuffled) - DOCUMENTS_PER_STEP, DOCUMENTS_PER_STEP)
    )
    return [
        Variant("as it is", partial(step, fused, ahead(one_by_one(samples), 2))),
        Variant("the adapter by peft's own layers", partial(_by_peft, partial(step, fused, one_by_one(samples)))),
        Variant("batches made on the training thread", partial(step, fused, one_by_one(samples))),
        Variant("AdamW foreach", partial(step, adam(foreach=True), one_by_one(samples))),
        Variant("AdamW parameter by parameter", partial(step, adam(foreach=False), one_by_one(samples))),
        Variant(
            "all logits at once, and torch's cross entropy", partial(step, fused, one_by_one(samples), full_logits)
        ),
        Variant(f"1 of {LEARNT_SHARE} tokens learnt", partial(step, fused, one_by_one(samples), kept=answers)),
        Variant(
            f"1 of {LEARNT_SHARE} tokens learnt, all logits",
            partial(step, fused, one_by_one(samples), full_logits, answers),
        ),
        Variant("attention eager, not by sdpa", partial(_eagerly, base, partial(step, fused, one_by_one(samples)))),
        Variant("bfloat16 by autocast, all logits at once", partial(step, fused, one_by_one(samples), half_the_digits)),
        Variant("activations computed twice", partial(_twice, base, partial(step, fused, one_by_one(samples)))),
        Variant(
            "no packing, 4 documents of like length", partial(step, fused, one_by_one(buckets, DOCUMENTS_PER_STEP))
        ),
        Variant("no packing, 4 documents as they come", partial(step, fused, mixed)),
    ]


def _by_peft(take: Callable[[], int]) -> int:
    from perdure_trainer.models.fused_lora import FusedLoraLinear  # noqa: PLC0415

    with patch.object(FusedLoraLinear, "_is_plain", lambda *_: False):
        return take()


def _twice(base: Any, take: Callable[[], int]) -> int:
    base.activation_checkpointing_enable({"use_reentrant": False})
    try:
        return take()
    finally:
        base.activation_checkpointing_disable()


def _eagerly(base: Any, take: Callable[[], int]) -> int:
    usual = base.config._attn_implementation  # noqa: SLF001 - there is no other way to read it
    base.set_attn_implementation("eager")
    try:
        return take()
    finally:
        base.set_attn_implementation(usual)


if __name__ == "__main__":
    root = HERE.parents[1]
    sys.path[:0] = [str(root / room) for room in ("api", "data", "trainer")]
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    main()
