"""Documents into a vector store, and out of it what is near to a question. Run where LanceDB and the parsers are.

What passes between the steps lies in the object store, in a folder of the run: no history of Temporal holds texts or
vectors. Every step may be done twice: it writes the same objects again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from threading import Event
from typing import Any, Final, TypeVar

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from perdure_api.documents import DocumentProblem, DocumentRefusal, Hit
from perdure_api.inference import TextFormat, TextPart
from perdure_api.uri import StoreUri, UriError, parse_uri
from perdure_api.vectors_uri import is_database
from perdure_data.errors import AccessDenied, BucketNotFound, NotFound, StoreError, TooLarge, Unavailable
from perdure_data.stores import ObjectInfo, Stores
from perdure_documents import chunks
from perdure_documents.chunks import Chunk, Chunking
from perdure_documents.formats import SIZE_LIMIT_BYTES, readable_name
from perdure_documents.reader import DocumentReader
from perdure_documents.refusals import Problem, Refused
from perdure_documents.vectors import Kept, StoreDenied, StoreMismatch, VectorStore, open_vectors
from perdure_documents.vectors.contract import Encoder
from perdure_workers.activities.heartbeats import beating
from perdure_workers.messages import (
    ActivityName,
    BatchStored,
    ChunkBatch,
    DescribeVectors,
    DocumentsChunked,
    EndIngestion,
    IngestionEnded,
    IngestionPlanned,
    PlanIngestion,
    SearchVectors,
    StoreBatch,
    VectorsDescribed,
    VectorsFound,
)

T = TypeVar("T")

BATCH_DOCUMENTS: Final = 64
BATCH_BYTES: Final = 16 << 20
"""Of documents that are chunked in one step, and in memory at one time; a larger one is alone."""
_STAGED_LIMIT_BYTES: Final = 1 << 30
_ANSWER_BYTES: Final = 1_900_000
"""Of what a search finds: Temporal takes 2 MiB."""

log = structlog.get_logger(__name__)


class DocumentActivities:
    """Reads documents in a child process, and talks to vector stores in threads: both block."""

    def __init__(self, stores: Stores, reader: DocumentReader) -> None:
        self._stores = stores
        self._reader = reader

    @activity.defn(name=ActivityName.PLAN_INGESTION)
    async def plan_ingestion(self, request: PlanIngestion) -> IngestionPlanned:
        """Which documents there are, in batches.

        Raises:
            ApplicationError: there are none, or they may not be read; its type is a DocumentProblem.
        """
        return await _working(lambda _: self._plan(request))

    @activity.defn(name=ActivityName.CHUNK_DOCUMENTS)
    async def chunk_documents(self, request: ChunkBatch) -> DocumentsChunked:
        """The chunks of those documents of a batch that are new or changed."""
        return await _working(lambda stop: self._chunk(request, stop))

    @activity.defn(name=ActivityName.STORE_CHUNKS)
    async def store_chunks(self, request: StoreBatch) -> BatchStored:
        """Has the documents of a batch be its chunks and no others.

        Raises:
            ApplicationError: StoreMismatch.
        """
        return await _working(lambda _: self._store(request))

    @activity.defn(name=ActivityName.END_INGESTION)
    async def end_ingestion(self, request: EndIngestion) -> IngestionEnded:
        """Takes out of the store what is no more in the source, and tidies up."""
        return await _working(lambda _: self._end(request))

    @activity.defn(name=ActivityName.DESCRIBE_VECTORS)
    async def describe_vectors(self, request: DescribeVectors) -> VectorsDescribed:
        """With which model a vector store was written.

        Raises:
            ApplicationError: StoreNotFound, AccessDenied or StoreMismatch.
        """
        return await _working(lambda _: self._describe(request))

    @activity.defn(name=ActivityName.SEARCH_VECTORS)
    async def search_vectors(self, request: SearchVectors) -> VectorsFound:
        """The chunks nearest to a vector.

        Raises:
            ApplicationError: StoreMismatch; InvalidRequest where they are more than Temporal takes.
        """
        return await _working(lambda _: self._search(request))

    def _plan(self, request: PlanIngestion) -> IngestionPlanned:
        self._look_at_store(request.store)
        found = self._listed(request.source)
        readable = [info for info in found if readable_name(info.uri.path)]
        others = [info for info in found if not readable_name(info.uri.path)]
        if not readable and not request.may_be_empty:
            raise _problem(
                DocumentProblem.SOURCE_NOT_FOUND,
                f"{request.source}: found {len(others)} files, none of them .txt, .md, .html or .pdf; upload "
                f"documents, correct source, or set mayBeEmpty",
            )
        batches = list(_batches(readable))
        for number, batch in enumerate(batches):
            content = json.dumps([[str(info.uri), info.size_bytes] for info in batch]).encode()
            self._stores.put(_staged(request.staging, "plan", number, "json"), content)
        return IngestionPlanned(batches=len(batches), documents=len(readable), passed_over=len(others))

    def _chunk(self, request: ChunkBatch, stop: Event) -> DocumentsChunked:
        wished = self._staged_json(_staged(request.staging, "plan", request.batch, "json"))
        chunking = Chunking(request.chunk_size, request.chunk_overlap)
        vectors = open_vectors(request.store)
        encoder = vectors.encoder()
        # Of another model everything is made anew, and compared by what that model is.
        same = encoder is not None and encoder.model == request.model
        known = vectors.revisions([uri for uri, _ in wished]) if same else {}
        answer = DocumentsChunked()
        lines: list[bytes] = []
        changed: list[str] = []
        for uri, _ in wished:
            if stop.is_set():
                raise RuntimeError("nobody waits for this batch any more")
            try:
                content = self._content(uri)
                revision = _revision(content, chunking)
                if known.get(uri) == revision:
                    answer = answer.model_copy(update={"unchanged": answer.unchanged + 1})
                    continue
                made = self._reader.chunks(uri, content, chunking)
            except Refused as refused:
                if refused.problem is Problem.EMPTY:
                    changed.append(uri)
                refusal = DocumentRefusal(document=uri, problem=refused.problem, message=f"{uri} {refused.message}")
                answer = answer.model_copy(update={"refusals": [*answer.refusals, refusal]})
                continue
            except NotFound:
                continue  # since the plan: the end takes it out
            changed.append(uri)
            lines += (_line(uri, revision, number, chunk) for number, chunk in enumerate(made))
            answer = answer.model_copy(update={"written": answer.written + 1})
        if not changed:
            return answer
        self._stores.put(_staged(request.staging, "changed", request.batch, "json"), json.dumps(changed).encode())
        return answer.model_copy(
            update={
                "changed": len(changed),
                "chunks": len(lines),
                "part": self._part(request, lines) if lines else None,
            }
        )

    def _part(self, request: ChunkBatch, lines: Sequence[bytes]) -> TextPart:
        content = b"\n".join(lines) + b"\n"
        uri = _staged(request.staging, "chunks", request.batch, "jsonl")
        self._stores.put(uri, content)
        info = self._stores.head(uri)
        return TextPart(
            uri=str(uri),
            size_bytes=info.size_bytes,
            etag=info.etag,
            start=0,
            end=len(content),
            rows=len(lines),
            format=TextFormat.JSONL,
            field="text",
        )

    def _store(self, request: StoreBatch) -> BatchStored:
        import pyarrow as pa  # noqa: PLC0415 - where vectors are
        import pyarrow.parquet as pq  # noqa: PLC0415

        changed = self._staged_json(_staged(request.staging, "changed", request.batch, "json"))
        store = open_vectors(request.store)
        if request.part is None:
            store.remove(changed)
            return BatchStored()
        lines = self._stores.read(parse_uri(request.part.uri), limit_bytes=_STAGED_LIMIT_BYTES).splitlines()
        files = [self._stores.read(parse_uri(uri), limit_bytes=_STAGED_LIMIT_BYTES) for uri in request.files]
        vectors = pa.concat_tables([pq.read_table(BytesIO(file), columns=["vector"]) for file in files])
        if vectors.num_rows != len(lines):
            raise RuntimeError(f"found {vectors.num_rows} vectors for {len(lines)} chunks in {request.staging}")
        rows = vectors.column("vector").combine_chunks()
        flat = rows.flatten().to_numpy().reshape(len(lines), request.dimension)
        kept = [_kept(json.loads(line), flat[index]) for index, line in enumerate(lines)]
        store.replace(kept, changed, Encoder(request.model, request.model_fingerprint, request.dimension))
        return BatchStored()

    def _end(self, request: EndIngestion) -> IngestionEnded:
        removed = 0
        if request.complete:
            store = open_vectors(request.store)
            if request.remove_missing:
                there = {str(info.uri) for info in self._listed(request.source)}
                gone = store.documents_below(request.source) - there
                store.remove(gone)
                removed = len(gone)
            if request.changed or removed:
                store.tidy()
        for info in self._stores.list_objects(parse_uri(request.staging)):
            self._stores.delete(info.uri)
        return IngestionEnded(removed=removed)

    def _describe(self, request: DescribeVectors) -> VectorsDescribed:
        encoder = self._look_at_store(request.store)
        if encoder is None:
            raise _problem(
                DocumentProblem.STORE_NOT_FOUND,
                f"{request.store} holds no vectors; expected a store that document_ingest has written: correct the "
                f"URI, or ingest documents into it first",
            )
        return VectorsDescribed(model=encoder.model, fingerprint=encoder.fingerprint, dimension=encoder.dimension)

    @staticmethod
    def _search(request: SearchVectors) -> VectorsFound:
        store: VectorStore = open_vectors(request.store)
        encoder = store.encoder()
        if encoder is not None and encoder.fingerprint != request.model_fingerprint:
            raise StoreMismatch(
                f"{request.store} holds vectors of {encoder.fingerprint}, and the model at {encoder.model} is another "
                f"one now ({request.model_fingerprint}); put that model back, or ingest into another store"
            )
        hits = [
            Hit(
                document=found.document,
                start=found.chunk.start,
                end=found.chunk.end,
                page=found.chunk.page,
                headings=list(found.chunk.headings),
                score=round(found.score, 6),
                text=found.chunk.text,
            )
            for found in store.nearest(request.vector, request.count)
        ]
        size = sum(len(hit.model_dump_json().encode()) for hit in hits)
        if size > _ANSWER_BYTES:
            raise _problem(
                DocumentProblem.INVALID_REQUEST,
                f"the {len(hits)} chunks that are nearest have {size} bytes; expected at most {_ANSWER_BYTES} in all, "
                f"which is what Temporal takes. Ask for fewer of them (count), or ingest with a smaller chunkSize",
            )
        return VectorsFound(hits=hits)

    def _look_at_store(self, uri: str) -> Encoder | None:
        """What made the vectors in it; None: it is empty."""
        if not is_database(uri):
            # Our own client is asked first: it tells a bucket that is not there from one that may not be read.
            self._stores.children(parse_uri(uri))
        return open_vectors(uri).encoder()

    def _listed(self, source: str) -> list[ObjectInfo]:
        """The documents of a source by their URIs; what begins with a dot or an underscore is no document."""
        place = parse_uri(source)
        # Some stores answer for a folder as if it were an object: only what is called as a document is asked for.
        if readable_name(place.path):
            try:
                return [self._stores.head(place)]
            except StoreError as error:
                if isinstance(error, BucketNotFound | AccessDenied | Unavailable):
                    raise
        return [info for info in self._stores.list_objects(place) if not _hidden(place, info.uri)]

    def _content(self, uri: str) -> bytes:
        try:
            return self._stores.read(parse_uri(uri), limit_bytes=SIZE_LIMIT_BYTES)
        except TooLarge as error:
            raise Refused(Problem.TOO_LARGE, f"has more than {SIZE_LIMIT_BYTES} bytes; cut it into several") from error

    def _staged_json(self, uri: StoreUri) -> Any:
        return json.loads(self._stores.read(uri, limit_bytes=_STAGED_LIMIT_BYTES))


def _hidden(folder: StoreUri, uri: StoreUri) -> bool:
    below = uri.path.removeprefix(folder.path.rstrip("/")).lstrip("/")
    return any(part.startswith((".", "_")) for part in below.split("/"))


def _batches(documents: Sequence[ObjectInfo]) -> Iterator[list[ObjectInfo]]:
    batch: list[ObjectInfo] = []
    size = 0
    for info in documents:
        if batch and (len(batch) == BATCH_DOCUMENTS or size + info.size_bytes > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(info)
        size += info.size_bytes
    if batch:
        yield batch


def _staged(folder: str, kind: str, batch: int, end: str) -> StoreUri:
    return parse_uri(folder).child(kind, f"{batch:06}.{end}")


def _revision(content: bytes, chunking: Chunking) -> str:
    """Of what a document says, and of how it is cut."""
    told = f"{chunks.VERSION}/{chunking.size}/{chunking.overlap}/".encode()
    return hashlib.sha256(told + hashlib.sha256(content).digest()).hexdigest()


def _line(document: str, revision: str, number: int, chunk: Chunk) -> bytes:
    return json.dumps({"document": document, "revision": revision, "ordinal": number, **asdict(chunk)}).encode()


def _kept(line: dict[str, Any], vector: Sequence[float]) -> Kept:
    chunk = Chunk(line["text"], line["start"], line["end"], line["page"], tuple(line["headings"]))
    return Kept(line["document"], line["revision"], line["ordinal"], chunk, vector)


async def _working(work: Callable[[Event], T]) -> T:
    """The result of work that blocks; what will never go otherwise is a refusal, the rest is tried again.

    A thread cannot be ended: it is told when nobody waits for it any more.
    """
    stop = Event()
    try:
        with _refusals():
            return await beating(asyncio.to_thread(work, stop))
    finally:
        stop.set()


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except StoreMismatch as error:
        raise _problem(DocumentProblem.STORE_MISMATCH, str(error)) from error
    except Unavailable:
        raise
    except (AccessDenied, StoreDenied) as error:
        raise _problem(DocumentProblem.ACCESS_DENIED, str(error)) from error
    except NotFound as error:
        raise _problem(DocumentProblem.SOURCE_NOT_FOUND, str(error)) from error
    except (StoreError, UriError) as error:
        raise _problem(DocumentProblem.INVALID_REQUEST, str(error)) from error


def _problem(kind: DocumentProblem, message: str) -> ApplicationError:
    return ApplicationError(message, type=str(kind), non_retryable=True)
