"""Courses of the workflows that ask models, documents and vector stores, with answers by heart: recorded, replayed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from perdure_api import names
from perdure_api.documents import DocumentRefusal, Hit, SearchInput
from perdure_api.evals import Case, Check, EvalInput, Gate, Interval, Verdict
from perdure_api.inference import (
    BatchEmbedInput,
    Embedded,
    EmbedTexts,
    Generate,
    Generated,
    GeneratedText,
    PrepareAndInferInput,
    TextFormat,
    TextPart,
    TextSource,
)
from perdure_api.model import TolerantModel
from perdure_workers.messages import (
    ActivityName,
    BatchStored,
    ChunkBatch,
    DescribeVectors,
    DocumentsChunked,
    EndIngestion,
    IngestionEnded,
    IngestionPlanned,
    IngestionRun,
    Judge,
    PageScored,
    PlanIngestion,
    ReadSuite,
    ScoreAnswers,
    SearchVectors,
    StoreBatch,
    SuitePage,
    SurveyTexts,
    TextsSurveyed,
    VectorsDescribed,
    VectorsFound,
)
from perdure_workers.process import WORKFLOWS, sandbox

MODEL = "s3://b/model"
SUITE_HASH = "sha256:suite"
LONG_EVENTS = 30
"""A history is long for the recorder's server when it has so many: a thousandth of what a real one lets grow."""

UNCHANGED = DocumentsChunked(unchanged=2)
REFUSED = DocumentsChunked(
    refusals=[
        DocumentRefusal(document="s3://b/docs/locked.pdf", problem="Encrypted", message="locked.pdf is encrypted")
    ]
)
EMPTY_NOW = DocumentsChunked(changed=1, refusals=REFUSED.refusals)
"""Its chunks go, and nothing has to be embedded for that."""


def _part(number: int, rows: int) -> TextPart:
    uri = f"s3://b/texts/{number}.txt"
    return TextPart(
        uri=uri, size_bytes=2 * rows, start=0, end=2 * rows, rows=rows, format=TextFormat.TEXT, field="text"
    )


CHANGED = DocumentsChunked(unchanged=1, written=1, changed=1, chunks=2, part=_part(0, 2))


@dataclass
class ByHeart:
    """Whoever models, stores and documents are asked of."""

    parts: list[TextPart] = field(default_factory=lambda: [_part(0, 8), _part(1, 8), _part(2, 3)])
    """Of the texts in the store."""
    batches: list[DocumentsChunked] = field(default_factory=list)
    """Of the documents in the store."""
    cases: list[str] = field(default_factory=lambda: ["a", "b", "c"])
    """Of a suite: two on a page."""
    store_seconds: float = 0.3
    """Long enough for other batches to be ready meanwhile, so that they are seen to wait for each other."""

    @activity.defn(name=ActivityName.SURVEY_TEXTS)
    async def survey_texts(self, _: SurveyTexts) -> TextsSurveyed:
        return TextsSurveyed(parts=self.parts)

    @activity.defn(name=ActivityName.EMBED_TEXTS)
    async def embed_texts(self, request: EmbedTexts) -> Embedded:
        count = request.part.rows if request.part else len(request.texts)
        return Embedded(
            count=count,
            dimension=2,
            tokens=count,
            seconds=0.5,
            model_fingerprint="sha256:model",
            vectors="" if request.output else base64.b64encode(bytes(8 * count)).decode(),
            files=[f"{request.output}/part-{request.first_row:012}.parquet"] if request.output else [],
        )

    @activity.defn(name=ActivityName.GENERATE)
    async def generate(self, request: Generate) -> Generated:
        answer = GeneratedText(text="Paris.", prompt_tokens=7, completion_tokens=2)
        return Generated(texts=[answer] * len(request.prompts), seconds=0.5, model_fingerprint="sha256:model")

    @activity.defn(name=ActivityName.PLAN_INGESTION)
    async def plan_ingestion(self, _: PlanIngestion) -> IngestionPlanned:
        documents = sum(each.unchanged + each.written + len(each.refusals) for each in self.batches)
        return IngestionPlanned(batches=len(self.batches), documents=documents)

    @activity.defn(name=ActivityName.CHUNK_DOCUMENTS)
    async def chunk_documents(self, request: ChunkBatch) -> DocumentsChunked:
        return self.batches[request.batch]

    @activity.defn(name=ActivityName.STORE_CHUNKS)
    async def store_chunks(self, _: StoreBatch) -> BatchStored:
        await asyncio.sleep(self.store_seconds)
        return BatchStored()

    @activity.defn(name=ActivityName.END_INGESTION)
    async def end_ingestion(self, request: EndIngestion) -> IngestionEnded:
        return IngestionEnded(removed=1 if request.complete else 0)

    @activity.defn(name=ActivityName.DESCRIBE_VECTORS)
    async def describe_vectors(self, _: DescribeVectors) -> VectorsDescribed:
        return VectorsDescribed(model=MODEL, fingerprint="sha256:model", dimension=2)

    @activity.defn(name=ActivityName.SEARCH_VECTORS)
    async def search_vectors(self, _: SearchVectors) -> VectorsFound:
        return VectorsFound(hits=[Hit(document="s3://b/docs/a.md", start=0, end=5, score=0.5, text="Bread")])

    @activity.defn(name=ActivityName.READ_SUITE)
    async def read_suite(self, request: ReadSuite) -> SuitePage:
        cases = [
            (id_, Case(prompt=f"What is the capital of France, {id_}?", checks=[Check(contains="Paris")]))
            for id_ in self.cases[request.first : request.first + 2]
        ]
        return SuitePage(suite_hash=SUITE_HASH, total=len(self.cases), cases=cases, max_new_tokens=8)

    @activity.defn(name=ActivityName.SCORE_ANSWERS)
    async def score_answers(self, request: ScoreAnswers) -> PageScored:
        ids = [id_ for id_, _ in request.cases]
        return PageScored(ids=ids, scores=[1.0] * len(ids), failed=[], kept_at=request.keep_at)

    @activity.defn(name=ActivityName.JUDGE)
    async def judge(self, request: Judge) -> Verdict:
        return Verdict(
            passed=True,
            reasons=[],
            n=len(self.cases),
            score=1.0,
            interval=Interval(low=0.9, high=1.0, confidence=0.95),
            suite_hash=request.suite_hash,
            model=request.wish.model,
            model_fingerprint=request.model_fingerprint,
            seconds=request.seconds,
        )

    @asynccontextmanager
    async def working(self, client: Client) -> AsyncIterator[None]:
        """Whatever is asked is answered, until the end of the block."""
        queues: dict[str, list[Callable[..., Awaitable[TolerantModel]]]] = {
            names.TASK_QUEUE_GPU: [self.embed_texts, self.generate],
            names.TASK_QUEUE_DATA: [
                self.plan_ingestion,
                self.chunk_documents,
                self.store_chunks,
                self.end_ingestion,
                self.describe_vectors,
                self.search_vectors,
                self.read_suite,
                self.score_answers,
                self.judge,
            ],
        }
        gpu, data = (Worker(client, task_queue=queue, activities=asked) for queue, asked in queues.items())
        cpu = Worker(
            client,
            task_queue=names.TASK_QUEUE_CPU,
            workflows=WORKFLOWS,
            activities=[self.survey_texts],
            workflow_runner=sandbox(),
        )
        async with cpu, gpu, data:
            yield


@dataclass(frozen=True)
class Course:
    """One course of things."""

    workflow: str
    wish: TolerantModel
    asked: ByHeart = field(default_factory=ByHeart)
    fails: bool = False
    grows_long: bool = False
    """It begins anew before its end, for its history is long."""
    last_run: bool = False
    """The run that ends it is recorded, not the first."""


def courses() -> dict[str, Course]:
    """Every workflow, in the ways that take it through its parts."""
    embed = BatchEmbedInput(model=MODEL, source=TextSource(uri="s3://b/texts"), output="s3://b/out", rows_per_file=1)
    infer = PrepareAndInferInput(
        model=MODEL, prompt="\ufeff What is the capital\r\nof France? ", adapter="s3://b/adapter"
    )
    ingest = IngestionRun(source="s3://b/docs", store="s3://b/vectors", model=MODEL)
    wish = EvalInput(
        model=MODEL,
        adapter="s3://b/adapter",
        suite_uri="s3://b/suite.yaml",
        results="s3://b/results",
        name="adapter",
        baseline="base",
        gate=Gate(min_score=0.5, max_loss=0.1, must_pass=True),
    )
    changes = ByHeart(batches=[CHANGED, EMPTY_NOW, CHANGED, CHANGED, UNCHANGED, CHANGED])
    many = ByHeart(batches=[CHANGED, CHANGED, UNCHANGED, REFUSED, *[UNCHANGED] * 4, CHANGED, UNCHANGED])
    type_ = names.DOCUMENT_INGEST_WORKFLOW_TYPE
    return {
        "batch-embed": Course(names.BATCH_EMBED_WORKFLOW_TYPE, embed),
        "prepare-and-infer": Course(names.PREPARE_AND_INFER_WORKFLOW_TYPE, infer),
        "document-ingest": Course(type_, ingest, changes),
        "document-ingest-all-refused": Course(type_, ingest, ByHeart(batches=[REFUSED]), fails=True),
        "document-ingest-cut": Course(type_, ingest, many, grows_long=True),
        "document-ingest-carried-on": Course(type_, ingest, many, grows_long=True, last_run=True),
        "search": Course(names.SEARCH_WORKFLOW_TYPE, SearchInput(text="bread", store="s3://b/vectors")),
        "eval": Course(names.EVAL_WORKFLOW_TYPE, wish),
    }
