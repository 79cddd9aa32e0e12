from __future__ import annotations

import pytest

from perdure_api.spec import RecordFields
from perdure_data.datasets import DatasetBroken, DatasetReport, Extent
from perdure_data.models import ModelLayout, ModelReport
from perdure_data.pairing import refuse_mismatch

SPEAKS, WRITES = "CsmForConditionalGeneration", "LlamaForCausalLM"


def model(architecture: str | None) -> ModelReport:
    return ModelReport("s3://b/model", ModelLayout.HUGGING_FACE, (), 1, architecture)


def dataset(records: RecordFields, held_out: DatasetReport | None = None) -> DatasetReport:
    return DatasetReport("s3://b/data", 1, 1, 1, records, Extent.WHOLE, "sha256:0", held_out)


@pytest.mark.parametrize(
    ("architecture", "records"),
    [
        (SPEAKS, RecordFields.SPEECH),
        (WRITES, RecordFields.TEXT),
        (WRITES, RecordFields.MESSAGES),
        (None, RecordFields.TEXT),
    ],
)
def test_what_belongs_together_passes(architecture: str | None, records: RecordFields) -> None:
    refuse_mismatch(model(architecture), dataset(records, dataset(records)))


def test_a_model_of_speech_needs_recordings() -> None:
    with pytest.raises(DatasetBroken, match=r"holds documents, but the model is one of speech \(CsmFor"):
        refuse_mismatch(model(SPEAKS), dataset(RecordFields.TEXT))


@pytest.mark.parametrize("architecture", [WRITES, None])
def test_a_model_that_writes_needs_text(architecture: str | None) -> None:
    with pytest.raises(DatasetBroken, match=r"but the model writes \(.+\); set spec.dataset.records to text"):
        refuse_mismatch(model(architecture), dataset(RecordFields.SPEECH))


def test_held_out_data_must_fit_too() -> None:
    with pytest.raises(DatasetBroken, match="the model is one of speech"):
        refuse_mismatch(model(SPEAKS), dataset(RecordFields.SPEECH, dataset(RecordFields.TEXT)))
