"""Two real processes that train as one, over loopback."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from perdure_api.exit_codes import ExitCode
from perdure_api.pod import Env
from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from tests.trainer.conftest import Attempts, Tiny, spec
from tests.trainer.process import Fault, TrainerProcess
from tests.trainer.test_whole_runs import adapter_of, result_of

pytestmark = pytest.mark.slow

ROUNDING = 1e-3
"""Of a matrix's norm: what sums in another order may change in 12 steps."""
LOSS_SECONDS = 30
"""Within which every rank must have ended when one is lost."""


def ends(ranks: list[TrainerProcess]) -> list[tuple[int | None, str]]:
    ended = [rank.end() for rank in ranks]
    return [(each.exit_code, each.last_words.message) for each in ended]


def checkpoints(run_uri: str) -> list[str]:
    """Names of the folders of all that are committed, by attempt and step."""
    manifests = Path(parse_uri(run_uri).path).glob("attempts/*/checkpoints/step-*/manifest.json")
    return sorted(f"{path.parents[2].name}/{path.parent.name}" for path in manifests)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_two_ranks_are_one_with_batches_twice_as_large(
    tiny_files: Tiny, tmp_path: Path, stores: Stores, micro_batches: int
) -> None:
    """Up to rounding, and with dropout off: each label weighs the same, on whichever rank it is."""
    adapters, losses, tokens = [], [], []
    for count, batch_size in ((1, 4), (2, 2)):
        parts: dict[str, dict[str, Any]] = {"lora": {"dropout": 0.0}, "training": {"batchSize": batch_size}}
        attempts = Attempts(f"file://{tmp_path}/run-{count}", spec(tiny_files, **parts), tmp_path / str(count))
        attempts.spec["training"]["gradientAccumulationSteps"] = micro_batches
        ranks = attempts.start_ranks(*[Fault()] * count)
        assert [code for code, _ in ends(ranks)] == [ExitCode.OK] * count
        result = result_of(stores, attempts.run_uri, 1)
        adapters.append(load(adapter_of(stores, attempts.run_uri, 1)))
        losses.append(result.metrics["train_loss"])
        tokens.append(result.metrics["tokens"])
    assert tokens[0] == tokens[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, tensor in adapters[0].items():
        # Of the whole matrix: Adam makes steps of one size even of a weight's gradient that is nothing but rounding.
        assert torch.linalg.norm(adapters[1][name] - tensor) < ROUNDING * torch.linalg.norm(tensor), name


def test_rank_0_alone_writes(attempts: Attempts) -> None:
    ranks = attempts.start_ranks(Fault(), Fault())
    (code, message), (other_code, other_message) = ends(ranks)
    assert (code, other_code) == (ExitCode.OK, ExitCode.OK)
    assert "finished after 12 steps" in message
    assert other_message == "rank 1 has done its part; rank 0 writes the result"
    log = ranks[1].end().log
    assert "ranks_met" in log
    assert "checkpoint_committed" not in log


def test_sigterm_on_any_rank_stops_all_at_the_same_step(attempts: Attempts) -> None:
    attempts.spec["training"]["maxSteps"] = 10**6
    attempts.spec["checkpoint"]["everySteps"] = 50
    ranks = attempts.start_ranks(Fault(), Fault())
    latest = Path(parse_uri(attempts.run_uri).child("attempts/1/checkpoints/latest.json").path)
    ranks[0].wait_for(latest.exists)
    told = ranks[1].terminate()
    first = ranks[0].end()
    assert (first.exit_code, told.exit_code) == (ExitCode.STOPPED, ExitCode.STOPPED), first.log
    assert told.last_words.message == "stopped by SIGTERM"
    assert "rank 1 (" in first.last_words.message
    assert first.last_words.message.endswith(") was asked to stop")
    assert first.last_words.step == told.last_words.step
    assert first.last_words.checkpoint is not None
    assert first.last_words.checkpoint.step == first.last_words.step


def test_a_run_that_was_stopped_goes_on_to_the_bit(
    attempts: Attempts, tiny_files: Tiny, tmp_path: Path, stores: Stores
) -> None:
    """Dropout too: what each rank draws is another, and the same again after a resume."""
    whole = Attempts(f"file://{tmp_path}/whole", spec(tiny_files), tmp_path / "whole")
    assert [code for code, _ in ends(whole.start_ranks(Fault(), Fault()))] == [ExitCode.OK] * 2
    ends(attempts.start_ranks(Fault(at_step=7), Fault()))
    assert [code for code, _ in ends(attempts.start_ranks(Fault(), Fault()))] == [ExitCode.OK] * 2
    assert adapter_of(stores, attempts.run_uri, 2) == adapter_of(stores, whole.run_uri, 1)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_run_that_lost_a_rank_goes_on_to_the_bit_from_the_step_that_the_other_saved(
    attempts: Attempts, tiny_files: Tiny, tmp_path: Path, stores: Stores, lost: int
) -> None:
    """Whichever it was, no step is lost, though no save was due."""
    attempts.spec["checkpoint"]["everySteps"] = 10**6
    whole = Attempts(f"file://{tmp_path}/whole", spec(tiny_files), tmp_path / "whole")
    assert [code for code, _ in ends(whole.start_ranks(Fault(), Fault()))] == [ExitCode.OK] * 2
    faults = [Fault(at_step=7) if rank == lost else Fault() for rank in (0, 1)]
    first = attempts.start_ranks(*faults)[1 - lost].end()
    assert first.exit_code == ExitCode.PEER_LOST, first.log
    assert first.last_words.message.endswith(f"; rank {1 - lost} saved step 8")
    second = [rank.end() for rank in attempts.start_ranks(Fault(), Fault())]
    assert [(each.exit_code, each.last_words.from_step) for each in second] == [(ExitCode.OK, 8)] * 2
    assert adapter_of(stores, attempts.run_uri, 2) == adapter_of(stores, whole.run_uri, 1)


def test_ranks_that_come_and_go_see_every_sample_of_the_epoch_once(attempts: Attempts, stores: Stores) -> None:
    """Two ranks, of which one dies; then one, which dies too; then two again."""
    training = attempts.spec["training"]
    del training["maxSteps"]
    training |= {"epochs": 1, "batchSize": 2}
    attempts.spec["checkpoint"]["everySteps"] = 1
    two = attempts.start_ranks(Fault(), Fault(at_step=6))
    first = two[0].end()
    assert first.exit_code == ExitCode.PEER_LOST, first.log
    assert first.last_words.step == 7, "the step in which the other died was whole for the one that lived"
    one = attempts.start_ranks(Fault(at_step=9))
    assert one[0].end().exit_code == -signal.SIGKILL
    last = attempts.start_ranks(Fault(), Fault())
    ended = last[0].end()
    assert ended.exit_code == ExitCode.OK, ended.log
    assert [ended.last_words.from_step, last[1].end().last_words.from_step] == [9, 9]
    steps = ended.last_words.step or 0
    seen = [number for rank in two for number in rank.trained_on(0, 7)]
    seen += one[0].trained_on(7, 9)
    seen += [number for rank in last for number in rank.trained_on(9, steps)]
    samples = max(seen) + 1
    assert samples > 40
    assert len(seen) - samples < 2 * 2, "the last step fills up its batches, and no more"
    assert set(seen) == set(range(samples))
    assert result_of(stores, attempts.run_uri, 3).step == steps


@pytest.mark.parametrize("lost", [0, 1])
def test_one_that_is_told_to_stop_does_not_wait_long_for_those_who_do_not_answer(
    attempts: Attempts, to_be_killed: list[TrainerProcess], lost: int
) -> None:
    """As when one node is lost and the pods on the others are deleted: they have 20 s."""
    attempts.spec["training"]["maxSteps"] = 10**6
    ranks = attempts.start_ranks(*[Fault(frozen_at_step=20) if rank == lost else Fault() for rank in (0, 1)])
    to_be_killed.append(ranks[lost])
    ranks[lost].wait_until_it_stands_still()
    ended = ranks[1 - lost].terminate()
    assert ended.exit_code == ExitCode.STOPPED, ended.log
    assert ended.seconds < 18
    assert ended.last_words.checkpoint is not None
    assert ended.last_words.checkpoint.step == ended.last_words.step == 21
    assert ended.last_words.message == f"stopped by SIGTERM; rank {1 - lost} saved step 21"


@pytest.mark.parametrize(
    ("faults", "saver"),
    [
        pytest.param([Fault(at_step=20), Fault(), Fault()], 1, id="rank 0 dead"),
        pytest.param([Fault(), Fault(at_step=20), Fault()], 0, id="rank 1 dead"),
        pytest.param([Fault(at_step=20), Fault(at_step=20), Fault()], 2, id="ranks 0 and 1 dead"),
    ],
)
def test_of_those_who_outlive_a_rank_one_saves(lasting: Attempts, faults: list[Fault], saver: int) -> None:
    lasting.spec["checkpoint"]["everySteps"] = 10**6
    ranks = lasting.start_ranks(*faults)
    ended = [rank.end() for rank, fault in zip(ranks, faults, strict=True) if fault.at_step is None]
    assert {each.exit_code for each in ended} == {ExitCode.PEER_LOST}, ended[0].log
    (saved,) = checkpoints(lasting.run_uri)
    step = int(saved.partition("step-")[2][:8])
    assert step in {20, 21}
    assert ("rank" in saved) == bool(saver)
    for each in ended:
        assert each.last_words.message.endswith(f"; rank {saver} saved step {step}")
        assert each.last_words.checkpoint is not None
        assert each.last_words.checkpoint.uri.endswith(saved.partition("/")[2])


def test_a_rank_that_was_away_finds_that_another_has_saved(lasting: Attempts) -> None:
    lasting.spec["checkpoint"]["everySteps"] = 10**6
    ranks = lasting.start_ranks(Fault(frozen_at_step=20), Fault())
    ranks[0].wait_until_it_stands_still()
    other = ranks[1].end()
    assert other.last_words.message.endswith("; rank 1 saved step 21")
    before = checkpoints(lasting.run_uri)
    ranks[0].thaw()
    thawed = ranks[0].end()
    assert thawed.exit_code == ExitCode.PEER_LOST, thawed.log
    assert thawed.last_words.message.endswith("; rank 1 saved step 21")
    assert checkpoints(lasting.run_uri) == before


def test_a_rank_that_was_away_saves_nothing_once_a_newer_attempt_has_begun(attempts: Attempts) -> None:
    """And says that it ends because the other is lost, all the same."""
    attempts.spec["checkpoint"]["everySteps"] = 10**6
    ranks = attempts.start_ranks(Fault(frozen_at_step=5), Fault())
    ranks[0].wait_until_it_stands_still()
    ranks[1].kill()
    newer = attempts.start_ranks(Fault(), Fault())
    assert [code for code, _ in ends(newer)] == [ExitCode.OK] * 2
    before = checkpoints(attempts.run_uri)
    ranks[0].thaw()
    thawed = ranks[0].end()
    assert thawed.exit_code == ExitCode.PEER_LOST, thawed.log
    assert thawed.last_words.message.startswith("rank 1 (")
    assert thawed.last_words.message.endswith(
        "; step 6 is not saved: attempt 2 has taken over; attempt 1 ends without a trace"
    )
    assert checkpoints(attempts.run_uri) == before


def test_without_a_cluster_any_rank_saves_in_the_attempt_that_rank_0_has_counted(
    attempts: Attempts, tmp_path: Path
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(json.dumps({"metadata": {"name": "job"}, "spec": attempts.spec}))
    attempts.arguments = [f"--spec={file}", f"--output-dir={tmp_path}/out"]
    for step in (4, 8):
        ranks = attempts.start_ranks(Fault(at_step=step), Fault())
        assert ranks[1].end().last_words.message.endswith(f"; rank 1 saved step {step + 1}")
    saved = checkpoints(f"file://{tmp_path}/out/runs/job")
    assert [name[:-8] for name in saved if "rank" in name] == ["1/step-00000005-rank1_", "2/step-00000009-rank1_"]
    folder = tmp_path / "out/runs/job/attempts/2/checkpoints" / saved[-1].partition("/")[2]
    losses = json.loads((folder / "state.json").read_text())["losses"]
    assert [point[0] for point in losses] == list(range(1, 10)), "of both attempts"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({Env.NNODES: "3"}, id="another number of ranks"),
        pytest.param({Env.SPEC: "rank 8"}, id="another spec"),
    ],
)
def test_ranks_that_do_not_belong_together_say_so(
    attempts: Attempts, to_be_killed: list[TrainerProcess], changes: dict[str, str]
) -> None:
    if Env.SPEC in changes:
        changes = {Env.SPEC: json.dumps({**attempts.spec, "lora": {"rank": 8}})}
    ranks = attempts.start_ranks(Fault(), Fault(), of_rank_1=changes)
    to_be_killed.extend(ranks)
    ended = ranks[0].end()
    assert ended.exit_code == ExitCode.USAGE, ended.log
    assert "were not told the same" in ended.last_words.message
    assert "Traceback" not in ended.log


def test_a_port_that_is_taken_is_said(attempts: Attempts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = attempts.run(
            **{Env.NNODES: "2", Env.NODE_RANK: "0", Env.MASTER_ADDR: "127.0.0.1", Env.MASTER_PORT: port}
        )
    assert ended.exit_code == ExitCode.TEMPORARY, ended.log
    expected = f"rank 0 cannot listen on port {port} (Address already in use); choose another PET_MASTER_PORT"
    assert ended.last_words.message == expected


@pytest.fixture
def lasting(attempts: Attempts) -> Attempts:
    """A run that would take very long."""
    attempts.spec["training"]["maxSteps"] = 10**6
    return attempts


@pytest.fixture
def to_be_killed() -> Iterator[list[TrainerProcess]]:
    """Processes that do not end by themselves."""
    doomed: list[TrainerProcess] = []
    yield doomed
    for each in doomed:
        each.kill()


@pytest.mark.parametrize(
    ("faults", "lost", "sentence"),
    [
        pytest.param([Fault(), Fault(at_step=20)], 1, "is gone: no sign of life for", id="dead"),
        pytest.param([Fault(at_step=20), Fault()], 0, "is gone: ", id="rank 0 dead"),
        pytest.param([Fault(), Fault(frozen_at_step=20)], 1, "is gone: no sign of life for", id="frozen"),
        pytest.param([Fault(frozen_at_step=20), Fault()], 0, "is gone: it has not answered for", id="rank 0 frozen"),
        pytest.param(
            [Fault(), Fault(hung_at_step=20)], 1, "hangs: it is alive, but has kept the others waiting for", id="hung"
        ),
        pytest.param(
            [Fault(hung_at_step=20), Fault()],
            0,
            "hangs: it is alive, but has kept the others waiting for",
            id="rank 0 hung",
        ),
    ],
)
def test_a_lost_rank_ends_the_others_who_say_which_it_was(
    lasting: Attempts, to_be_killed: list[TrainerProcess], faults: list[Fault], lost: int, sentence: str
) -> None:
    ranks = lasting.start_ranks(*faults)
    to_be_killed.append(ranks[lost])
    ranks[lost].wait_until_it_stands_still()
    begun = time.monotonic()
    ended = ranks[1 - lost].end()
    assert ended.exit_code == ExitCode.PEER_LOST, ended.log
    assert ended.last_words.message.startswith(f"rank {lost} (")
    assert sentence in ended.last_words.message
    assert "Traceback" not in ended.log
    assert time.monotonic() - begun < LOSS_SECONDS
    assert ended.last_words.checkpoint is not None
    assert ended.last_words.checkpoint.step == ended.last_words.step == 21, "the other saves what there is"
    assert ended.last_words.message.endswith(f"; rank {1 - lost} saved step 21")
