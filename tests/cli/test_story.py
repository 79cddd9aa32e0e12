from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from perdure_api.conditions import Reason
from perdure_cli import story
from perdure_cli.job import read_job
from tests.cli import documents

EVENTS = [
    {
        "metadata": {},
        "lastTimestamp": "2026-11-22T11:58:02Z",
        "type": "Normal",
        "reason": "Completed",
        "message": "adapter s3://runs/adapter",
    },
    {
        "metadata": {},
        "eventTime": "2026-11-22T11:54:00Z",
        "type": "Warning",
        "reason": "OutOfMemory",
        "message": "the container used more than its 16Gi",
    },
]


def told(document: dict[str, Any], events: list[dict[str, Any]] | None = None) -> str:
    sections = story.tell(read_job(document), [story.read_event(each) for each in events or []], documents.NOW, UTC)
    return "\n".join(line for section in sections for line in (section.title, *(f"  {each}" for each in section.lines)))


def test_the_story_of_a_job_that_succeeded_after_all() -> None:
    assert (
        told(documents.document(documents.SUCCEEDED), EVENTS)
        == """\
ml/smol: Succeeded, 1 min 58 s ago
What was asked
  Train a LoRA adapter of rank 8 for 300 steps.
  Base model: s3://models/smol
  Dataset: s3://data/train.jsonl
  Work is kept in: s3://work/runs
  With 1 GPU, 4 CPU, 16Gi memory.
  Give up after 4 failed attempts.
What happened
  11:50:00  created
  11:50:02  taken up
  11:50:30  dataset checked: 1,204 samples
  11:51:00  attempt 1 began (Job smol-1)
  11:54:00  attempt 1 ended at step 120 on node n1: OutOfMemory (exit code 137): the container used more than its 16Gi
  11:54:10  attempt 2 began, resuming from step 100 (Job smol-2)
  11:58:00  attempt 2 ended at step 300 on node n2: Completed (exit code 0)
  11:58:02  succeeded
Now
  Succeeded after 8 min in 2 attempts. Adapter: s3://runs/adapter. Held-out loss 3.2 → 2.75 (14 % lower).
What you can do
  perdure logs -n ml smol
  Load the adapter: PeftModel.from_pretrained(model, …), from s3://runs/adapter
  kubectl delete trainingjob -n ml smol   (what is in the object store stays)
Events
    6m  Warning  OutOfMemory  the container used more than its 16Gi
  118s  Normal   Completed    adapter s3://runs/adapter"""
    )


def test_the_story_of_a_job_that_runs() -> None:
    assert (
        told(documents.document(documents.RUNNING, spec=documents.OWN_SPEC))
        == """\
ml/smol: Running, made 10 min ago
What was asked
  Run a trainer of your own: python train.py --note 'a b', in image ghcr.io/me/train:1.
What happened
  11:50:00  created
  11:50:02  taken up
  11:50:30  dataset checked: 1,204 samples
  11:51:00  attempt 1 began (Job smol-1)
  11:54:00  attempt 1 ended at step 120 on node n1: OutOfMemory (exit code 137): the container used more than its 16Gi
  11:54:10  attempt 2 began, resuming from step 100 (Job smol-2)
Now
  Running · 50 % · step 150 of 300 · loss 2.314 · 1,234 tokens/s · 2 min 5 s left · attempt 2.
  Newest checkpoint: step 100, s3://runs/runs/u/attempts/2/checkpoints/100
What you can do
  perdure watch -n ml smol
  perdure logs -n ml smol
  kubectl delete trainingjob -n ml smol"""
    )


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (documents.document(documents.FAILED), "  11:50:30  dataset refused: line 17 is broken"),
        (documents.document(documents.FAILED), "  11:50:30  failed for good: DatasetBroken"),
        (
            documents.document(documents.FAILED),
            "  Mend the dataset as the message says, then create the TrainingJob again.",
        ),
        (documents.document(documents.RETRYING), "  The next attempt starts by itself, from the newest checkpoint."),
        (documents.document(documents.WAITING), "  Nothing, unless Temporal stays away: it starts by itself."),
        (
            documents.document(documents.RUNNING, deletionTimestamp=documents.CREATED),
            "  It is being deleted; its workflow cleans up first.",
        ),
        (
            documents.document(
                {**documents.SUCCEEDED, "conditions": [documents.DELETION_WAITS]}, deletionTimestamp=documents.CREATED
            ),
            "  the deletion waits until its checkpoints are deleted, too: s3://work is away",
        ),
        (
            documents.document(documents.SUCCEEDED, spec=documents.DELETES_CHECKPOINTS),
            "  kubectl delete trainingjob -n ml smol   (its checkpoints go, too; all else in the object store stays)",
        ),
        (
            documents.document(spec=documents.DELETES_CHECKPOINTS),
            "  Delete its checkpoints with this object.",
        ),
        (
            documents.document(documents.RUNNING, spec={**documents.OWN_SPEC, "deletionPolicy": "DeleteCheckpoints"}),
            "  kubectl delete trainingjob -n ml smol",
        ),
        (
            documents.document({**documents.RUNNING, "attempts": [documents.SAVED_EARLIER, documents.SECOND]}),
            f"  11:54:00  attempt 1 ended at step 120 (saved: step 100) on node n1: {documents.WHY_IT_ENDED}",
        ),
        (
            documents.document({**documents.RUNNING, "attemptCounters": {"started": 12}}),
            "  11:51:00  (10 earlier attempts no longer shown)",
        ),
        (
            documents.document(spec={**documents.BUILT_IN_SPEC, "training": {"epochs": 1.5}}),
            "  Train a LoRA adapter of rank 8 for 1.5 epochs.",
        ),
        (
            documents.document(spec={**documents.OWN_SPEC, "ttlSecondsAfterFinished": 3600}),
            "  Delete this object 1 h after it finished.",
        ),
        (
            documents.document(documents.RUNNING, spec={**documents.OWN_SPEC, "suspend": True}),
            "  perdure resume -n ml smol",
        ),
        (
            documents.document(spec={**documents.OWN_SPEC, "resources": {"nodes": 2, "gpusPerNode": 1, "cpu": "4"}}),
            "  On 2 nodes, with 1 GPU, 4 CPU on each.",
        ),
        (documents.document(spec={**documents.OWN_SPEC, "resources": {"nodes": 2}}), "  On 2 nodes."),
        (
            documents.document(documents.COLLECTING),
            "  Running · attempt 1 · training is done; its result is waited for: s3://work is away.",
        ),
    ],
    ids=[
        "dataset refused", "failed", "advice", "retrying", "waiting", "deleting",
        "deletion waits", "deletes checkpoints", "policy", "no checkpoints to delete", "saved earlier",
        "many attempts", "epochs", "ttl",
        "suspended", "nodes with GPUs", "nodes", "collecting",
    ],
)  # fmt: skip
def test_the_story_says(document: dict[str, Any], line: str) -> None:
    assert line in told(document).splitlines()


@pytest.mark.parametrize(
    ("priority", "line"),
    [
        (2, "Where jobs wait for their turn: before those that came up to 2 days earlier."),
        (-1, "Where jobs wait for their turn: as if it had come 1 day later."),
    ],
)
def test_a_priority_is_told_as_what_it_is_worth(priority: int, line: str) -> None:
    document = documents.document(documents.QUEUED, spec={**documents.OWN_SPEC, "priority": priority})

    assert f"  {line}" in told(document).splitlines()
    assert "  Nothing: it starts by itself. A higher spec.priority lets it go sooner" in told(document)


NO_ADVICE = {
    Reason.ACCEPTED, Reason.DATASET_CHECKED, Reason.NOT_CHECKED, Reason.PENDING, Reason.CHECKING, Reason.STARTING,
    Reason.POD_RUNNING, Reason.RETRYING, Reason.FINISHED, Reason.COMPLETED, Reason.FAILED,
    Reason.DISRUPTED, Reason.JOB_DELETED, Reason.FENCED, Reason.CHECKPOINT_BROKEN, Reason.CHECKPOINT_NOT_SAVED,
    Reason.CHECKPOINT_SAVED, Reason.CHECKPOINT_ASKED, Reason.STOPPING, Reason.RESUMED, Reason.SUSPENDED,
    Reason.REGROWN,
}  # fmt: skip
"""What goes on by itself, or says nothing that a person could act on."""


def test_every_reason_that_a_person_can_act_on_comes_with_advice() -> None:
    assert set(story.ADVICE) == set(Reason) - NO_ADVICE
