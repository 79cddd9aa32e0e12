"""One thread that asks the models: a GPU does one thing at a time, and requests that wait can be computed together."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Condition, Event, Thread
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from perdure_inference import batches, generator
from perdure_inference.encoder import refuse_no_texts
from perdure_inference.errors import Interrupted, OutOfMemory
from perdure_inference.generator import Answer, Sampling
from perdure_inference.models import Models

_JOIN_SECONDS: Final = 10.0


@dataclass(frozen=True)
class EmbeddedTexts:
    """The vectors of one request."""

    rows: NDArray[np.float32]
    """(texts, dimension)"""
    tokens: int
    truncated: int
    seconds: float
    """Of the model's time, its share."""
    fingerprint: str


@dataclass(frozen=True)
class AnsweredPrompts:
    """The answers of one request."""

    answers: tuple[Answer, ...]
    seconds: float
    fingerprint: str


class Job(ABC):
    """What one request asks of one model."""

    @property
    @abstractmethod
    def company(self) -> Hashable:
        """Jobs of equal company may be computed together; None: this one is computed alone."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """How much it is."""

    @property
    @abstractmethod
    def full(self) -> int:
        """How many rows make a batch of which more are no faster."""

    @abstractmethod
    def prepare(self, models: Models) -> None:
        """Finds what is wrong with this job alone, before it is computed with others."""

    @abstractmethod
    def compute(self, models: Models, jobs: Sequence[Any], given_up: Callable[[], bool]) -> list[Any]:
        """The answers of jobs of the same company, this one among them, in their order."""


@dataclass(frozen=True)
class EmbedJob(Job):
    """Texts to make vectors of."""

    model: str
    texts: Sequence[str]
    normalize: bool = True
    exact: bool = False

    @property
    def company(self) -> Hashable:
        """See the base class."""
        return None if self.exact else ("embed", self.model, self.normalize)

    @property
    def rows(self) -> int:
        """See the base class."""
        return len(self.texts)

    @property
    def full(self) -> int:
        """See the base class."""
        return batches.ROWS

    def prepare(self, models: Models) -> None:
        """See the base class."""
        refuse_no_texts(self.texts)
        models.encoder(self.model)

    def compute(self, models: Models, jobs: Sequence[EmbedJob], given_up: Callable[[], bool]) -> list[EmbeddedTexts]:
        """See the base class."""
        encoder = models.encoder(self.model)
        began = time.monotonic()
        found = encoder.embed([text for job in jobs for text in job.texts], normalize=self.normalize, given_up=given_up)
        seconds, answers, first = time.monotonic() - began, [], 0
        for job in jobs:
            share = job.rows / len(found.rows)
            rows = found.rows[first : first + job.rows]
            counts = (found.tokens, found.truncated) if len(jobs) == 1 else encoder.count(job.texts)
            answers.append(EmbeddedTexts(rows, *counts, seconds * share, encoder.fingerprint))
            first += job.rows
        return answers


@dataclass(frozen=True)
class GenerateJob(Job):
    """Prompts to answer."""

    model: str
    adapter: str | None
    prompts: Sequence[str]
    system: str = ""
    chat: bool | None = None
    max_prompt_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    exact: bool = False
    _tokens: list[list[int]] = field(default_factory=list, compare=False)

    @property
    def company(self) -> Hashable:
        """See the base class. What chance decides is decided by one seed, so it is computed alone."""
        if self.exact or self.sampling.temperature > 0:
            return None
        return ("generate", self.model, self.adapter, self.sampling)

    @property
    def rows(self) -> int:
        """See the base class."""
        return len(self.prompts)

    @property
    def full(self) -> int:
        """See the base class."""
        return generator.ROWS

    def prepare(self, models: Models) -> None:
        """See the base class."""
        refuse_no_texts(self.prompts)
        model = models.generator(self.model, self.adapter)
        self._tokens.clear()
        for prompt in self.prompts:
            tokens = model.tokens(prompt, self.system, self.chat)
            model.check_length(len(tokens), self.max_prompt_tokens, self.sampling.max_new_tokens)
            self._tokens.append(tokens)

    def compute(
        self, models: Models, jobs: Sequence[GenerateJob], given_up: Callable[[], bool]
    ) -> list[AnsweredPrompts]:
        """See the base class."""
        model = models.generator(self.model, self.adapter)
        began = time.monotonic()
        together = [tokens for job in jobs for tokens in job._tokens]  # noqa: SLF001 - of its own kind
        said = model.generate(together, self.sampling, given_up)
        seconds, answers, first = time.monotonic() - began, [], 0
        for job in jobs:
            share = seconds * job.rows / len(together)
            answers.append(AnsweredPrompts(tuple(said[first : first + job.rows]), share, model.fingerprint))
            first += job.rows
        return answers


@dataclass(frozen=True, eq=False)
class _Request:
    job: Job
    future: Future[Any] = field(default_factory=Future)
    given_up: Event = field(default_factory=Event)


class Engine:
    """Carries jobs out in the order in which they come, each with those of its company that wait behind it."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._waiting: deque[_Request] = deque()
        self._news = Condition()
        self._closed = False
        self._thread = Thread(target=self._run, name="models", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._closed = True
            for request in self._waiting:
                request.given_up.set()
            self._news.notify()
        # One that loads a model hears of it late: the process may end without it.
        self._thread.join(_JOIN_SECONDS)

    @property
    def models_kept(self) -> int:
        """How many models are loaded."""
        return self._models.kept

    async def load(self, load: Callable[[Models], object]) -> None:
        """Has a model loaded before anybody asks for it."""
        await self._answer(_Load(load))

    async def embed(self, job: EmbedJob) -> EmbeddedTexts:
        """The vectors of texts.

        Cancelled, it is given up at the next batch, unless others are computed with it.

        Raises:
            InferenceError, ModelError, StoreError: why there are none.
        """
        answer: EmbeddedTexts = await self._answer(job)
        return answer

    async def generate(self, job: GenerateJob) -> AnsweredPrompts:
        """The answers to prompts; cancelled, it is given up at the next token.

        Raises:
            InferenceError, ModelError, StoreError: as above.
        """
        answer: AnsweredPrompts = await self._answer(job)
        return answer

    async def _answer(self, job: Job) -> Any:
        request = _Request(job)
        with self._news:
            self._waiting.append(request)
            self._news.notify()
        try:
            return await asyncio.wrap_future(request.future)
        finally:
            request.given_up.set()

    def _run(self) -> None:
        while first := self._next():
            prepared = [request for request in [first, *self._company(first)] if self._prepared(request)]
            if prepared:
                self._compute(prepared)

    def _next(self) -> _Request | None:
        with self._news:
            while True:
                while self._waiting:
                    request = self._waiting.popleft()
                    if not request.given_up.is_set():
                        return request
                if self._closed:
                    return None
                self._news.wait()

    def _company(self, first: _Request) -> list[_Request]:
        """Those that wait and are computed with one, as long as there is room in the batch."""
        company, room = first.job.company, first.job.full - first.job.rows
        if company is None:
            return []
        found = []
        with self._news:
            for request in list(self._waiting):
                if request.job.company == company and request.job.rows <= room:
                    self._waiting.remove(request)
                    found.append(request)
                    room -= request.job.rows
        return found

    def _prepared(self, request: _Request) -> bool:
        try:
            request.job.prepare(self._models)
        except BaseException as error:  # noqa: BLE001 - it goes to whoever asked
            _fail(request, error)
            return False
        return True

    def _compute(self, requests: list[_Request]) -> None:
        def given_up() -> bool:
            return all(request.given_up.is_set() for request in requests)

        first = requests[0].job
        try:
            answers = self._within_memory(first, [request.job for request in requests], given_up)
        except BaseException as error:  # noqa: BLE001 - as above
            if len(requests) > 1 and not isinstance(error, Interrupted):
                # It may be one of them that is to blame: each on its own.
                for request in requests:
                    self._compute([request])
                return
            for request in requests:
                _fail(request, error)
            return
        for request, answer in zip(requests, answers, strict=True):
            _tell(request, answer)

    def _within_memory(self, first: Job, jobs: list[Job], given_up: Callable[[], bool]) -> list[Any]:
        try:
            return first.compute(self._models, jobs, given_up)
        except torch.OutOfMemoryError:
            # Models that are only kept warm may be in the way.
            self._models.forget_all()
        try:
            return first.compute(self._models, jobs, given_up)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"the GPU's memory does not suffice ({str(error).partition('.')[0]}); use a smaller model, shorter "
                f"texts, or a larger GPU"
            ) from error


class _Load(Job):
    """Nothing but to have a model loaded."""

    company = None
    rows = 0
    full = 0

    def __init__(self, load: Callable[[Models], object]) -> None:
        self._load = load

    def prepare(self, models: Models) -> None:
        self._load(models)

    def compute(self, models: Models, jobs: Sequence[Any], given_up: Callable[[], bool]) -> list[Any]:  # noqa: ARG002
        return [None for _ in jobs]


def _tell(request: _Request, answer: Any) -> None:
    # Who asked may have gone at this moment.
    with suppress(Exception):
        request.future.set_result(answer)


def _fail(request: _Request, error: BaseException) -> None:
    with suppress(Exception):
        request.future.set_exception(error)
