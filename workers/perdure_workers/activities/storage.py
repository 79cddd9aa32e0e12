"""Looking at what goes in, and reading what came out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

import structlog
from pydantic import ValidationError
from temporalio import activity

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.pod import ResultDocument
from perdure_api.spec import TrainingJobSpec, TrainingSpec
from perdure_api.uri import parse_uri
from perdure_data.datasets.check import DatasetReport, check_dataset
from perdure_data.datasets.errors import DatasetError
from perdure_data.datasets.recordings import FRAMES_PER_SECOND, LONGEST_SECONDS
from perdure_data.errors import AccessDenied, NotFound, StoreError, Unavailable
from perdure_data.models import ModelError, check_model
from perdure_data.pairing import refuse_mismatch
from perdure_data.stores import Stores
from perdure_workers.activities.refusal import refusal
from perdure_workers.messages import ActivityName, CheckInputs, Collected, CollectResult, InputsChecked

T = TypeVar("T")

_HEARTBEAT_SECONDS: Final = 15.0
_RESULT_LIMIT_BYTES: Final = 1 << 20

log = structlog.get_logger(__name__)


class StorageActivities:
    """Reads object stores."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    @activity.defn(name=ActivityName.CHECK_INPUTS)
    async def check_inputs(self, request: CheckInputs) -> InputsChecked:
        """Reads dataset and model folder as far as it takes to know that training on them can work.

        Raises:
            ApplicationError: its type is the Reason: DatasetNotFound, DatasetEmpty, DatasetBroken, ModelNotFound,
                ModelBroken, AccessDenied, or StoreUnavailable (which waiting may solve).
        """
        spec = request.spec
        if spec.model is None or spec.dataset is None or spec.output is None:
            raise refusal(Reason.INVALID_SPEC, "model, dataset and output are needed by the built-in trainer")
        try:
            model = None
            if not _in_image(spec.model.uri):
                model = await _beating(check_model(self._stores, spec.model.uri))
            if _in_image(spec.dataset.uri):
                return InputsChecked(message=f"{spec.dataset.uri} is in the image: checked when training starts")
            report = await _beating(
                check_dataset(self._stores, spec.dataset, longest_seconds=_longest_seconds(spec.training))
            )
            if model:
                refuse_mismatch(model, report)
        except (DatasetError, ModelError) as error:
            raise refusal(error.reason, str(error)) from error
        except Unavailable as error:
            raise refusal(Reason.STORE_UNAVAILABLE, str(error)) from error
        except AccessDenied as error:
            raise refusal(Reason.ACCESS_DENIED, str(error)) from error
        except StoreError as error:
            raise refusal(Reason.DATASET_NOT_FOUND, str(error)) from error
        return InputsChecked(message=_sentence(spec, report), dataset_fingerprint=report.fingerprint)

    @activity.defn(name=ActivityName.COLLECT_RESULT)
    async def collect_result(self, request: CollectResult) -> Collected:
        """Reads the result document of a completed attempt, and accepts it only from that attempt.

        The built-in trainer always leaves one; a trainer of the user's own may.
        """
        spec = request.spec
        if spec.output is None:
            return Collected()
        folder = names.attempt_uri(names.run_uri(spec.output.uri, request.job.uid), request.attempt)
        uri = f"{folder}/result.json"
        try:
            content = await self._stores.read_async(parse_uri(uri), limit_bytes=_RESULT_LIMIT_BYTES)
            document = ResultDocument.model_validate_json(content)
        except NotFound:
            return _without_result(spec, f"no result document at {uri}; the trainer ended with 0 but wrote none")
        except ValidationError as error:
            found = error.errors()[0]
            return _without_result(spec, f"{uri} is no result document: {found['msg']} at {found['loc']}")
        except Unavailable:
            raise
        except StoreError as error:
            return _without_result(spec, f"the result document cannot be read: {error}")
        if (document.job_uid, document.attempt) != (request.job.uid, request.attempt):
            theirs = f"attempt {document.attempt} of {document.job_uid}"
            return _without_result(spec, f"{uri} speaks of {theirs}, not of this attempt ({request.attempt})")
        return Collected(document=document, uri=uri)


def _without_result(spec: TrainingJobSpec, problem: str) -> Collected:
    if spec.built_in:
        return Collected(problem=problem)
    log.info("no_result_document", problem=problem)
    return Collected()


def _in_image(uri: str) -> bool:
    return uri.startswith("file:")


def _longest_seconds(training: TrainingSpec | None) -> float:
    """How much of a recording fits into a sequence."""
    return min(LONGEST_SECONDS, training.sequence_length / FRAMES_PER_SECOND) if training else LONGEST_SECONDS


def _sentence(spec: TrainingJobSpec, report: DatasetReport) -> str:
    uri = spec.dataset.uri if spec.dataset else ""
    files = f"{report.files} files, " if report.files > 1 else ""
    return f"{uri}: {files}{report.documents} {report.noun}, {report.size_bytes} bytes"


async def _beating(work: Awaitable[T]) -> T:
    """The result of the work; heartbeats while it lasts."""
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait([task], timeout=_HEARTBEAT_SECONDS)
            if done:
                return task.result()
            activity.heartbeat()
    finally:
        task.cancel()
