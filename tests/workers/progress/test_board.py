from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from perdure_api.pod import TerminationMessage
from perdure_api.progress import ProgressReport
from perdure_api.status import CheckpointStatus, ProgressStatus, TrainingJobStatus
from perdure_api.workflow import JobRef
from perdure_workers.progress.board import (
    ProgressBoard,
    Told,
    is_stale,
    newer_checkpoint,
    newest_checkpoint,
    newest_of,
    read_report,
    with_last_words,
)
from perdure_workers.watching.facts import AttemptKey

NOW = "2026-01-01T00:00:00Z"
JOB = JobRef(namespace="ns", name="job", uid="u")
KEY = AttemptKey("ns", "u", 1)


def read(document: dict[str, Any]) -> ProgressStatus:
    return read_report(ProgressReport.from_wire(document), NOW)[0]


def told(step: int | None, checkpoint: int | None = None) -> Told:
    saved = CheckpointStatus(uri="s3://b/c", step=checkpoint, time=NOW) if checkpoint else None
    return Told(JOB, ProgressStatus(step=step, last_updated=NOW), saved)


@pytest.mark.parametrize(("ours", "from_step"), [({"step": 9, "fromStep": 5}, 5), ({"step": 9}, None), (None, None)])
def test_from_where_an_attempt_went_on_is_what_it_tells(ours: dict[str, Any] | None, from_step: int | None) -> None:
    assert read({"perdure": ours}).from_step == from_step


AT_THE_END = "2026-01-01T00:00:09Z"


@pytest.mark.parametrize(
    ("words", "step", "percent", "checkpoint", "last_updated"),
    [
        ({}, 9, 30, 8, NOW),
        ({"step": 12}, 12, 40, 8, AT_THE_END),
        ({"step": 99}, 99, 100, 8, AT_THE_END),
        ({"step": 12, "checkpoint": {"uri": "s3://b/d", "step": 12}}, 12, 40, 12, AT_THE_END),
        ({"checkpoint": {"uri": "s3://b/d", "step": 9}}, 9, 30, 9, NOW),
    ],
    ids=["silent", "a step", "a step beyond the last", "a save on SIGTERM", "a save only"],
)
def test_last_words_are_newer_than_any_report(
    words: dict[str, Any], step: int, percent: int, checkpoint: int, last_updated: str
) -> None:
    before = told(9, 8)
    progress = before.progress.model_copy(update={"total_steps": 30, "percent": 30})

    after = with_last_words(Told(JOB, progress, before.checkpoint), TerminationMessage.from_wire(words), AT_THE_END)

    assert (after.progress.step, after.progress.percent, after.progress.last_updated) == (step, percent, last_updated)
    assert after.checkpoint is not None
    assert after.checkpoint.step == checkpoint


@pytest.mark.parametrize(
    ("words", "heard", "shown", "expected"),
    [
        (12, 8, None, 12),
        (None, 8, None, 8),
        (None, None, ("s3://b/out/runs/u/attempts/1/checkpoints/step-6", 6), 6),
        (None, None, ("s3://b/out/runs/u/attempts/10/checkpoints/step-6", 6), None),
        (None, None, ("s3://b/out/runs/other/attempts/1/checkpoints/step-6", 6), None),
        (None, 8, ("s3://b/out/runs/u/attempts/1/checkpoints/step-9", 9), 9),
        (None, None, None, None),
    ],
    ids=["last words", "told here", "told elsewhere", "another attempt's", "another job's", "newer elsewhere", "none"],
)
def test_the_newest_checkpoint_of_an_attempt_is_one_that_it_committed_itself(
    words: int | None, heard: int | None, shown: tuple[str, int] | None, expected: int | None
) -> None:
    left = TerminationMessage.from_wire({"checkpoint": {"uri": "s3://b/d", "step": words}} if words else {})
    status = TrainingJobStatus(checkpoint=CheckpointStatus(uri=shown[0], step=shown[1])) if shown else None

    assert newest_checkpoint(left, told(9, heard), status, KEY) == expected


@pytest.mark.parametrize(("step", "eta_seconds"), [(9, 4), (30, None)], ids=["the reported step", "a later step"])
def test_last_words_of_a_later_step_take_back_how_long_the_rest_would_take(step: int, eta_seconds: int | None) -> None:
    before = Told(JOB, ProgressStatus(step=9, total_steps=30, eta_seconds=4, last_updated=NOW), None)

    after = with_last_words(before, TerminationMessage.from_wire({"step": step}), AT_THE_END)

    assert after.progress.eta_seconds == eta_seconds


@pytest.mark.parametrize(
    ("heard", "shown_at", "shown_checkpoint", "expected"),
    [
        (None, AT_THE_END, 30, (30, 30)),
        (told(29, 28), AT_THE_END, 30, (30, 30)),
        (told(29, 28), AT_THE_END, None, (30, 28)),
        (told(31, None), NOW, 30, (31, None)),
    ],
    ids=["only another worker was told", "another was told of a later step", "and of no checkpoint", "this one was"],
)
def test_the_newest_report_counts_whichever_worker_heard_it(
    heard: Told | None, shown_at: str, shown_checkpoint: int | None, expected: tuple[int, int | None]
) -> None:
    checkpoint = told(30, shown_checkpoint).checkpoint
    shown = Told(JOB, ProgressStatus(step=30, last_updated=shown_at), checkpoint)

    newest = newest_of(heard, shown, AT_THE_END)

    assert (newest.progress.step, newest.checkpoint and newest.checkpoint.step) == expected


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


@pytest.mark.parametrize(
    ("metrics", "step", "total"),
    [
        ({"current_step": "3", "total_steps": "9"}, 3, 9),
        ({"step": "3", "max_steps": "9"}, 3, 9),
        ({"global_step": "3"}, 3, None),
        ({"current_step": "0"}, 0, None),
        ({"current_step": "-1"}, None, None),
        ({"current_step": "1e300", "total_steps": "1e300"}, None, None),
        ({"current_step": "3", "step": "4", "global_step": "5"}, 3, None),
        ({}, None, None),
    ],
    ids=[
        "Kubeflow's names",
        "other names",
        "Transformers' name",
        "the first",
        "no step",
        "no integer of the API server's",
        "several",
        "none",
    ],
)
def test_steps_are_found_under_the_names_that_trainers_use(
    metrics: dict[str, str], step: int | None, total: int | None
) -> None:
    told = [{"name": name, "value": value} for name, value in metrics.items()]

    progress = read({"trainerStatus": {"metrics": told}})

    assert (progress.step, progress.total_steps, progress.metrics) == (step, total, {})


@pytest.mark.parametrize(
    ("step", "total", "told", "percent"),
    [
        (3, 12, None, 25),
        (2, 3, None, 66),
        (12, 12, None, 100),
        (13, 12, None, 100),
        (0, 12, None, 0),
        (3, 0, None, None),
        (3, None, None, None),
        (3, 12, 70, 70),
        (3, 12, 0, 0),
    ],
)
def test_the_share_done_is_what_the_pod_tells_or_follows_from_its_steps(
    step: int, total: int | None, told: int | None, percent: int | None
) -> None:
    ours = {"step": step} if total is None else {"step": step, "totalSteps": total}
    kubeflow = {} if told is None else {"progressPercentage": told}

    assert read({"perdure": ours, "trainerStatus": kubeflow}).percent == percent


def test_a_total_without_a_step_is_no_share() -> None:
    assert read({"trainerStatus": {"metrics": [{"name": "total_steps", "value": "9"}]}}).percent is None


def test_our_metrics_stand_beside_kubeflows_in_order_and_have_the_last_word() -> None:
    theirs = [{"name": "loss", "value": "2"}, {"name": "accuracy", "value": "1"}]

    progress = read({"trainerStatus": {"metrics": theirs}, "perdure": {"step": 1, "metrics": {"loss": 3, "b": 4}}})

    assert list(progress.metrics.items()) == [("accuracy", 1), ("b", 4), ("loss", 3)]
    assert progress.last_updated == NOW


def test_no_more_metrics_are_kept_than_a_status_takes() -> None:
    metrics = {"a" * 128: 0, "a" * 129: 0, **{f"m{number:03}": number for number in range(200)}}

    progress = read({"perdure": {"step": 1, "metrics": metrics}})

    assert list(progress.metrics) == ["a" * 128, *(f"m{number:03}" for number in range(63))]


@pytest.mark.parametrize(
    "report",
    [
        {"perdure": {"step": 1 << 63}},
        {"perdure": {"step": -1}},
        {"perdure": {"step": 1, "totalSteps": 1 << 63}},
        {"perdure": {"step": 1, "checkpoint": {"uri": "s3://b/c", "step": 1 << 63}}},
        {"trainerStatus": {"estimatedRemainingSeconds": 1 << 63}},
    ],
)
def test_a_number_that_the_api_server_could_not_hold_is_no_report(report: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(report)


@pytest.mark.parametrize(("told", "kept"), [({"time": "2025-12-31T00:00:00Z"}, "2025-12-31T00:00:00Z"), ({}, NOW)])
def test_a_checkpoint_is_of_the_time_that_is_told_or_of_now(told: dict[str, str], kept: str) -> None:
    document = {"perdure": {"step": 9, "checkpoint": {"uri": "s3://b/c", "step": 8, **told}}}

    checkpoint = read_report(ProgressReport.from_wire(document), NOW)[1]

    assert checkpoint == CheckpointStatus(uri="s3://b/c", step=8, time=kept)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_no_finite_number_is_left_out(value: str) -> None:
    progress = read(
        {
            "trainerStatus": {"metrics": [{"name": "loss", "value": value}, {"name": "step", "value": value}]},
            "perdure": {"step": 1, "metrics": {"grad_norm": float(value)}},
        }
    )

    assert progress.metrics == {}


def test_an_endless_speed_is_left_out() -> None:
    assert read({"perdure": {"step": 1, "tokensPerSecond": float("inf")}}).tokens_per_second is None


def test_a_step_that_goes_back_is_late_and_dropped() -> None:
    board = ProgressBoard()

    assert board.put(KEY, told(10))
    assert board.put(KEY, told(10, 10))
    assert board.put(KEY, told(9)) is False
    assert board.put(KEY, told(None)) is False

    newest = board.get(KEY)
    assert newest
    assert newest.progress.step == 10


def test_a_trainer_that_does_not_tell_its_step_is_heard_as_long_as_it_tells_none() -> None:
    board = ProgressBoard()

    assert board.put(KEY, told(None))
    assert board.put(KEY, told(None, 1))
    assert board.put(KEY, told(0))
    assert board.put(KEY, told(None))
    assert board.put(KEY, told(1))
    assert not board.put(KEY, told(0))


def test_what_was_told_of_an_attempt_that_is_over_is_forgotten() -> None:
    board = ProgressBoard()
    board.put(KEY, told(10))
    board.forget(KEY)
    board.forget(KEY)

    assert board.get(KEY) is None


def test_a_report_without_a_checkpoint_does_not_unsay_one() -> None:
    board = ProgressBoard()
    board.put(KEY, told(10, checkpoint=8))
    board.put(KEY, told(11))

    newest = board.get(KEY)
    assert newest
    assert newest.checkpoint
    assert newest.checkpoint.step == 8

    board.put(KEY, told(12, checkpoint=12))
    newest = board.get(KEY)
    assert newest
    assert newest.checkpoint
    assert newest.checkpoint.step == 12


@pytest.mark.parametrize(
    ("news", "known", "newer"),
    [
        (("1", 410), ("1", 446), ("1", 446)),
        (("1", 446), ("1", 410), ("1", 446)),
        (("2", 410), ("1", 446), ("2", 410)),
        (None, ("1", 446), ("1", 446)),
        (("1", 446), None, ("1", 446)),
        (None, None, None),
    ],
    ids=["late", "newer", "a later attempt's", "nothing new", "the first", "none at all"],
)
def test_news_of_a_checkpoint_do_not_turn_back_one_of_the_same_attempt(
    news: tuple[str, int] | None, known: tuple[str, int] | None, newer: tuple[str, int] | None
) -> None:
    def saved(attempt_and_step: tuple[str, int] | None) -> CheckpointStatus | None:
        if attempt_and_step is None:
            return None
        attempt, step = attempt_and_step
        uri = f"s3://b/runs/u/attempts/{attempt}/checkpoints/step-{step}"
        return CheckpointStatus(uri=uri, step=step, time=NOW)

    assert newer_checkpoint(saved(news), saved(known)) == saved(newer)


def test_attempts_do_not_share_their_steps() -> None:
    board = ProgressBoard()
    board.put(KEY, told(10))

    assert board.put(AttemptKey("ns", "u", 2), told(4))


EARLIER, LATER = "2026-01-01T00:00:05Z", "2026-01-01T00:00:06Z"


@pytest.mark.parametrize(
    ("told_at", "step", "shown_at", "shown_step", "stale"),
    [
        (EARLIER, 3, LATER, 4, True),
        (LATER, 4, EARLIER, 3, False),
        (LATER, 3, LATER, 4, True),
        (LATER, 4, LATER, 4, False),
        (LATER, 0, EARLIER, 90, False),
        (LATER, None, LATER, None, False),
        (LATER, None, LATER, 1, True),
        (LATER, None, LATER, 0, False),
        (LATER, 0, LATER, None, False),
        (None, 3, LATER, 4, False),
        (EARLIER, 3, None, 4, False),
    ],
    ids=[
        "older",
        "newer",
        "same second, lower step",
        "the same",
        "a new attempt begins lower",
        "same second, no steps",
        "same second, no step where one is shown",
        "same second, no step where the first is shown",
        "same second, the first step where none is shown",
        "told without a time",
        "shown without a time",
    ],
)
def test_a_report_that_took_the_longer_way_does_not_turn_back_what_is_shown(
    told_at: str | None, step: int | None, shown_at: str | None, shown_step: int | None, *, stale: bool
) -> None:
    shown = ProgressStatus(step=shown_step, last_updated=shown_at)

    assert is_stale(ProgressStatus(step=step, last_updated=told_at), shown, LATER) is stale


def test_where_nothing_is_shown_everything_is_news() -> None:
    assert not is_stale(ProgressStatus(step=1, last_updated=NOW), None, NOW)


@pytest.mark.parametrize(
    ("update", "is_news", "last_updated"),
    [
        ({}, False, NOW),
        ({"tokens_per_second": 3.0}, True, NOW),
        ({"step": 8}, True, AT_THE_END),
        ({"metrics": {"loss": 2.0}}, True, AT_THE_END),
        ({"percent": 50}, True, AT_THE_END),
    ],
    ids=["the same again", "another speed", "a step", "another loss", "a share"],
)
def test_a_report_without_progress_is_as_old_as_the_last_one_with_some(
    update: dict[str, Any],
    is_news: bool,  # noqa: FBT001
    last_updated: str,
) -> None:
    board = ProgressBoard()
    board.put(KEY, told(7))
    again = told(7).progress.model_copy(update={"last_updated": AT_THE_END, **update})

    assert board.put(KEY, Told(JOB, again, None)) is is_news
    kept = board.get(KEY)
    assert kept
    assert kept.progress.last_updated == last_updated


@pytest.mark.parametrize(
    ("step", "stale"), [(3, True), (4, True), (5, False)], ids=["an earlier step", "the same step", "a later step"]
)
def test_a_time_that_is_still_to_come_holds_no_later_step_back(step: int, *, stale: bool) -> None:
    """Another worker's clock is ahead: what this one hears afterwards seems older, and is newer."""
    shown = ProgressStatus(step=4, last_updated="2026-01-01T01:00:00Z")

    assert is_stale(ProgressStatus(step=step, last_updated=LATER), shown, LATER) is stale
