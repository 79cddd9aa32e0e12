"""One trainer as a process that takes a step whenever it is told to: `peers.py NAME FOLDER WORK STEPS`.

It writes a line of JSON for each step and waits for a line on standard input before each, so that trainers can take
turns and share whatever else happens on the machine.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recipe import ALPHA, DOCUMENTS_PER_STEP, LENGTH, RANK, RATE, ROWS_PER_STEP, SEED


@dataclass(frozen=True)
class Task:
    """What is to be trained on, and for how long."""

    folder: Path
    """Has the model and the documents."""
    work: Path
    """Empty, to write to."""
    steps: int


class Turns:
    """Steps are taken in turns."""

    def __init__(self) -> None:
        # Libraries print what they like; only our own lines reach the other side.
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def wait(self) -> None:
        """Waits for the next turn."""
        if not sys.stdin.readline():
            os._exit(1)
        self._begun, self._cpu = time.perf_counter(), time.process_time()

    def tell(self, loss: float | None = None, **more: float) -> None:
        """Ends a turn."""
        seconds, cpu = time.perf_counter() - self._begun, time.process_time() - self._cpu
        self._out.write(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "loss": loss, **more}) + "\n")
        self._out.flush()


def main() -> None:
    """Runs one of them."""
    warnings.simplefilter("ignore")
    name, folder, work, steps = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    turns = Turns()
    run = PEERS[name](Task(folder, Path(tempfile.mkdtemp(dir=work)), steps), turns)
    turns.wait()
    run()


def hugging_face(task: Task, turns: Turns) -> Callable[[], None]:
    """Trainer and peft as in their documentation: a batch is padded to its longest document."""
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments  # noqa: PLC0415

    from data import texts  # noqa: PLC0415 - each process loads what it needs

    model, tokenizer = _adapted(task.folder)
    tokenizer.pad_token = tokenizer.eos_token
    documents = [
        {"input_ids": tokenizer(text + tokenizer.eos_token, add_special_tokens=False)["input_ids"]}
        for text in texts(task.folder / "train.jsonl")
    ]
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    counts: list[int] = []

    def counting(rows: list[dict[str, Any]]) -> Any:
        counts.append(sum(len(row["input_ids"]) - 1 for row in rows))
        return collate(rows)

    arguments = TrainingArguments(per_device_train_batch_size=DOCUMENTS_PER_STEP, **_common(task))
    trainer = Trainer(model, arguments, train_dataset=documents, data_collator=counting)
    trainer.add_callback(_callback(turns, counts))
    return lambda: _finish(trainer.train, model, tokenizer, task, turns)


def trl(task: Task, turns: Turns) -> Callable[[], None]:
    """TRL's SFTTrainer with packing, without padding."""
    from datasets import Dataset  # noqa: PLC0415
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415

    from data import texts  # noqa: PLC0415

    model, tokenizer = _adapted(task.folder)
    arguments = SFTConfig(
        per_device_train_batch_size=ROWS_PER_STEP,
        packing=True,
        max_length=LENGTH,
        gradient_checkpointing=False,
        **_common(task),
    )
    dataset = Dataset.from_list([{"text": text} for text in texts(task.folder / "train.jsonl")])
    trainer = SFTTrainer(model, arguments, train_dataset=dataset, processing_class=tokenizer)
    counts: list[int] = []
    collate = trainer.data_collator

    def counting(rows: list[dict[str, Any]]) -> Any:
        counts.append(sum(length - 1 for row in rows for length in row["seq_lengths"]))
        return collate(rows)

    trainer.data_collator = counting
    trainer.add_callback(_callback(turns, counts))
    return lambda: _finish(trainer.train, model, tokenizer, task, turns)


def perdure(task: Task, turns: Turns, *, packing: bool = True) -> Callable[[], None]:
    """The built-in trainer as it is."""
    from ours import run_of, spec_of  # noqa: PLC0415

    from perdure_trainer.loop import StepReport  # noqa: PLC0415
    from perdure_trainer.run import Run  # noqa: PLC0415

    class TakingTurns(Run):
        """Tells of each step, and waits before the next."""

        labels = 0

        def _on_step(self, report: StepReport) -> None:
            super()._on_step(report)
            turns.tell(loss=report.loss, tokens=report.position.labels - self.labels)
            self.labels = report.position.labels
            turns.wait()

    rows = ROWS_PER_STEP if packing else DOCUMENTS_PER_STEP
    training = {"maxSteps": task.steps, "batchSize": rows, "packing": packing}
    run = run_of(TakingTurns, spec_of(task.folder, task.folder / "model", **training), task.work, 1)

    def finish() -> None:
        run.finish()
        result = json.loads(next((task.work / "out").rglob("result.json")).read_text())
        turns.tell(held_out_loss=result["metrics"]["eval_loss"], base_loss=result["baseMetrics"]["eval_loss"])

    return finish


def _adapted(folder: Path) -> tuple[Any, Any]:
    import torch  # noqa: PLC0415
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    torch.manual_seed(SEED)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, lora), AutoTokenizer.from_pretrained(folder / "model")


def _common(task: Task) -> dict[str, Any]:
    return {
        "output_dir": str(task.work),
        "max_steps": task.steps,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "seed": SEED,
        "disable_tqdm": True,
    }


def _callback(turns: Turns, tokens: list[int]) -> Any:
    from transformers import TrainerCallback  # noqa: PLC0415

    class TakingTurns(TrainerCallback):
        """Tells of each step once its loss is logged, and waits before the next."""

        def on_log(self, _: Any, state: Any, __: Any, logs: dict[str, float], **___: Any) -> None:
            if "loss" in logs:
                turns.tell(loss=logs["loss"], tokens=tokens[state.global_step - 1])
                turns.wait()

    return TakingTurns()


def _finish(train: Callable[[], object], model: Any, tokenizer: Any, task: Task, turns: Turns) -> None:
    import torch  # noqa: PLC0415

    from data import texts  # noqa: PLC0415

    train()
    model.eval()
    total, count = 0.0, 0
    for text in texts(task.folder / "held-out.jsonl"):
        ids = torch.tensor([tokenizer(text + tokenizer.eos_token, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            total += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    turns.tell(held_out_loss=total / count)


PEERS: dict[str, Callable[[Task, Turns], Callable[[], None]]] = {
    "hf": hugging_face,
    "trl": trl,
    "perdure": perdure,
    "perdure-unpacked": partial(perdure, packing=False),
}

if __name__ == "__main__":
    main()
