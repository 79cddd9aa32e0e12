from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perdure_api.pod import Env
from perdure_trainer.failures import ConfigError, UsageError
from perdure_trainer.settings import from_environment, from_file

SPEC: dict[str, Any] = {
    "model": {"uri": "s3://b/model"},
    "dataset": {"uri": "s3://b/train.jsonl"},
    "training": {"maxSteps": 10},
}
POD: dict[str, str] = {
    Env.SPEC: json.dumps(SPEC),
    Env.JOB_NAME: "job",
    Env.JOB_UID: "uid-1",
    Env.ATTEMPT: "3",
    Env.RUN_URI: "s3://b/out/runs/uid-1",
    Env.SCRATCH: "/scratch",
}


def pod(**changes: str) -> dict[str, str]:
    return {str(name): value for name, value in {**POD, **changes}.items()}


def test_a_pod_is_told_everything_by_its_environment() -> None:
    settings = from_environment(pod())
    assert (settings.job_uid, settings.attempt, settings.scratch) == ("uid-1", 3, Path("/scratch"))
    assert str(settings.attempt_uri) == "s3://b/out/runs/uid-1/attempts/3"
    assert settings.lora.rank == 16
    assert settings.progress is None


def test_progress_goes_where_the_environment_says() -> None:
    settings = from_environment(
        pod(PERDURE_PROGRESS_URL="https://r/v1/progress", PERDURE_PROGRESS_TOKEN_FILE="/t", PERDURE_PROGRESS_CA_FILE="")
    )
    assert settings.progress is not None
    assert (settings.progress.url, settings.progress.token_file, settings.progress.ca_file) == (
        "https://r/v1/progress",
        Path("/t"),
        None,
    )


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"PERDURE_SPEC": ""}, UsageError, "PERDURE_SPEC is not set"),
        ({"PERDURE_SPEC": "[]"}, UsageError, "PERDURE_SPEC is no spec"),
        ({"PERDURE_ATTEMPT": "0"}, UsageError, "'0'; expected a whole number from 1"),
        ({"PERDURE_ATTEMPT": "²"}, UsageError, "expected a whole number from 1"),
        ({"PERDURE_RUN_URI": "ftp://x/y"}, ConfigError, "use s3://, gs://, az:// or file://"),
        ({"PERDURE_SPEC": "{}"}, ConfigError, "spec lacks model and dataset and training"),
        (
            {"PERDURE_SPEC": json.dumps({**SPEC, "training": {}})},
            ConfigError,
            "spec.training has neither of maxSteps and epochs",
        ),
        (
            {"PERDURE_SPEC": json.dumps({**SPEC, "model": {"uri": "hf://x/y"}})},
            ConfigError,
            'spec.model: "hf://x/y" starts with no scheme',
        ),
    ],
)
def test_a_wrong_environment_is_named(changes: dict[str, str], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence.replace("(", r"\(")):
        from_environment(pod(**changes))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    return path


def test_a_laptop_is_told_everything_by_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({"metadata": {"name": "mine"}, "spec": SPEC}))
    settings = from_file(path, tmp_path / "out", {})
    assert str(settings.run_uri) == f"file://{tmp_path}/out/runs/mine"
    assert settings.attempt == 1


def test_a_laptops_folder_may_be_called_anything(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({"metadata": {"name": "mine"}, "spec": SPEC}))
    settings = from_file(path, tmp_path / "run #1, 50%20", {})
    assert settings.attempt_uri.path == f"{tmp_path}/run #1, 50%20/runs/mine/attempts/1"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is no TrainingJob"),
        ("just text", "is no TrainingJob"),
        ("metadata: {}", "is no TrainingJob"),
        ("spec: {modle: {}}", "spec.modle: Extra inputs"),
        (json.dumps({"spec": SPEC}), "has no spec.output, and there is no --output-dir"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        from_file(write(tmp_path, text), None, {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read \(No such file or directory\)"):
        from_file(tmp_path / "none.yaml", None, {})


def test_the_recipe_is_what_decides_the_outcome() -> None:
    same = from_environment(pod(PERDURE_ATTEMPT="4"))
    other = from_environment(pod(PERDURE_SPEC=json.dumps({**SPEC, "lora": {"rank": 8}})))
    saved_more_often = from_environment(pod(PERDURE_SPEC=json.dumps({**SPEC, "checkpoint": {"everySteps": 1}})))
    fingerprint = from_environment(pod()).recipe_fingerprint
    assert same.recipe_fingerprint == fingerprint == saved_more_often.recipe_fingerprint
    assert other.recipe_fingerprint != fingerprint
