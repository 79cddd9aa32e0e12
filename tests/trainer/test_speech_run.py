"""Whole attempts on speech: real recordings, a tiny CSM, the same process that runs in a pod."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure_api.pod import ResultDocument
from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from tests.trainer.conftest import Attempts, Tiny, spec
from tests.trainer.speech import tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("csm")
    tiny.write_model(folder)
    return Tiny(folder, tiny.CLIPS)


@pytest.fixture
def speech(files: Tiny, tmp_path: Path) -> Attempts:
    training = {"maxSteps": 6, "batchSize": 2, "sequenceLength": 100, "learningRate": 0.01, "seed": 7}
    whole = spec(files, training=training, checkpoint={"everySteps": 2}, dataset={"evalFraction": 0.3})
    return Attempts(f"file://{tmp_path}/run", whole, tmp_path)


def written(attempts: Attempts, name: str) -> bytes:
    uri = parse_uri(f"{attempts.run_uri}/attempts/{attempts.started}/{name}")
    return Stores().read(uri, limit_bytes=2**24)


def test_a_killed_run_ends_with_the_same_adapter_and_error_rates(speech: Attempts, tmp_path: Path) -> None:
    assert speech.run().exit_code == 0
    expected = ResultDocument.model_validate_json(written(speech, "result.json"))
    rates = {"wer", "cer", "recordings_wer", "recordings_cer"}
    assert rates <= expected.metrics.keys()
    assert rates <= expected.base_metrics.keys()
    assert expected.eval_counts["sentences"] == expected.eval_samples
    assert expected.metrics["eval_loss"] != expected.base_metrics["eval_loss"]

    killed = Attempts(f"file://{tmp_path}/killed", speech.spec, tmp_path / "killed-attempts")
    assert killed.run(at_step=3).exit_code != 0
    assert killed.run().exit_code == 0
    assert written(killed, "adapter/adapter_model.safetensors") == written(speech, "adapter/adapter_model.safetensors")
    found = ResultDocument.model_validate_json(written(killed, "result.json"))
    assert {name: found.metrics[name] for name in rates} == {name: expected.metrics[name] for name in rates}
