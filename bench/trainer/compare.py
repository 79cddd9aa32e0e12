"""The built-in trainer beside what people use today: steps in turns on one machine, then its restart and checkpoints.

    python bench/trainer/compare.py --gguf MODEL.gguf --chapters train.jsonl

with the packages of locks/bench.txt. Tokens are those that are learnt from, padding never counts. The last line is the
summary; everything that was measured is in results.json of the folder.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import NAMES, BenchError, Peer, Process, Results, environment
from recipe import DOCUMENTS_PER_STEP, LENGTH, RANK, RATE, ROWS_PER_STEP, WARM_UP
from table import show

HERE = Path(__file__).parent
NEEDS = {"hf": ["peft"], "trl": ["trl", "datasets"]}
EXIT_INTERRUPTED = 130


def main() -> int:
    """Measures, prints a table, and leaves results.json; the exit status."""
    options = _options()
    results = Results(_conditions())
    try:
        _prepare(options)
        _compare(options, results)
        if options.restart:
            _restart(options, results)
    except BenchError as error:
        sys.stderr.write(f"bench-trainer: {error}\n")
        return 1
    except KeyboardInterrupt:
        results.missing.append("interrupted: what follows was measured until then")
    _write(options.folder, results)
    show(results)
    if any("interrupted" in each for each in results.missing):
        return EXIT_INTERRUPTED
    return 1 if results.missing else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compares trainers.")
    parser.add_argument("--gguf", type=Path, required=True, help="smollm2-135m.gguf of examples/prepare_demo_data.py")
    parser.add_argument("--chapters", type=Path, required=True, help="train.jsonl of the same")
    parser.add_argument("--folder", type=Path, default=Path("build/bench/trainer"), help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=16, help="of each trainer (%(default)s)")
    parser.add_argument("--seconds", type=float, default=270, help="no further steps after this time (%(default)s)")
    parser.add_argument("--peers", nargs="+", default=["hf", "trl", "perdure"], choices=list(NAMES))
    parser.add_argument("--no-restart", dest="restart", action="store_false", help="steps only")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    return options


def _prepare(options: argparse.Namespace) -> None:
    for path in (options.gguf, options.chapters):
        if not path.exists():
            raise BenchError(
                f"{path} is not there; `make bench-trainer` prepares it, as does examples/prepare_demo_data.py"
            )
    _say("preparing model and documents")
    shutil.rmtree(options.folder / "work", ignore_errors=True)
    (options.folder / "work").mkdir(parents=True)
    arguments = [options.gguf, options.chapters, options.folder]
    done = subprocess.run(
        [sys.executable, str(HERE / "data.py"), *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"model and documents could not be prepared: {done.stderr.strip().splitlines()[-1:]}")


def _compare(options: argparse.Namespace, results: Results) -> None:
    for name in options.peers:
        lacking = [module for module in NEEDS.get(name, []) if importlib.util.find_spec(module) is None]
        if lacking:
            results.missing.append(f"{NAMES[name]}: not compared for lack of {', '.join(lacking)}; see locks/bench.txt")
            continue
        log = options.folder / f"{name}.log"
        process = Process(log, HERE / "peers.py", name, options.folder, options.folder / "work", options.steps)
        results.peers.append(Peer(name, process))
    begun = time.monotonic()
    try:
        for number in range(options.steps + 1):
            if number > WARM_UP + 1 and time.monotonic() - begun > options.seconds:
                results.missing.append(f"no time for more than {number} of {options.steps} steps (--seconds)")
                break
            for peer in results.peers:
                if not peer.fault:
                    peer.turn()
            _say(f"step {number + 1}: " + ", ".join(_last(peer) for peer in results.peers))
    finally:
        for peer in results.peers:
            peer.process.end()
    results.missing += [f"{NAMES[peer.name]} {peer.fault}" for peer in results.peers if peer.fault]


def _last(peer: Peer) -> str:
    return f"{peer.name} {peer.steps[-1]['seconds']:.1f} s" if peer.steps else peer.name


def _restart(options: argparse.Namespace, results: Results) -> None:
    """A run from the GGUF file is killed with SIGKILL after its checkpoints, and started again."""
    _say("a run that is killed and started again")
    work = Path(tempfile.mkdtemp(dir=options.folder / "work"))
    model = work / "model"
    model.mkdir()
    model.joinpath("model.gguf").symlink_to(options.gguf.resolve())
    handed_over: list[float] = []
    in_peace: list[float] = []
    for attempt in (1, 2):
        begun = time.monotonic()
        with _running(
            options.folder / f"attempt-{attempt}.log", HERE / "ours.py", model, options.folder, attempt, work
        ) as run:
            seen: dict[str, dict[str, Any]] = {}
            while "done" not in seen:
                try:
                    told = run.told()
                except BenchError as error:
                    results.missing.append(f"attempt {attempt} of the restart {error}")
                    return
                seen.setdefault(told["what"], told)
                if told["what"] == "handed_over":
                    handed_over.append(told["seconds"])
                if told["what"] == "saved_in_peace":
                    in_peace.append(told["cpu_seconds"])
        name = ("start", "resume")[attempt - 1]
        results.restart |= {
            f"{name}_imports_seconds": seen["imported"]["at"] - begun,
            f"{name}_to_first_step_seconds": seen["ready"]["at"] - seen["imported"]["at"],
            f"{name}_first_step_seconds": seen["step"]["at"] - seen["ready"]["at"],
            f"{name}_from_step": seen["ready"]["step"],
        }
    results.restart |= {
        "checkpoint_training_thread_seconds": statistics.median(handed_over),
        "checkpoint_training_thread_seconds_most": max(handed_over),
        "checkpoint_cpu_seconds": statistics.median(in_peace),
    }


@contextmanager
def _running(log: Path, *arguments: object) -> Iterator[Process]:
    process = Process(log, *arguments)
    try:
        yield process
    finally:
        process.end()


def _conditions() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": models[0] if models else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "versions": {name: _version(name) for name in ("torch", "transformers", "peft", "trl")},
        "model": "SmolLM2-135M, float32",
        "lora": f"rank {RANK} on every linear layer",
        "learning_rate": RATE,
        "sequence_length": LENGTH,
        "documents_per_padded_step": DOCUMENTS_PER_STEP,
        "rows_per_packed_step": ROWS_PER_STEP,
        "warm_up_steps": WARM_UP,
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _write(folder: Path, results: Results) -> None:
    document = {
        "conditions": results.conditions,
        "trainers": {
            peer.name: {"steps": peer.steps, "held_out_loss": peer.held_out_loss, "base_loss": peer.base_loss}
            for peer in results.peers
        },
        "restart": results.restart,
        "missing": results.missing,
    }
    path = folder / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    _say(f"everything that was measured is in {path}")


def _say(what: str) -> None:
    sys.stderr.write(f"bench-trainer: {what}\n")


if __name__ == "__main__":
    sys.exit(main())
