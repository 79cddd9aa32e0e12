"""Every name that two parts of the system must agree on."""

from __future__ import annotations

import hashlib
import re
from typing import Final

GROUP: Final = "perdure.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "TrainingJob"
PLURAL: Final = "trainingjobs"
SINGULAR: Final = "trainingjob"
SHORT_NAME: Final = "tj"

FINALIZER: Final = f"{GROUP}/workflow"
"""Held until the workflow has cleaned up after a deleted TrainingJob."""

ANNOTATION_HELD_FOR: Final = f"{GROUP}/held-for"
"""Put on with the finalizer: the uid of the object that it was put on. A backup brings both back, on another object."""

ANNOTATION_FORCE_DELETE: Final = f"{GROUP}/force-delete"
"""Set to "true": drop the finalizer without waiting for the workflow."""

ANNOTATION_CANCEL: Final = f"{GROUP}/cancel"
"""Set to "true": end the job for good. What it has saved stays."""

ANNOTATION_CHECKPOINT: Final = f"{GROUP}/checkpoint"
"""Each new value asks the running trainer to save now; the value says why, and is told in the Event."""

ANNOTATION_COMMAND: Final = f"{GROUP}/command"
"""On the Job of an attempt: the AttemptCommand that its pods are told in answer to each progress report."""

ANNOTATION_MADE_BY: Final = f"{GROUP}/made-by"
"""On a TrainingJob that a workflow made: the id of that workflow. It takes up no other object of the same name."""

ANNOTATION_JOB_NAME: Final = f"{GROUP}/trainingjob-name"
"""Full name of the TrainingJob (a label value holds 63 characters only)."""

ANNOTATION_PROGRESS_CA: Final = f"{GROUP}/progress-ca"
"""PEM of the authority that signed the progress receiver; the pod reads it as a file (downward API)."""

ANNOTATION_COMPLETION_INDEX: Final = "batch.kubernetes.io/job-completion-index"
"""Kubernetes' own, on the pods of an Indexed Job: which of its nodes a pod is."""

LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "perdure"
LABEL_JOB: Final = f"{GROUP}/trainingjob"
"""Name of the TrainingJob, shortened where it must be: for people and selectors, never for identity."""
LABEL_JOB_UID: Final = f"{GROUP}/trainingjob-uid"
LABEL_ATTEMPT: Final = f"{GROUP}/attempt"

LABEL_BUILD: Final = f"{GROUP}/build"
"""On workers and their Deployments: their version, where versions of them are told apart."""
LABEL_WORKERS: Final = f"{GROUP}/workers"
"""On the Deployment of one version: name of the Deployment that it was made from."""
ANNOTATION_REPLICAS: Final = f"{GROUP}/replicas"
"""On a Deployment that others are made from, and which has none itself: how many replicas they have."""
ANNOTATION_MADE_FROM: Final = f"{GROUP}/made-from"
"""On the Deployment of one version: digest of what it was made from."""

ANNOTATION_SLOTS_USED: Final = f"{GROUP}/slots-used"
"""On a worker's pod: how many slots of which task queue are in use, as JSON."""
ANNOTATION_TEMPORAL_NAMESPACE: Final = f"{GROUP}/temporal-namespace"
"""On a worker's pod: the Temporal namespace that its task queues are in."""
ANNOTATION_POD_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""Kubernetes' own: of the pods of one ReplicaSet those with the least go first."""

LABEL_KUEUE_QUEUE: Final = "kueue.x-k8s.io/queue-name"
"""Kueue's own: the LocalQueue that decides when a Job may run. On a TrainingJob it goes to the Jobs of its attempts."""

FIELD_MANAGER_OPERATOR: Final = "perdure-operator"
FIELD_MANAGER_WORKFLOW: Final = "perdure-workflow"
FIELD_MANAGER_ACKNOWLEDGEMENT: Final = "perdure-acknowledgement"
FIELD_MANAGER_MONITOR: Final = "perdure-monitor"
FIELD_MANAGER_PROGRESS: Final = "perdure-progress"
FIELD_MANAGER_FINE_TUNE: Final = "perdure-fine-tune"

FINAL_STATUS_MESSAGE: Final = "a finished TrainingJob stays as it is"
"""How the API server's refusal to change a terminal status is recognised."""

TASK_QUEUE_CPU: Final = "perdure-cpu"
"""Workflows and light activities."""
TASK_QUEUE_WATCH: Final = "perdure-watch"
"""Monitors of running attempts: they last hours, do almost nothing, and must not fill the CPU queue."""
TASK_QUEUE_GPU: Final = "perdure-gpu"
"""Activities that ask models: each takes a GPU for itself while it runs."""

TASK_QUEUE_DATA: Final = "perdure-data"
"""Activities that need the libraries of data work (LanceDB, parsers, numpy): the CPU image has no room for these."""

WORKER_DEPLOYMENT: Final = "perdure"
"""Temporal's name for all workers of these task queues, whatever their version."""

WORKFLOW_TYPE: Final = "TrainingWorkflow"
PURGE_WORKFLOW_TYPE: Final = "PurgeWorkflow"
"""Deletes the checkpoints of a TrainingJob that is being deleted."""
FINE_TUNE_WORKFLOW_TYPE: Final = "FineTuneWorkflow"
"""Makes a TrainingJob and follows it to its end."""
DEAD_LETTER_WORKFLOW_TYPE: Final = "DeadLetterWorkflow"
"""Holds work that failed for good until it was done after all, or is dropped."""
PREPARE_AND_INFER_WORKFLOW_TYPE: Final = "PrepareAndInferWorkflow"
BATCH_EMBED_WORKFLOW_TYPE: Final = "BatchEmbedWorkflow"

DOCUMENT_INGEST_WORKFLOW_TYPE: Final = "DocumentIngestWorkflow"
SEARCH_WORKFLOW_TYPE: Final = "SearchWorkflow"
EVAL_WORKFLOW_TYPE: Final = "EvalWorkflow"

CHECKPOINTS_FOLDER: Final = "checkpoints"
"""Below the folder of an attempt: its checkpoints, a folder each."""
CHECKPOINT_MANIFEST: Final = "manifest.json"
"""In the folder of a checkpoint: without it there is none."""
TOKENS_FOLDER: Final = "tokens"
"""Below the folder of a run: tokens of its dataset, kept for the next attempt."""
TOKENS_MANIFEST: Final = "manifest"
"""Beside kept tokens: without it there are none."""
FENCE: Final = "deleted.json"
"""Below the folder of an attempt that will never be: to the one before it a newer attempt, so that it ends."""

LABEL_VALUE_LIMIT: Final = 63
JOB_NAME_LIMIT: Final = 52
"""An Indexed Job's pod is named `<job>-<index>-<5 random>`; its host name `<job>-<index>` may have 63."""

_DIGEST_CHARACTERS = 8
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


WORKFLOW_ID_PREFIX: Final = "trainingjob/"
"""Of the ids that belong to TrainingJobs: nobody else's workflow may take one."""


DEAD_LETTER_ID_PREFIX: Final = "dead-letter/"
"""Of the ids that belong to dead letters: nobody else's workflow may take one."""


def guarded_queue(activity: str) -> str:
    """The task queue of a type of activity that has a circuit breaker."""
    return f"{TASK_QUEUE_CPU}.{activity}"


def dead_letter_id(run_id: str) -> str:
    """The id of the workflow that holds a run that failed: there is one for each, however many workers see it."""
    return f"{DEAD_LETTER_ID_PREFIX}{run_id}"


def workflow_id(namespace: str, name: str, uid: str) -> str:
    """The id of the one workflow that a TrainingJob ever has."""
    return f"{WORKFLOW_ID_PREFIX}{namespace}/{name}/{uid}"


def purge_workflow_id(namespace: str, name: str, uid: str) -> str:
    """The id of the workflow that deletes the checkpoints of a TrainingJob."""
    return f"{workflow_id(namespace, name, uid)}/purge"


RESERVATION: Final = 0
"""The number of an attempt that is none: what holds places for the next one bears it."""


def job_name(name: str, attempt: int) -> str:
    """The name of the Job of one attempt, a DNS label of at most JOB_NAME_LIMIT characters.

    `<name>-<attempt>`, or `<head of name>-<digest of name>-<attempt>` where the name is too long or holds dots.
    """
    plain = f"{name}-{attempt}"
    if len(plain) <= JOB_NAME_LIMIT and _DNS_LABEL.fullmatch(plain):
        return plain
    tail = f"-{_digest(name)}-{attempt}"
    return f"{_slug(name, JOB_NAME_LIMIT - len(tail))}{tail}"


def service_name(name: str) -> str:
    """The name of the Service by which a TrainingJob's pods find each other: a DNS label that begins with a letter.

    `tj-<name>`, or with its head and a digest where it is too long or holds dots.
    """
    plain = f"tj-{name}"
    if len(plain) <= LABEL_VALUE_LIMIT and _DNS_LABEL.fullmatch(plain):
        return plain
    tail = f"-{_digest(name)}"
    return f"tj-{_slug(name, LABEL_VALUE_LIMIT - len(tail) - 3)}{tail}"


def network_policy_name(name: str, uid: str) -> str:
    """The name of the NetworkPolicy around a TrainingJob's pods: a DNS label.

    The digest is of the uid: the policy of an earlier object of the same name may be there still.
    """
    tail = f"-{_digest(uid)}"
    return f"tj-{_slug(name, LABEL_VALUE_LIMIT - len(tail) - 3)}{tail}"


def label_value(name: str) -> str:
    """A label value for a TrainingJob's name: the name itself where it fits, else its head and a digest."""
    if len(name) <= LABEL_VALUE_LIMIT:
        return name
    tail = f"-{_digest(name)}"
    return f"{_slug(name, LABEL_VALUE_LIMIT - len(tail))}{tail}"


def run_uri(output_uri: str, uid: str) -> str:
    """Where one TrainingJob keeps everything that it writes; a new object of the same name gets a new place."""
    return f"{output_uri.rstrip('/')}/runs/{uid}"


def attempt_uri(run: str, attempt: int) -> str:
    """Where one attempt writes: nobody else ever does, so a zombie can corrupt nothing but its own."""
    return f"{run.rstrip('/')}/attempts/{attempt}"


def _slug(name: str, length: int) -> str:
    return re.sub(r"[^-a-z0-9]", "-", name)[:length].strip("-")


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARACTERS]
