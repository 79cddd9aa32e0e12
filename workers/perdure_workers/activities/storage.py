"""Looking at what goes in, and reading what came out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import structlog
from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.pod import ResultDocument
from perdure_api.spec import DatasetSpec, ModelSpec, OutputSpec, TrainingJobSpec, TrainingSpec
from perdure_api.uri import UriError, parse_uri
from perdure_api.workflow import JobRef
from perdure_data.datasets.check import DatasetReport, check_dataset
from perdure_data.datasets.errors import DatasetError
from perdure_data.datasets.recordings import FRAMES_PER_SECOND, LONGEST_SECONDS
from perdure_data.errors import AccessDenied, NotFound, StoreError, Unavailable
from perdure_data.models import ModelError, ModelReport, check_model
from perdure_data.pairing import refuse_mismatch
from perdure_data.stores import Stores
from perdure_workers.activities.heartbeats import beating
from perdure_workers.activities.refusal import refusal
from perdure_workers.messages import ActivityName, CheckInputs, Collected, CollectResult, Input, InputsChecked

_RESULT_LIMIT_BYTES: Final = 1 << 20
_NOT_READABLE: Final[Mapping[Input, Reason]] = {
    Input.MODEL: Reason.MODEL_NOT_FOUND,
    Input.DATASET: Reason.DATASET_NOT_FOUND,
    Input.OUTPUT: Reason.OUTPUT_NOT_FOUND,
}

log = structlog.get_logger(__name__)


class StorageActivities:
    """Reads object stores."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    @activity.defn(name=ActivityName.CHECK_INPUTS)
    async def check_inputs(self, request: CheckInputs) -> InputsChecked:
        """Reads dataset and model folder as far as it takes to know that training on them can work.

        What is in the trainer's image is left to the trainer: the same path leads to other files here.

        Raises:
            ApplicationError: its type is the Reason: DatasetNotFound, DatasetEmpty, DatasetBroken, ModelNotFound,
                ModelBroken, OutputNotFound, AccessDenied, InvalidSpec, or StoreUnavailable (which waiting may solve);
                its detail the Input that it is about.
        """
        spec = request.spec
        if spec.model is None or spec.dataset is None or spec.output is None:
            raise refusal(Reason.INVALID_SPEC, "model, dataset and output are needed by the built-in trainer")
        _refuse_bad_uris(spec.model, spec.dataset, spec.output)
        with _refused(Input.MODEL):
            model = None if _in_image(spec.model.uri) else await beating(check_model(self._stores, spec.model.uri))
        with _refused(Input.OUTPUT):
            await self._refuse_absent_bucket(spec.output, request.job)
        with _refused(Input.DATASET):
            return await self._check_dataset(spec.dataset, spec.training, model)

    async def _refuse_absent_bucket(self, output: OutputSpec, job: JobRef) -> None:
        """Lists what cannot be there yet. Nothing is written: only the pods need the right to."""
        try:
            await beating(asyncio.to_thread(self._stores.children, parse_uri(names.run_uri(output.uri, job.uid))))
        except AccessDenied as error:
            log.info("output_not_listed", problem=str(error))

    async def _check_dataset(
        self, dataset: DatasetSpec, training: TrainingSpec | None, model: ModelReport | None
    ) -> InputsChecked:
        in_store, left = _in_store(dataset), _left_to_trainer(dataset)
        if in_store is None:
            return InputsChecked(message=left, reason=Reason.NOT_CHECKED)
        report = await beating(check_dataset(self._stores, in_store, longest_seconds=_longest_seconds(training)))
        if model:
            refuse_mismatch(model, report)
        message = "; ".join(filter(None, (_sentence(report), left)))
        if _in_image(dataset.uri):
            return InputsChecked(message=message, reason=Reason.NOT_CHECKED)
        return InputsChecked(message=message, dataset_fingerprint=report.fingerprint)

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
        except Unavailable as error:
            # To be tried again, as every version of the workflow sees to: the newer ones say so meanwhile.
            raise ApplicationError(str(error), type=str(Reason.STORE_UNAVAILABLE)) from error
        except (StoreError, UriError) as error:
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


@contextmanager
def _refused(about: Input) -> Iterator[None]:
    """Turns whatever is wrong with one input into a refusal."""
    try:
        yield
    except (DatasetError, ModelError) as error:
        raise refusal(error.reason, str(error), about) from error
    except Unavailable as error:
        raise refusal(Reason.STORE_UNAVAILABLE, str(error), about) from error
    except AccessDenied as error:
        raise refusal(Reason.ACCESS_DENIED, f"{about} {error}", about) from error
    except StoreError as error:
        raise refusal(_NOT_READABLE[about], f"{about} {error}", about) from error


def _refuse_bad_uris(model: ModelSpec, dataset: DatasetSpec, output: OutputSpec) -> None:
    for about, field, uri in (
        (Input.MODEL, "model.uri", model.uri),
        (Input.DATASET, "dataset.uri", dataset.uri),
        (Input.DATASET, "dataset.evalUri", dataset.eval_uri),
        (Input.OUTPUT, "output.uri", output.uri),
    ):
        try:
            if uri is not None:
                parse_uri(uri)
        except UriError as error:
            raise refusal(Reason.INVALID_SPEC, f"spec.{field}: {error}", about) from error


def _in_image(uri: str) -> bool:
    return uri.startswith("file:")


def _in_store(dataset: DatasetSpec) -> DatasetSpec | None:
    """The part of a dataset that is in a store: all of it, one of its two URIs, or none."""
    uris = [uri for uri in (dataset.uri, dataset.eval_uri) if uri is not None and not _in_image(uri)]
    match uris:
        case []:
            return None
        case [only]:
            return dataset.model_copy(update={"uri": only, "eval_uri": None})
        case _:
            return dataset


def _left_to_trainer(dataset: DatasetSpec) -> str:
    """What of a dataset is in the image, and when it is looked at; empty: nothing is."""
    uris = [uri for uri in (dataset.uri, dataset.eval_uri) if uri is not None and _in_image(uri)]
    verb = "are" if len(uris) > 1 else "is"
    return f"{' and '.join(uris)} {verb} in the image: checked when training starts" if uris else ""


def _longest_seconds(training: TrainingSpec | None) -> float:
    """How much of a recording fits into a sequence."""
    return min(LONGEST_SECONDS, training.sequence_length / FRAMES_PER_SECOND) if training else LONGEST_SECONDS


def _sentence(report: DatasetReport) -> str:
    files = f"{report.files} files, " if report.files > 1 else ""
    return f"{report.uri}: {files}{report.documents} {report.noun}, {report.size_bytes} bytes"
