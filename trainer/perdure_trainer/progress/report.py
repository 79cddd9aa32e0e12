"""What is told of a step, in the contract's words."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

from perdure_api.progress import KubeflowMetric, PerdureProgress, ProgressReport, TrainerStatus

if TYPE_CHECKING:
    from perdure_api.pod import CheckpointRef
    from perdure_trainer.loop import StepReport


def progress_report(
    step: StepReport, checkpoint: CheckpointRef | None, time: datetime, from_step: int | None = None
) -> ProgressReport:
    """The report of a step, of an attempt that went on from another one."""
    metrics = {
        "loss": step.loss,
        "learning_rate": step.learning_rate,
        "grad_norm": step.gradient_norm,
    }
    return ProgressReport(
        trainer_status=TrainerStatus(
            progress_percentage=step.position.step * 100 // step.total_steps,
            estimated_remaining_seconds=eta_seconds(step),
            metrics=[KubeflowMetric(name=name, value=f"{value:.6g}") for name, value in metrics.items()],
            last_updated_time=time.isoformat(timespec="seconds").replace("+00:00", "Z"),
        ),
        perdure=PerdureProgress(
            step=step.position.step,
            from_step=from_step,
            total_steps=step.total_steps,
            tokens_per_second=step.labels_per_second,
            metrics=metrics,
            checkpoint=checkpoint,
        ),
    )


def eta_seconds(step: StepReport) -> int:
    """Time to the last step, if the rest goes as fast as the whole went so far."""
    remaining = step.total_steps - step.position.step
    return math.ceil(remaining * step.position.seconds / max(1, step.position.step))
