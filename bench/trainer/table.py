"""What was measured, for people."""

from __future__ import annotations

import statistics

from processes import NAMES, Peer, Results
from recipe import DOCUMENTS_PER_STEP, LENGTH, RATE, ROWS_PER_STEP, WARM_UP

SHOWN = 4
"""Steps at either end whose mean training loss is shown."""
CHECKPOINT_SECONDS = 30
NOT_MEASURED = (
    "Not measured: anything on a GPU, torch.compile, Liger's kernels, FlashAttention with lengths, bfloat16 on a CPU.\n"
    "Held-out losses are of other documents in another order: near each other, not equal.\n"
)


def show(results: Results) -> None:
    """Prints it all; the last line is the summary."""
    facts = results.conditions
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    print(
        f"\n{facts['model']}; LoRA of {facts['lora']}, learning rate {RATE}, sequences of {LENGTH} tokens. A step is "
        f"{DOCUMENTS_PER_STEP} padded documents or {ROWS_PER_STEP} packed row; trainers take steps in turns, the first "
        f"{WARM_UP} does not count.\n{facts['cpu']}, {facts['cpus']} CPUs, load {facts['load_before']:.1f} before; "
        f"{versions}; {facts['time']}\n"
    )
    shown = [peer for peer in results.peers if peer.measured]
    if shown:
        _print_steps(shown)
    if results.restart:
        _print_restart(results.restart)
    print(NOT_MEASURED)
    for sentence in results.missing:
        print(f"! {sentence}")
    print(_summary({peer.name: peer for peer in shown}, results.restart))


def _print_steps(peers: list[Peer]) -> None:
    columns = ["steps", "tokens", "tokens/s", "tokens/CPU s", f"loss, first {SHOWN}", f"last {SHOWN}", "held-out loss"]
    print(f"{'':26}" + "".join(f"{name:>15}" for name in columns))
    for peer in peers:
        losses = [step["loss"] for step in peer.steps]
        cells = [
            f"{len(peer.steps)}",
            f"{sum(step['tokens'] for step in peer.steps):.0f}",
            f"{peer.rate():.1f}",
            f"{peer.rate('cpu_seconds'):.1f}",
            f"{statistics.fmean(losses[:SHOWN]):.3f}",
            f"{statistics.fmean(losses[-SHOWN:]):.3f}",
            "-" if peer.held_out_loss is None else f"{peer.held_out_loss:.4f}",
        ]
        print(f"{NAMES[peer.name]:26}" + "".join(f"{cell:>15}" for cell in cells))
    for peer in peers:
        if peer.base_loss is not None:
            print(f"Held-out loss of the base model: {peer.base_loss:.4f}")
    print()


def _print_restart(facts: dict[str, float]) -> None:
    for name, what in (("start", "A fresh start from a GGUF file"), ("resume", "A resume after SIGKILL")):
        print(
            f"{what}: {facts[f'{name}_imports_seconds']:.1f} s of imports, then "
            f"{facts[f'{name}_to_first_step_seconds']:.1f} s until the first step, which took "
            f"{facts[f'{name}_first_step_seconds']:.1f} s"
        )
    print(
        f"A checkpoint: {1000 * facts['checkpoint_training_thread_seconds']:.1f} ms on the training thread (at most "
        f"{1000 * facts['checkpoint_training_thread_seconds_most']:.1f}), "
        f"{1000 * facts['checkpoint_cpu_seconds']:.0f} ms of CPU in all; one every {CHECKPOINT_SECONDS} s is at most "
        f"{_share(facts):.2%} of the time\n"
    )


def _share(facts: dict[str, float]) -> float:
    """As if training stood still while a checkpoint is hashed and written in the background."""
    return facts["checkpoint_cpu_seconds"] / CHECKPOINT_SECONDS


def _summary(peers: dict[str, Peer], restart: dict[str, float]) -> str:
    parts = []
    if ours := peers.get("perdure"):
        ratios = [f"{ours.rate() / peers[name].rate():.2f} x {NAMES[name]}" for name in ("hf", "trl") if name in peers]
        parts.append(f"{ours.rate():.0f} tokens/s" + (f" = {', '.join(ratios)}" if ratios else ""))
    if restart:
        parts += [
            f"checkpoint {1000 * restart['checkpoint_training_thread_seconds']:.0f} ms",
            f"{_share(restart):.2%} of the time with one every {CHECKPOINT_SECONDS} s",
            f"resume {restart['resume_to_first_step_seconds']:.1f} s beyond imports",
        ]
    return f"trainer: {'; '.join(parts) or 'nothing was measured'}"
