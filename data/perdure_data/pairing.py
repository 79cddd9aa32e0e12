"""Whether a model can learn from a dataset at all: found out before any GPU is asked for."""

from __future__ import annotations

from perdure_api.spec import RecordFields
from perdure_data.datasets.check import DatasetReport
from perdure_data.datasets.errors import DatasetBroken
from perdure_data.models import ModelReport


def refuse_mismatch(model: ModelReport, dataset: DatasetReport) -> None:
    """Raises DatasetBroken when the model speaks and the dataset is written, or the other way round."""
    for report in (dataset, dataset.held_out):
        if report is None or (report.records is RecordFields.SPEECH) is model.of_speech:
            continue
        if model.of_speech:
            raise DatasetBroken(
                f"dataset {report.uri} holds {report.noun}, but the model is one of speech ({model.architecture}); "
                'expected records with "audio" and "text". Use another dataset, or another model'
            )
        raise DatasetBroken(
            f"dataset {report.uri} holds {report.noun}, but the model writes ({model.architecture or 'GGUF'}); set "
            "spec.dataset.records to text to train on the transcripts, or use a model of speech"
        )
