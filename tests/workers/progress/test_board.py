from __future__ import annotations

from typing import Any

import pytest

from perdure_api.progress import ProgressReport
from perdure_api.status import CheckpointStatus, ProgressStatus
from perdure_api.workflow import JobRef
from perdure_workers.progress.board import ProgressBoard, Told, is_stale, read_report
from perdure_workers.watching.facts import AttemptKey

NOW = "2026-01-01T00:00:00Z"
JOB = JobRef(namespace="ns", name="job", uid="u")
KEY = AttemptKey("u", 1)


def read(document: dict[str, Any]) -> ProgressStatus:
    return read_report(ProgressReport.from_wire(document), NOW)[0]


def told(step: int, checkpoint: int | None = None) -> Told:
    saved = CheckpointStatus(uri="s3://b/c", step=checkpoint, time=NOW) if checkpoint else None
    return Told(JOB, ProgressStatus(step=step, last_updated=NOW), saved)


def test_a_report_in_kubeflows_words_is_understood() -> None:
    progress = read(
        {
            "trainerStatus": {
                "progressPercentage": 45,
                "estimatedRemainingSeconds": 30,
                "metrics": [
                    {"name": "loss", "value": "2.5"},
                    {"name": "current_step", "value": "45"},
                    {"name": "total_steps", "value": "100"},
                    {"name": "note", "value": "warm"},
                ],
            }
        }
    )

    assert (progress.step, progress.total_steps, progress.percent, progress.eta_seconds) == (45, 100, 45, 30)
    assert progress.metrics == {"loss": 2.5}


def test_our_own_words_say_more() -> None:
    document = {"perdure": {"step": 3, "totalSteps": 12, "tokensPerSecond": 99.5, "metrics": {"loss": 1.5}}}

    progress = read(document)

    assert (progress.step, progress.percent, progress.tokens_per_second) == (3, 25, 99.5)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_no_finite_number_is_left_out(value: str) -> None:
    progress = read(
        {
            "trainerStatus": {"metrics": [{"name": "loss", "value": value}]},
            "perdure": {"step": 1, "metrics": {"grad_norm": float(value)}},
        }
    )

    assert progress.metrics == {}


def test_a_step_that_goes_back_is_late_and_dropped() -> None:
    board = ProgressBoard()

    assert board.put(KEY, told(10))
    assert not board.put(KEY, told(9))

    newest = board.get(KEY)
    assert newest
    assert newest.progress.step == 10


def test_a_report_without_a_checkpoint_does_not_unsay_one() -> None:
    board = ProgressBoard()
    board.put(KEY, told(10, checkpoint=8))
    board.put(KEY, told(11))

    newest = board.get(KEY)
    assert newest
    assert newest.checkpoint
    assert newest.checkpoint.step == 8


def test_attempts_do_not_share_their_steps() -> None:
    board = ProgressBoard()
    board.put(KEY, told(10))

    assert board.put(AttemptKey("u", 2), told(4))


EARLIER, LATER = "2026-01-01T00:00:05Z", "2026-01-01T00:00:06Z"


@pytest.mark.parametrize(
    ("told_at", "step", "shown_at", "shown_step", "stale"),
    [
        (EARLIER, 3, LATER, 4, True),
        (LATER, 4, EARLIER, 3, False),
        (LATER, 3, LATER, 4, True),
        (LATER, 4, LATER, 4, False),
        (LATER, 0, EARLIER, 90, False),
    ],
    ids=["older", "newer", "same second, lower step", "the same", "a new attempt begins lower"],
)
def test_a_report_that_took_the_longer_way_does_not_turn_back_what_is_shown(
    told_at: str, step: int, shown_at: str, shown_step: int, *, stale: bool
) -> None:
    shown = ProgressStatus(step=shown_step, last_updated=shown_at)

    assert is_stale(ProgressStatus(step=step, last_updated=told_at), shown) is stale


def test_where_nothing_is_shown_everything_is_news() -> None:
    assert not is_stale(ProgressStatus(step=1, last_updated=NOW), None)
