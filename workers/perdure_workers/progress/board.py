"""The newest progress of each attempt, as this process has heard it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

from perdure_api.model import COUNT_LIMIT
from perdure_api.names import attempt_uri, run_uri
from perdure_api.pod import CheckpointRef, TerminationMessage
from perdure_api.progress import ProgressReport
from perdure_api.status import CheckpointStatus, ProgressStatus, TrainingJobStatus, shown_metrics
from perdure_api.workflow import JobRef
from perdure_workers.watching.facts import AttemptKey

_STEP_NAMES = ("current_step", "step", "global_step")
_TOTAL_NAMES = ("total_steps", "max_steps")


@dataclass(frozen=True)
class Told:
    """The newest of one attempt."""

    job: JobRef
    progress: ProgressStatus
    checkpoint: CheckpointStatus | None


class ProgressBoard:
    """Newest progress by attempt. A report that goes back in steps is late, and dropped."""

    def __init__(self) -> None:
        self._told: dict[AttemptKey, Told] = {}
        self.deaf_at: float | None = None
        """Unix seconds when somebody last spoke and it could not be found out who; None: never."""

    def get(self, key: AttemptKey) -> Told | None:
        """What was last told of an attempt."""
        return self._told.get(key)

    def put(self, key: AttemptKey, told: Told) -> bool:
        """Keeps a report.

        Returns:
            Whether it was news.
        """
        before = self._told.get(key)
        if before and (told.progress.step or 0) < (before.progress.step or 0):
            return False
        if before and not _moved(before.progress, told.progress):
            # Said again, it is as old as when it was said first: by that one sees that a trainer hangs.
            since = before.progress.last_updated
            told = dataclasses.replace(told, progress=told.progress.model_copy(update={"last_updated": since}))
        if before:
            told = Told(told.job, told.progress, newer_checkpoint(told.checkpoint, before.checkpoint))
        self._told[key] = told
        return told != before

    def forget(self, key: AttemptKey) -> None:
        """The attempt is over."""
        self._told.pop(key, None)


def _moved(before: ProgressStatus, after: ProgressStatus) -> bool:
    """Whether there is progress between two reports; a speed and an estimate may change without."""
    return (before.step, before.percent, before.metrics) != (after.step, after.percent, after.metrics)


def with_last_words(told: Told, words: TerminationMessage, now: str) -> Told:
    """The same with what the container left behind: a save on SIGTERM comes after every report.

    The newest report may be of an earlier step: how long it thought that the rest would take is not said then.

    Args:
        told: The newest report.
        words: What the container left.
        now: RFC 3339.
    """
    progress, checkpoint = told.progress, told.checkpoint
    if words.step is not None:
        total = progress.total_steps
        update = {
            "step": words.step,
            "percent": min(100, 100 * words.step // total) if total else progress.percent,
            "eta_seconds": progress.eta_seconds if words.step == progress.step else None,
            "last_updated": now,
        }
        progress = progress.model_copy(update=update)
    if words.checkpoint is not None:
        checkpoint = _status_of(words.checkpoint, now)
    return Told(told.job, progress, checkpoint)


def is_stale(told: ProgressStatus, shown: ProgressStatus | None, now: str) -> bool:
    """Whether something newer is shown already: a pod's reports reach several workers, in any order.

    A new attempt may begin at a lower step: only time tells which is newer, and steps within a second of each other.
    A time that is still to come is that of a worker whose clock is ahead: beside it steps alone tell.

    Args:
        told: What was told.
        shown: What is shown.
        now: RFC 3339.
    """
    if shown is None or shown.last_updated is None or told.last_updated is None:
        return False
    if shown.last_updated > now:
        return (shown.step or 0) >= (told.step or 0)
    return (shown.last_updated, shown.step or 0) > (told.last_updated, told.step or 0)


def newest_of(told: Told | None, shown: Told, now: str) -> Told:
    """What this process was told, or what is shown already where that is newer. The time is RFC 3339."""
    if told is None:
        return shown
    if is_stale(told.progress, shown.progress, now):
        return Told(told.job, shown.progress, newer_checkpoint(shown.checkpoint, told.checkpoint))
    return told


def newer_checkpoint(news: CheckpointStatus | None, known: CheckpointStatus | None) -> CheckpointStatus | None:
    """What news of a checkpoint make of what is known.

    Of the checkpoints of one attempt the one of the later step is the newer, whoever heard of it: two workers may write
    within a second of each other. A later attempt may begin below one that was spoilt.

    Args:
        news: What was told last; None: an attempt that has saved nothing yet has the checkpoint of those before it.
        known: What is known or shown already.
    """
    if news is None or known is None:
        return news or known
    of_one_attempt = news.uri.rpartition("/")[0] == known.uri.rpartition("/")[0]
    return known if of_one_attempt and known.step > news.step else news


def newest_checkpoint(
    words: TerminationMessage, told: Told | None, shown: TrainingJobStatus | None, key: AttemptKey
) -> int | None:
    """The step of the newest checkpoint that an attempt committed; None: nobody has heard of one.

    Args:
        words: What its container left.
        told: The newest report of it that this process heard.
        shown: The status of its job, whose checkpoint may be an earlier attempt's.
        key: Which attempt.
    """
    own_folder = f"{attempt_uri(run_uri('', key.job_uid), key.attempt)}/"
    in_status = shown.checkpoint if shown and shown.checkpoint and own_folder in shown.checkpoint.uri else None
    known = (words.checkpoint, told.checkpoint if told else None, in_status)
    return max((checkpoint.step for checkpoint in known if checkpoint), default=None)


def read_report(report: ProgressReport, now: str) -> tuple[ProgressStatus, CheckpointStatus | None]:
    """Status fields of a report, ours or Kubeflow's; values that are no finite numbers are left out.

    Args:
        report: What the pod told.
        now: Time of receipt, RFC 3339.
    """
    kubeflow, ours = report.trainer_status, report.perdure
    metrics = _numbers((metric.name, metric.value) for metric in kubeflow.metrics)
    step, total, speed, checkpoint = _pop(metrics, _STEP_NAMES), _pop(metrics, _TOTAL_NAMES), None, None
    if ours:
        step, total = ours.step, ours.total_steps
        speed = ours.tokens_per_second if math.isfinite(ours.tokens_per_second or 0) else None
        metrics |= ours.metrics
        if ours.checkpoint:
            checkpoint = _status_of(ours.checkpoint, now)
    percent = kubeflow.progress_percentage
    if percent is None and step is not None and total:
        percent = min(100, 100 * step // total)
    progress = ProgressStatus(
        step=step,
        from_step=ours.from_step if ours else None,
        total_steps=total,
        percent=percent,
        eta_seconds=kubeflow.estimated_remaining_seconds,
        tokens_per_second=speed,
        metrics=shown_metrics(metrics),
        last_updated=now,
    )
    return progress, checkpoint


def _status_of(checkpoint: CheckpointRef, now: str) -> CheckpointStatus:
    return CheckpointStatus(uri=checkpoint.uri, step=checkpoint.step, time=checkpoint.time or now)


def _numbers(pairs: Iterable[tuple[str, str]]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, text in pairs:
        with contextlib.suppress(ValueError):
            numbers[name] = float(text)
    return numbers


def _pop(metrics: dict[str, float], names: tuple[str, ...]) -> int | None:
    found = [metrics.pop(name) for name in names if name in metrics]
    return int(found[0]) if found and 0 <= found[0] <= COUNT_LIMIT else None
