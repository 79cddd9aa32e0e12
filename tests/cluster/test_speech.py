"""A model of speech, trained in a pod on real recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from tests.cluster.conftest import BUCKET, Jobs, condition, phase
from tests.trainer.speech import tiny

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PLACE = f"{BUCKET}/speech"
RATES = {"wer", "cer", "recordings_wer", "recordings_cer"}


@pytest.fixture
def inputs(stores: Stores, tmp_path: Path) -> None:
    """A model, recordings and transcripts in the store."""
    tiny.write_model(tmp_path)
    for folder, name in ((tmp_path, "model"), (tiny.CLIPS.parent, "clips")):
        for file in folder.iterdir():
            stores.put(parse_uri(f"{PLACE}/{name}/{file.name}"), file.read_bytes())


@pytest.mark.usefixtures("inputs")
def test_recordings_with_transcripts_make_an_adapter_whose_error_rates_stand_beside_the_base_models(jobs: Jobs) -> None:
    jobs.create(
        "voice",
        {
            "model": {"uri": f"{PLACE}/model"},
            "dataset": {"uri": f"{PLACE}/clips/{tiny.CLIPS.name}", "evalFraction": 0.3},
            "output": {"uri": f"{PLACE}/out"},
            "lora": {"rank": 4},
            "training": {"maxSteps": 6, "batchSize": 2, "sequenceLength": 100, "learningRate": 0.01},
        },
    )
    job = jobs.finished("voice", seconds=300)

    assert phase(job) == "Succeeded", job["status"]
    assert "recordings" in condition(job, "DatasetReady")["message"]
    result = job["status"]["result"]
    assert result["metrics"].keys() >= RATES
    assert result["baseMetrics"].keys() >= RATES
