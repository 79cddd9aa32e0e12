"""TrainingJobs as the API server sends them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CREATED = "2026-11-22T11:50:00Z"

BUILT_IN_SPEC = {
    "model": {"uri": "s3://models/smol"},
    "dataset": {"uri": "s3://data/train.jsonl"},
    "output": {"uri": "s3://work/runs"},
    "lora": {"rank": 8},
    "training": {"maxSteps": 300},
    "resources": {"gpusPerNode": 1, "cpu": "4", "memory": "16Gi"},
    "retry": {"maxAttempts": 4},
}
DELETES_CHECKPOINTS = {**BUILT_IN_SPEC, "deletionPolicy": "DeleteCheckpoints"}
OWN_SPEC = {"trainer": {"image": "ghcr.io/me/train:1", "command": ["python", "train.py"], "args": ["--note", "a b"]}}

OUT_OF_MEMORY = {
    "number": 1,
    "job": "smol-1",
    "startTime": "2026-11-22T11:51:00Z",
    "endTime": "2026-11-22T11:54:00Z",
    "reason": "OutOfMemory",
    "message": "the container used more than its 16Gi",
    "exitCode": 137,
    "node": "n1",
    "toStep": 120,
}
WHY_IT_ENDED = "OutOfMemory (exit code 137): the container used more than its 16Gi"
SAVED_EARLIER = {**OUT_OF_MEMORY, "checkpointStep": 100}
AT_THE_END = {"toStep": 300}
SECOND = {"number": 2, "job": "smol-2", "startTime": "2026-11-22T11:54:10Z", "fromStep": 100}


def condition(type_: str, status: str, reason: str, message: str = "", at: str = CREATED) -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": at}


DELETION_WAITS = condition(
    "Reconciling",
    "True",
    "StoreUnavailable",
    "the deletion waits until its checkpoints are deleted, too: s3://work is away",
)
UNFINISHED = condition("Succeeded", "Unknown", "Pending")
DATASET_READY = condition("DatasetReady", "True", "DatasetChecked", "1,204 samples", "2026-11-22T11:50:30Z")

RUNNING = {
    "phase": "Running",
    "reason": "PodRunning",
    "message": "",
    "startTime": "2026-11-22T11:50:02Z",
    "conditions": [
        DATASET_READY,
        condition("Running", "True", "PodRunning"),
        condition("Succeeded", "Unknown", "Pending"),
    ],
    "progress": {
        "step": 150,
        "totalSteps": 300,
        "percent": 50,
        "etaSeconds": 125,
        "tokensPerSecond": 1234.5,
        "metrics": {"loss": 2.3141},
    },
    "attempts": [OUT_OF_MEMORY, SECOND],
    "attemptCounters": {"started": 2, "failed": 1, "disrupted": 0},
    "checkpoint": {"uri": "s3://runs/runs/u/attempts/2/checkpoints/100", "step": 100},
}
SUCCEEDED = {
    **RUNNING,
    "phase": "Succeeded",
    "reason": "Completed",
    "message": "adapter s3://runs/adapter; held-out loss 3.2 → 2.75",
    "completionTime": "2026-11-22T11:58:02Z",
    "conditions": [DATASET_READY, condition("Succeeded", "True", "Completed")],
    "attempts": [
        OUT_OF_MEMORY,
        {
            **SECOND,
            "endTime": "2026-11-22T11:58:00Z",
            "reason": "Completed",
            "exitCode": 0,
            "node": "n2",
            "toStep": 300,
        },
    ],
    "result": {
        "adapterUri": "s3://runs/adapter",
        "metrics": {"eval_loss": 2.75},
        "baseMetrics": {"eval_loss": 3.2},
    },
}
FAILED = {
    "phase": "Failed",
    "reason": "DatasetBroken",
    "message": 's3://data/train.jsonl, line 17: field "text" is missing',
    "startTime": "2026-11-22T11:50:02Z",
    "completionTime": "2026-11-22T11:50:30Z",
    "conditions": [
        condition("DatasetReady", "False", "DatasetBroken", "line 17 is broken", "2026-11-22T11:50:30Z"),
        condition("Succeeded", "False", "DatasetBroken"),
    ],
}
COLLECTING = {
    **RUNNING,
    "reason": "StoreUnavailable",
    "message": "training is done; its result is waited for: s3://work is away",
    "conditions": [condition("Running", "False", "Finished"), UNFINISHED],
    "attempts": [{**SECOND, "number": 1}],
    "attemptCounters": {"started": 1},
}
WAITING = {
    "phase": "Pending",
    "reason": "TemporalUnavailable",
    "message": "Temporal at temporal:7233 cannot be reached",
    "conditions": [condition("Reconciling", "True", "TemporalUnavailable")],
}
QUEUED = {
    "phase": "Queued",
    "reason": "Queued",
    "message": "waiting for its turn: number 3 in line; at most 4 run at a time (limits.maxConcurrentJobs)",
    "conditions": [condition("Reconciling", "True", "Queued")],
    "queue": {"position": 3, "time": CREATED},
}
RETRYING = {
    **RUNNING,
    "phase": "Retrying",
    "reason": "Retrying",
    "message": "attempt 1: the container used more than its 16Gi; the next one starts in 10 s",
    "attempts": [OUT_OF_MEMORY],
    "attemptCounters": {"started": 1, "failed": 1, "disrupted": 0},
}


def document(
    status: dict[str, Any] | None = None, *, name: str = "smol", spec: dict[str, Any] | None = None, **metadata: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "perdure.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": "ml", "uid": "u", "creationTimestamp": CREATED, **metadata},
        "spec": spec or BUILT_IN_SPEC,
        "status": status or {},
    }
