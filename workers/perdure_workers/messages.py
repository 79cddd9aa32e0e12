"""What the workflow and its activities say to each other.

These documents lie in Temporal's histories: fields may be added with a default, never renamed or removed.
"""

from __future__ import annotations

from enum import StrEnum

from perdure_api.conditions import Reason
from perdure_api.documents import DocumentIngestInput, DocumentRefusal, Hit
from perdure_api.evals import Case, CaseResult, EvalTerms
from perdure_api.events import EventNote
from perdure_api.inference import GeneratedText, TextPart, TextSource
from perdure_api.model import TolerantModel
from perdure_api.pod import ResultDocument
from perdure_api.progress import AttemptCommand
from perdure_api.spec import TrainingJobSpec
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import JobRef
from perdure_workers.attempts.outcome import Outcome


class ActivityName(StrEnum):
    """Activity types, as they stand in histories."""

    CHECK_INPUTS = "check_inputs"
    CREATE_TRAINING_JOB = "create_training_job"
    MONITOR_TRAINING = "monitor_training"
    COLLECT_RESULT = "collect_result"
    PUBLISH_STATUS = "publish_status"
    CLEANUP_RESOURCES = "cleanup_resources"
    COMMAND_ATTEMPT = "command_attempt"
    AWAIT_ROOM = "await_room"
    DELETE_CHECKPOINTS = "delete_checkpoints"
    FIND_ATTEMPTS = "find_attempts"
    SUBMIT_TRAINING_JOB = "submit_training_job"
    FOLLOW_TRAINING_JOB = "follow_training_job"
    CANCEL_TRAINING_JOB = "cancel_training_job"
    SURVEY_TEXTS = "survey_texts"
    EMBED_TEXTS = "embed_texts"
    GENERATE = "generate"
    PLAN_INGESTION = "plan_ingestion"
    CHUNK_DOCUMENTS = "chunk_documents"
    STORE_CHUNKS = "store_chunks"
    END_INGESTION = "end_ingestion"
    DESCRIBE_VECTORS = "describe_vectors"
    SEARCH_VECTORS = "search_vectors"
    READ_SUITE = "read_suite"
    SCORE_ANSWERS = "score_answers"
    JUDGE = "judge"


class Input(StrEnum):
    """What a refusal of CHECK_INPUTS is about; a detail of its error."""

    MODEL = "model"
    DATASET = "dataset"
    OUTPUT = "output"


class CheckInputs(TolerantModel):
    """Look at the data and the model before anything is asked of the cluster."""

    job: JobRef
    spec: TrainingJobSpec


class InputsChecked(TolerantModel):
    """What was found."""

    message: str
    dataset_fingerprint: str | None = None
    reason: Reason = Reason.DATASET_CHECKED
    """NotChecked: nothing of the dataset could be read here."""


class CreateJob(TolerantModel):
    """Create the Job of one attempt."""

    job: JobRef
    spec: TrainingJobSpec
    attempt: int
    kueue_queue: str = ""
    """The queue of Kueue that it waits in; empty: none."""


class Monitor(TolerantModel):
    """Watch one attempt to its end."""

    job: JobRef
    attempt: int
    job_name: str
    started_at: float
    """Unix seconds when its Job was asked for."""
    start_seconds: float
    permanent_exit_codes: list[int] = []
    nodes: int = 1
    """Pods that the attempt consists of."""
    progress_seconds: float | None = None
    """How long it may tell nothing new; None: for ever."""
    stacks_uri: str | None = None
    """Where to keep the stacks of one that hung."""
    fenced: bool = False
    """Whether its pods change nothing any more once a newer attempt has begun."""


class MonitorNote(TolerantModel):
    """Heartbeat details: what the next monitor of the same attempt may want to know."""

    step: int | None = None
    checkpoint_step: int | None = None
    ran: bool = False
    """Its pods have been seen to run."""
    hung: str = ""
    """What was seen of it when it was found to hang, and its Job deleted; "": it was not."""
    published: str | None = None
    """What was last written to the status, so that a successor does not write it again."""


class AttemptEnd(TolerantModel):
    """How an attempt ended, and how far it came."""

    outcome: Outcome
    from_step: int | None = None
    to_step: int | None = None
    checkpoint_step: int | None = None
    """The newest checkpoint that it committed."""
    ended_at: float | None = None
    """Unix seconds, by Temporal's clock, when its monitor was sure of it: however often the workflow tells of it, it
    tells the same. None: the workflow's own time."""


class CommandAttempt(TolerantModel):
    """Tell an attempt's trainer something."""

    job: JobRef
    attempt: int
    command: AttemptCommand


class AwaitRoom(TolerantModel):
    """Wait until there is room for the nodes that an attempt lacks, and hold it."""

    job: JobRef
    spec: TrainingJobSpec
    """Of the attempt: where and on how many nodes it runs."""
    attempt: int
    missing: int
    """Nodes."""


class CollectResult(TolerantModel):
    """Read what a completed attempt made."""

    job: JobRef
    spec: TrainingJobSpec
    attempt: int


class Collected(TolerantModel):
    """The result, or what is wrong with it."""

    document: ResultDocument | None = None
    uri: str | None = None
    problem: str | None = None
    """Set when the built-in trainer should have left one: found, expected, where."""


class PublishStatus(TolerantModel):
    """Write the workflow's part of the status, and Events."""

    job: JobRef
    status: TrainingJobStatus
    notes: list[EventNote] = []
    notes_only: bool = False
    """Leave the status as it is: what a monitor has written of an attempt that runs is newer."""
    acknowledgement_only: bool = False
    """Leave it but for observedGeneration, for the same reason."""


class CleanUp(TolerantModel):
    """Remove Jobs and pods of a TrainingJob."""

    job: JobRef
    attempt: int | None = None
    """Only this attempt's; None: all."""
    until_gone: bool = False
    """Wait for pods on nodes that do not answer too: they may run, and must not beside another attempt's."""


class FindAttempts(TolerantModel):
    """Look what attempts of a TrainingJob the cluster shows."""

    job: JobRef


class FoundAttempt(TolerantModel):
    """An attempt of which there is something in the cluster."""

    number: int
    created_at: float | None = None
    """Unix seconds when its Job was created; None: its Job is gone, and pods are left."""
    nodes: int = 1
    """Pods that it consists of."""
    live: bool = True
    """Whether a pod of it may still run, or begin to."""


class AttemptsFound(TolerantModel):
    """All of them, what holds places for the next one (names.RESERVATION) too."""

    attempts: list[FoundAttempt] = []


class DeleteCheckpoints(TolerantModel):
    """Delete what a run keeps in the store only to go on from."""

    job: JobRef
    output_uri: str


class SubmitTrainingJob(TolerantModel):
    """Make a TrainingJob object."""

    namespace: str
    name: str
    spec: TrainingJobSpec
    made_by: str
    """Id of the workflow that makes it."""


class FollowTrainingJob(TolerantModel):
    """Wait for the end of a TrainingJob."""

    job: JobRef


class CancelTrainingJob(TolerantModel):
    """Have a TrainingJob end that a workflow has made, or may have made."""

    namespace: str
    name: str
    made_by: str


class SurveyTexts(TolerantModel):
    """Look at texts in the store before any GPU is asked."""

    source: TextSource
    rows_per_part: int


class TextsSurveyed(TolerantModel):
    """Where they are, in parts of about the same size, in their order."""

    parts: list[TextPart]


class EmbedNote(TolerantModel):
    """Heartbeat details of `embed_texts`: what lies in the store already, so that a successor goes on behind it."""

    rows: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0
    files: list[str] = []
    dimension: int = 0
    model_fingerprint: str = ""


class GenerateNote(TolerantModel):
    """Heartbeat details of `generate`: the answers so far."""

    texts: list[GeneratedText] = []
    seconds: float = 0.0
    model_fingerprint: str = ""


class PlanIngestion(TolerantModel):
    """Look which documents there are."""

    source: str
    store: str
    staging: str
    """Folder of this run, in which its steps leave things for each other."""
    may_be_empty: bool = False


class IngestionPlanned(TolerantModel):
    """They are, in batches of numbers from 0."""

    batches: int
    documents: int
    passed_over: int = 0
    """Files that have no name of a document."""


class ChunkBatch(TolerantModel):
    """Cut those documents of a batch that are new or changed."""

    store: str
    model: str
    staging: str
    batch: int
    chunk_size: int
    chunk_overlap: int


class DocumentsChunked(TolerantModel):
    """They are; their chunks wait for their vectors."""

    unchanged: int = 0
    written: int = 0
    changed: int = 0
    """Documents whose chunks in the store are to be replaced: those that are written, and those that are empty now."""
    chunks: int = 0
    part: TextPart | None = None
    """Where the chunks are; None: there are none."""
    refusals: list[DocumentRefusal] = []


class StoreBatch(TolerantModel):
    """Put chunks and their vectors into the store, in place of what was there of their documents."""

    store: str
    model: str
    staging: str
    batch: int
    part: TextPart | None = None
    files: list[str] = []
    """With the vectors, in order."""
    dimension: int = 0
    model_fingerprint: str = ""


class BatchStored(TolerantModel):
    """It is."""


class EndIngestion(TolerantModel):
    """Take out what is no more in the source, and drop what the steps have left for each other."""

    source: str
    store: str
    staging: str
    remove_missing: bool
    changed: bool
    """Anything was."""
    complete: bool
    """Every batch is in the store; otherwise there is only to be tidied up."""


class IngestionEnded(TolerantModel):
    """It has."""

    removed: int = 0


class IngestionSoFar(TolerantModel):
    """What a run of the workflow leaves to the next one, when its history has become long."""

    staging: str
    plan: IngestionPlanned
    next_batch: int = 0
    unchanged: int = 0
    written: int = 0
    refused: int = 0
    chunks: int = 0
    tokens: int = 0
    truncated: int = 0
    changed: int = 0
    refusals: list[DocumentRefusal] = []


class IngestionRun(DocumentIngestInput):
    """What a run of `document_ingest` takes: the input, and what the run before it has left."""

    so_far: IngestionSoFar | None = None


class DescribeVectors(TolerantModel):
    """Say with which model a vector store was written."""

    store: str


class VectorsDescribed(TolerantModel):
    """With this one."""

    model: str
    fingerprint: str
    dimension: int


class SearchVectors(TolerantModel):
    """Find the chunks nearest to a vector."""

    store: str
    vector: list[float]
    model_fingerprint: str
    count: int


class VectorsFound(TolerantModel):
    """They are, the nearest first."""

    hits: list[Hit]


class ReadSuite(TolerantModel):
    """Read some cases of a suite in the store."""

    uri: str
    first: int
    """Number of the first case, from 0."""
    suite_hash: str | None = None
    """Of the suite that is evaluated; None: whatever is there."""


class SuitePage(TolerantModel):
    """Some cases of a suite."""

    suite_hash: str
    total: int
    """Of all its cases."""
    cases: list[tuple[str, Case]]
    """By their ids."""
    system: str = ""
    chat: bool | None = None
    max_new_tokens: int


class ScoreAnswers(TolerantModel):
    """Score the answers to some cases."""

    cases: list[tuple[str, Case]]
    answers: list[str]
    keep_at: str | None = None
    """URI for the answers and their scores."""


class PageScored(TolerantModel):
    """They are."""

    ids: list[str]
    scores: list[float]
    failed: list[CaseResult]
    """The first that did not fulfil everything."""
    kept_at: str | None = None


class Judge(TolerantModel):
    """Make a verdict of scores."""

    wish: EvalTerms
    suite_hash: str
    pages: list[PageScored]
    model_fingerprint: str
    answers_cut: int
    seconds: float
