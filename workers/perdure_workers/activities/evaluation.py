"""Suites, scores and verdicts of evaluations, from and to the object store. Run where numpy is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from perdure_api.evals import Answered, CaseResult, EvalDocument, EvalProblem, Verdict
from perdure_api.uri import UriError, parse_uri
from perdure_data.errors import AccessDenied, NotFound, StoreError, Unavailable
from perdure_data.stores import Stores
from perdure_workers.activities.heartbeats import beating
from perdure_workers.evaluation import suites, verdicts
from perdure_workers.evaluation.scoring import score
from perdure_workers.evaluation.statistics import Bootstrap
from perdure_workers.evaluation.suites import SuiteBroken
from perdure_workers.evaluation.verdicts import BaselineUnfit
from perdure_workers.messages import ActivityName, Judge, PageScored, ReadSuite, ScoreAnswers, SuitePage

T = TypeVar("T")

FAILED_TOLD: Final = 20
"""Cases in a verdict; the document in the store has all."""
_DOCUMENT_LIMIT_BYTES: Final = 256 << 20


class EvaluationActivities:
    """Reads suites and results of object stores."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    @activity.defn(name=ActivityName.READ_SUITE)
    async def read_suite(self, request: ReadSuite) -> SuitePage:
        """Some cases of a suite.

        Raises:
            ApplicationError: it is none, or has changed; its type is an EvalProblem.
        """
        return await _working(lambda: self._read(request))

    @activity.defn(name=ActivityName.SCORE_ANSWERS)
    async def score_answers(self, request: ScoreAnswers) -> PageScored:
        """How good some answers are. The answers themselves go to the store, where there is a folder for results."""
        return await _working(lambda: self._score(request))

    @activity.defn(name=ActivityName.JUDGE)
    async def judge(self, request: Judge) -> Verdict:
        """The verdict, which is kept in the store where it has a name.

        Raises:
            ApplicationError: the baseline cannot be compared with.
        """
        return await _working(lambda: self._judge(request))

    def _read(self, request: ReadSuite) -> SuitePage:
        content = self._stores.read(parse_uri(request.uri), limit_bytes=suites.SIZE_LIMIT_BYTES)
        page = suites.page(suites.read_suite(request.uri, content), request.first)
        if request.suite_hash is not None and page.suite_hash != request.suite_hash:
            raise SuiteBroken(f"{request.uri} has changed while it was evaluated; evaluate it again")
        return page

    def _score(self, request: ScoreAnswers) -> PageScored:
        answered: list[Answered] = []
        for (id_, case), answer in zip(request.cases, request.answers, strict=True):
            found = score(case, answer)
            answered.append(Answered(id=id_, score=found.score, problem=found.problem, answer=answer))
        if request.keep_at is not None:
            content = "\n".join(each.model_dump_json(by_alias=True) for each in answered)
            self._stores.put(parse_uri(request.keep_at), content.encode())
        return PageScored(
            ids=[each.id for each in answered],
            scores=[each.score for each in answered],
            failed=[
                CaseResult(id=each.id, score=each.score, problem=each.problem) for each in answered if each.problem
            ][:FAILED_TOLD],
            kept_at=request.keep_at,
        )

    def _judge(self, request: Judge) -> Verdict:
        wish = request.wish
        bootstrap = Bootstrap(wish.resamples, wish.confidence, wish.seed)
        cases = [
            CaseResult(id=id_, score=value)
            for page in request.pages
            for id_, value in zip(page.ids, page.scores, strict=True)
        ]
        mean, interval = verdicts.overall(cases, bootstrap)
        compared = None
        if wish.baseline is not None and wish.results is not None:
            baseline = self._result(wish.results, wish.baseline)
            compared = verdicts.compare(cases, request.suite_hash, wish.baseline, baseline, bootstrap)
        passed, reasons = verdicts.judge(wish.gate, mean, compared)
        keep = wish.name is not None and wish.results is not None
        verdict = Verdict(
            passed=passed,
            reasons=reasons,
            n=len(cases),
            score=mean,
            interval=interval,
            suite_hash=request.suite_hash,
            compared=compared,
            model=wish.model,
            adapter=wish.adapter,
            model_fingerprint=request.model_fingerprint,
            answers_cut=request.answers_cut,
            seconds=request.seconds,
            failed=[each for page in request.pages for each in page.failed][:FAILED_TOLD],
            uri=f"{str(wish.results).rstrip('/')}/{wish.name}.json" if keep else None,
        )
        if verdict.uri is not None:
            self._keep(verdict, verdict.uri, request)
        return verdict

    def _keep(self, verdict: Verdict, uri: str, request: Judge) -> None:
        pages = [parse_uri(page.kept_at) for page in request.pages if page.kept_at is not None]
        cases = [
            Answered.model_validate_json(line)
            for page in pages
            for line in self._stores.read(page, limit_bytes=_DOCUMENT_LIMIT_BYTES).split(b"\n")
        ]
        document = EvalDocument(verdict=verdict, cases=cases)
        self._stores.put(parse_uri(uri), document.model_dump_json(by_alias=True, exclude_none=True, indent=2).encode())

    def _result(self, folder: str, name: str) -> EvalDocument:
        uri = parse_uri(folder).child(f"{name}.json")
        try:
            content = self._stores.read(uri, limit_bytes=_DOCUMENT_LIMIT_BYTES)
        except NotFound as error:
            files, _ = self._stores.children(parse_uri(folder))
            there = [info.uri.path.rpartition("/")[2].removesuffix(".json") for info in files]
            found = f"found {', '.join(there[:10])}" if there else "found none"
            raise BaselineUnfit(
                f"there is no result {name} in {folder}; {found}: evaluate the baseline with name: {name} first"
            ) from error
        try:
            return EvalDocument.model_validate_json(content)
        except ValidationError as error:
            raise BaselineUnfit(f"{uri} is no result of an evaluation; evaluate the baseline again") from error


async def _working(work: Callable[[], T]) -> T:
    """The result of work that blocks; what will never go otherwise is a refusal, the rest is tried again."""
    with _refusals():
        return await beating(asyncio.to_thread(work))


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except SuiteBroken as error:
        raise _problem(EvalProblem.SUITE_BROKEN, str(error)) from error
    except BaselineUnfit as error:
        raise _problem(EvalProblem.BASELINE_UNFIT, str(error)) from error
    except Unavailable:
        raise
    except NotFound as error:
        raise _problem(EvalProblem.SUITE_NOT_FOUND, str(error)) from error
    except AccessDenied as error:
        raise _problem(EvalProblem.ACCESS_DENIED, str(error)) from error
    except (StoreError, UriError) as error:
        raise _problem(EvalProblem.INVALID_REQUEST, str(error)) from error


def _problem(kind: EvalProblem, message: str) -> ApplicationError:
    return ApplicationError(message, type=str(kind), non_retryable=True)
