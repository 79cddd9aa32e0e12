"""What a training pod is given and what it leaves behind: environment, termination message, result document."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, ValidationError

from perdure_api.model import Count, TolerantModel

TERMINATION_MESSAGE_PATH: Final = "/dev/termination-log"
TERMINATION_MESSAGE_LIMIT_BYTES: Final = 4096
"""The kubelet cuts longer messages."""

PROGRESS_TOKEN_AUDIENCE: Final = "perdure.dev/progress"  # noqa: S105 - a name, not a secret
"""Tokens of this audience open the progress receiver and nothing else."""
PROGRESS_MOUNT: Final = "/var/run/perdure"
PROGRESS_TOKEN_FILE: Final = f"{PROGRESS_MOUNT}/token"
PROGRESS_CA_FILE: Final = f"{PROGRESS_MOUNT}/ca.crt"
PROGRESS_PATH: Final = "/v1/progress"

PROGRESS_FILE: Final = "progress.json"
"""The newest report, in the same form in which it is told to the receiver; replaced as a whole."""

GRACE_SECONDS: Final = 20
"""From SIGTERM to SIGKILL: time enough to save an adapter's state, short enough that a deleted job is gone in 30 s."""

SCRATCH_MOUNT: Final = "/scratch"
"""An emptyDir that every training container may write: the root file system is read-only for ours."""

CONTAINER_NAME: Final = "trainer"

MASTER_PORT: Final = 29500
"""Where rank 0 of several nodes listens: torchrun's own default."""


class Env(StrEnum):
    """Environment variables of the training container. Part of the public contract: any trainer may read them."""

    SPEC = "PERDURE_SPEC"
    """The TrainingJob's spec as one JSON document, defaults filled in."""
    JOB_NAME = "PERDURE_JOB_NAME"
    """Name of the TrainingJob."""
    JOB_NAMESPACE = "PERDURE_JOB_NAMESPACE"
    """Its namespace."""
    JOB_UID = "PERDURE_JOB_UID"
    """Its uid: a new object of the same name has another."""
    ATTEMPT = "PERDURE_ATTEMPT"
    """Number of this attempt, from 1."""
    RUN_URI = "PERDURE_RUN_URI"
    """Folder of the whole run; attempt n writes below `attempts/<n>/` only. Unset when there is no output."""
    PROGRESS_URL = "PERDURE_PROGRESS_URL"
    """Where to POST progress; unset where no receiver is."""
    PROGRESS_TOKEN_FILE = "PERDURE_PROGRESS_TOKEN_FILE"  # noqa: S105
    """File with the token to send (`Authorization: Bearer …`); it is renewed: read it again for each report."""
    PROGRESS_CA_FILE = "PERDURE_PROGRESS_CA_FILE"
    """File with the authority (PEM) to check the receiver by."""
    SCRATCH = "PERDURE_SCRATCH"
    """A folder for temporary files and caches."""

    NNODES = "PET_NNODES"
    """With several nodes: how many. These are torchrun's variables: `torchrun train.py` needs no arguments."""
    NODE_RANK = "PET_NODE_RANK"
    """With several nodes: which of them this is, from 0. The same as JOB_COMPLETION_INDEX, which Kubernetes sets."""
    NPROC_PER_NODE = "PET_NPROC_PER_NODE"
    """With several nodes: processes to start on each, one for each GPU."""
    MASTER_ADDR = "PET_MASTER_ADDR"
    """With several nodes: host name of rank 0's pod."""
    MASTER_PORT = "PET_MASTER_PORT"
    """With several nodes: where rank 0 listens."""
    COMPLETION_INDEX = "JOB_COMPLETION_INDEX"
    """Set by Kubernetes in the pods of an Indexed Job."""

    KUBEFLOW_URL = "KUBEFLOW_TRAINER_SERVER_URL"
    """Kubeflow's names (KEP-2779) for the same: the callback in Hugging Face's Trainer reports to us unchanged."""
    KUBEFLOW_TOKEN = "KUBEFLOW_TRAINER_SERVER_TOKEN"  # noqa: S105
    """Same as PERDURE_PROGRESS_TOKEN_FILE."""
    KUBEFLOW_CA_CERT = "KUBEFLOW_TRAINER_SERVER_CA_CERT"
    """Same as PERDURE_PROGRESS_CA_FILE."""


Metrics = Annotated[dict[str, float], Field(max_length=256)]


class CheckpointRef(TolerantModel):
    """A committed checkpoint."""

    uri: str = Field(max_length=2048)
    step: Count
    time: str | None = Field(default=None, max_length=64)
    """When it was committed, RFC 3339."""


class TerminationMessage(TolerantModel):
    """The last words of a container, at TERMINATION_MESSAGE_PATH, at most TERMINATION_MESSAGE_LIMIT_BYTES of JSON."""

    message: str = ""
    """One sentence for people."""
    step: Count | None = None
    from_step: Count | None = None
    """The step that this attempt resumed from; 0 when it began afresh."""
    checkpoint: CheckpointRef | None = None
    """The newest checkpoint that this attempt committed."""
    result_uri: str | None = None
    """The result document, when the attempt finished."""
    stacks: str | None = None
    """Where every thread was when the end was asked for, as Python's faulthandler writes it; shown of what hung."""

    def encode(self) -> str:
        """JSON that fits the kubelet's limit: stacks lose their beginning, then a message its middle."""
        text = self.model_dump_json(by_alias=True, exclude_none=True)
        excess = len(text.encode()) - TERMINATION_MESSAGE_LIMIT_BYTES
        if excess <= 0:
            return text
        if self.stacks:
            fewer = self.stacks[-(len(self.stacks) * 3 // 4) :] if len(self.stacks) > 1 else None
            return self.model_copy(update={"stacks": fewer}).encode()
        # Escapes can make one character six bytes: halve until it fits instead of computing.
        half = max(0, len(self.message) // 2 - excess // 2 - 8)
        shorter = f"{self.message[:half]} … {self.message[len(self.message) - half :]}" if half else ""
        return self.model_copy(update={"message": shorter}).encode() if self.message else text

    @classmethod
    def decode(cls, text: str) -> TerminationMessage:
        """The message a container left, whatever it is: plain text becomes the sentence, garbage is named so.

        Stacks alone are of one that was killed before it could say more.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return cls(stacks=text) if _STACKS.search(text) else cls(message=_sentence_of(text))


class ResultDocument(TolerantModel):
    """`result.json` of a finished attempt: what was made, and how good it is."""

    job_uid: str
    attempt: int
    step: int
    adapter_uri: str | None = Field(default=None, max_length=2048)
    metrics: Metrics = {}
    """After training. The built-in trainer gives `eval_loss`, `train_loss`, `tokens`, …, and of a language model
    `perplexity`, `token_accuracy` and, where data are questions with answers, `exact_match`; of one of speech `wer`,
    `cer`, `recordings_wer` and `recordings_cer`."""
    base_metrics: Metrics = {}
    """The same measures of the base model, before training."""
    eval_samples: int | None = None
    """How many held-out samples both were measured on."""
    eval_counts: dict[str, int] = {}
    """What was counted in these samples: `tokens`, `answers`, …"""
    fingerprints: dict[str, str] = {}
    """SHA-256 of what went in: `dataset`, `model`, `config`, `tokenizer`."""


_SENTENCE_CHARACTERS: Final = 600
_STACKS: Final = re.compile(r"^(Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):", re.MULTILINE)
_GARBAGE_SHARE: Final = 0.05
_GARBAGE_CHARACTERS: Final = 8
"""More than this share, and number, of characters that cannot be shown is no text."""


def _sentence_of(text: str) -> str:
    unreadable = sum(
        1 for character in text if character == "\ufffd" or not (character.isprintable() or character.isspace())
    )
    if unreadable > max(_GARBAGE_CHARACTERS, _GARBAGE_SHARE * len(text)):
        return f"the container left a termination message of {len(text)} characters that is no text"
    cleaned = "".join(character if character.isprintable() else " " for character in text)
    sentence = " ".join(cleaned.split())
    # Of a log the end says most.
    return sentence if len(sentence) <= _SENTENCE_CHARACTERS else f"… {sentence[-_SENTENCE_CHARACTERS:]}"
