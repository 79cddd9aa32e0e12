"""A listing of a run's folder → what is deleted of it, and in which order."""

from __future__ import annotations

import pytest

from perdure_api.uri import StoreUri, parse_uri
from perdure_workers.run_folder import RunFolder

RUN = parse_uri("s3://b/out/runs/u")
STEP = "attempts/1/checkpoints/step-00000005-abcd"


def folder(*paths: str, run: StoreUri = RUN) -> RunFolder:
    return RunFolder(run, tuple(run.child(path) for path in paths))


def inside(uris: list[StoreUri], run: StoreUri = RUN) -> list[str]:
    return [uri.path.removeprefix(f"{run.path}/") for uri in uris]


@pytest.mark.parametrize(
    "path",
    [
        f"{STEP}/adapter.safetensors",
        f"{STEP}/manifest.json",
        "attempts/1/checkpoints/latest.json",
        "attempts/12/checkpoints/checkpoint-500/model.bin",
        "tokens/0a1b/train-00000",
        "tokens/0a1b/manifest",
    ],
)
@pytest.mark.parametrize("run", ["s3://b/out/runs/u", "s3://b/runs/u", "file:///mnt/out/runs/u"])
def test_what_only_serves_to_go_on_from_goes(path: str, run: str) -> None:
    there = folder(path, run=parse_uri(run))

    assert inside(there.resumables(), there.uri) == [path]


@pytest.mark.parametrize(
    "path",
    [
        "attempts/1/adapter/adapter_model.safetensors",
        "attempts/1/adapter/README.md",
        "attempts/1/result.json",
        "attempts/1/started.json",
        "attempts/1/stacks.txt",
        "attempts/1/tensorboard/events.out.tfevents.1",
        "attempts/1/loss.svg",
        "attempts/1/checkpoints.tar",
        "attempts/best/checkpoints/x",
        "attempts/1/adapter/checkpoints/x",
        "checkpoints/x",
        "mine/tokens/x",
        "tokens.txt",
    ],
)
def test_what_was_made_stays(path: str) -> None:
    assert folder(path).resumables() == []


def test_what_others_made_beside_the_run_stays() -> None:
    beside = RunFolder(RUN, (parse_uri(f"s3://b/out/runs/u2/{STEP}/manifest.json"),))

    assert beside.resumables() == []


def test_manifests_go_first() -> None:
    there = folder(f"{STEP}/a", f"{STEP}/manifest.json", "tokens/k/a", "tokens/k/manifest")

    gone = inside(there.resumables())

    assert set(gone[:2]) == {f"{STEP}/manifest.json", "tokens/k/manifest"}
    assert len(gone) == 4


@pytest.mark.parametrize("adapter", ["attempts/1/checkpoints/final", "attempts/1/checkpoints/final/"])
def test_an_adapter_stays_wherever_a_trainer_has_put_it(adapter: str) -> None:
    there = folder("attempts/1/checkpoints/final/weights", "attempts/1/checkpoints/final-2/weights")

    assert inside(there.resumables(kept=[RUN.child(adapter)])) == ["attempts/1/checkpoints/final-2/weights"]
    assert len(there.resumables(kept=[parse_uri(f"s3://other/{RUN.path}/{adapter}")])) == 2


def test_result_documents_are_those_of_attempts() -> None:
    there = folder("attempts/1/result.json", "attempts/12/result.json", "attempts/1/adapter/result.json", "result.json")

    assert inside(there.results) == ["attempts/1/result.json", "attempts/12/result.json"]


@pytest.mark.parametrize(
    ("paths", "fence"),
    [
        pytest.param(["attempts/9/started.json", "attempts/10/x"], "attempts/11/deleted.json", id="may still run"),
        pytest.param(["attempts/1/x", "attempts/1/result.json"], None, id="done"),
        pytest.param(["attempts/1/result.json", "attempts/2/x"], "attempts/3/deleted.json", id="an older one is done"),
        pytest.param(["attempts/1/x", "attempts/2/deleted.json"], None, id="fenced already"),
        pytest.param(["tokens/k/manifest"], None, id="nothing was begun"),
        pytest.param([], None, id="nothing is there"),
    ],
)
def test_a_fence_is_put_before_whatever_may_still_run(paths: list[str], fence: str | None) -> None:
    missing = folder(*paths).missing_fence

    assert (inside([missing]) if missing else None) == ([fence] if fence else None)
