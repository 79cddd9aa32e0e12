"""Whole attempts in processes of their own, ended by real signals."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from perdure_api.exit_codes import ExitCode
from perdure_api.pod import Env, ResultDocument
from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from perdure_trainer.checkpoints.repository import committed
from tests.trainer import process
from tests.trainer.conftest import Attempts, Tiny, spec
from tests.trainer.test_progress import Receiver
from tests.trainer.tiny import WORDS

pytestmark = pytest.mark.slow

MEBIBYTE = 2**20


def result_of(stores: Stores, run_uri: str, attempt: int) -> ResultDocument:
    uri = parse_uri(run_uri).child("attempts", str(attempt), "result.json")
    return ResultDocument.model_validate_json(stores.read(uri, limit_bytes=MEBIBYTE))


def adapter_of(stores: Stores, run_uri: str, attempt: int) -> bytes:
    uri = parse_uri(run_uri).child("attempts", str(attempt), "adapter", "adapter_model.safetensors")
    return stores.read(uri, limit_bytes=MEBIBYTE)


@pytest.fixture(scope="session")
def undisturbed(tiny_files: Tiny, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The adapter of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    attempts = Attempts(f"file://{folder}/run", spec(tiny_files), folder)
    assert attempts.run().exit_code == ExitCode.OK
    return adapter_of(Stores(), attempts.run_uri, 1)


@pytest.fixture(params=["file", "s3"])
def anywhere(request: pytest.FixtureRequest, attempts: Attempts) -> Attempts:
    """Attempts at a run on a file system, and on S3 with the data and the model there too."""
    if request.param == "s3":
        folder = request.getfixturevalue("s3_folder")
        attempts.environment = request.getfixturevalue("s3_environment")
        attempts.run_uri = f"{folder}/run"
        for part in ("model", "dataset"):
            place = Path(attempts.spec[part]["uri"].removeprefix("file://"))
            for path in place.iterdir() if place.is_dir() else [place]:
                Stores().put(parse_uri(f"{folder}/{part}/{path.name}"), path.read_bytes())
        attempts.spec["model"]["uri"] = f"{folder}/model"
        attempts.spec["dataset"]["uri"] = f"{folder}/dataset/train.jsonl"
    return attempts


def test_training_lowers_the_held_out_loss_and_says_so(anywhere: Attempts, stores: Stores) -> None:
    anywhere.spec["training"]["maxSteps"] = 60
    ended = anywhere.run()
    assert ended.exit_code == ExitCode.OK, ended.log
    result = result_of(stores, anywhere.run_uri, 1)
    assert result.metrics["eval_loss"] < 0.95 * result.base_metrics["eval_loss"]
    assert result.metrics["perplexity"] == pytest.approx(math.exp(result.metrics["eval_loss"]))
    assert result.metrics["token_accuracy"] > result.base_metrics["token_accuracy"]
    assert result.eval_counts["tokens"] > (result.eval_samples or 0) > 0
    assert (result.job_uid, result.attempt, result.step) == ("uid-1", 1, 60)
    assert result.fingerprints.keys() == {"dataset", "model", "tokenizer", "config"}
    words = ended.last_words
    assert words.result_uri == f"{anywhere.run_uri}/attempts/1/result.json"
    assert (words.step, words.from_step) == (60, 0)
    assert words.checkpoint is not None
    assert words.checkpoint.step == 60
    assert re.fullmatch(r"finished after 60 steps: held-out loss \d\.\d+ before, \d\.\d+ after", words.message)


def test_answers_that_the_adapted_model_gives_exactly_are_counted(
    attempts: Attempts, tmp_path: Path, stores: Stores
) -> None:
    lines = [{"prompt": f"{first} {second} ", "completion": second} for first in WORDS for second in WORDS]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    attempts.spec["dataset"] |= {
        "uri": f"file://{tmp_path / 'answers.jsonl'}",
        "evalUri": f"file://{tmp_path / 'answers.jsonl'}",
    }
    attempts.spec["training"] |= {"maxSteps": 40}
    ended = attempts.run()
    assert ended.exit_code == ExitCode.OK, ended.log
    result = result_of(stores, attempts.run_uri, 1)
    assert result.base_metrics["exact_match"] <= result.metrics["exact_match"] <= result.metrics["token_accuracy"]
    assert 0 < result.eval_counts["answers"] <= len(lines)
    assert result.fingerprints["held_out"] == result.fingerprints["dataset"]


def test_what_people_look_at_is_beside_the_adapter(anywhere: Attempts, stores: Stores) -> None:
    ended = anywhere.run()
    assert ended.exit_code == ExitCode.OK, ended.log
    attempt = parse_uri(anywhere.run_uri).child("attempts", "1")
    card = stores.read(attempt.child("adapter", "README.md"), limit_bytes=MEBIBYTE).decode()
    assert result_of(stores, anywhere.run_uri, 1).fingerprints["dataset"] in card
    assert "](loss.png)" in card
    assert stores.read(attempt.child("adapter", "loss.png"), limit_bytes=MEBIBYTE).startswith(b"\x89PNG")
    events, _ = stores.children(attempt.child("tensorboard"))
    assert [info.size_bytes > 12 * 100 for info in events] == [True]


def test_the_picture_of_a_resumed_run_is_that_of_an_undisturbed_one(attempts: Attempts, stores: Stores) -> None:
    def picture(attempt: int) -> bytes:
        return stores.read(
            parse_uri(attempts.run_uri).child(f"attempts/{attempt}/adapter/loss.png"), limit_bytes=MEBIBYTE
        )

    assert attempts.run(at_step=10).exit_code == -9
    ended = attempts.run()
    assert ended.last_words.from_step == 9, ended.log
    resumed = picture(2)
    attempts.run_uri += "-undisturbed"
    assert attempts.run().last_words.from_step == 0
    assert picture(3) == resumed


def test_a_run_that_fails_leaves_what_tensorboard_reads(anywhere: Attempts, stores: Stores) -> None:
    ended = anywhere.start_with(process.Fault(raising_at_step=(5, "CUDA out of memory"))).end()
    assert ended.exit_code == ExitCode.OUT_OF_MEMORY, ended.log
    events, _ = stores.children(parse_uri(anywhere.run_uri).child("attempts", "1", "tensorboard"))
    assert [info.size_bytes > 5 * 100 for info in events] == [True]


def test_a_disk_without_room_for_pictures_costs_them_and_nothing_else(attempts: Attempts, undisturbed: bytes) -> None:
    attempt = Path(attempts.run_uri.removeprefix("file://")) / "attempts/1"
    attempt.mkdir(parents=True)
    (attempt / "tensorboard").touch()  # where a folder should be
    (attempt / ".progress.json.next").symlink_to("/dev/full")
    ended = attempts.run()
    assert ended.exit_code == ExitCode.OK, ended.log
    lost = [json.loads(line) for line in ended.log.splitlines() if '"journal_page_lost"' in line]
    assert {event["page"]: "No space left on device" in event["message"] for event in lost} == {
        "progress": True,
        "tensorboard": False,
    }
    assert adapter_of(Stores(), attempts.run_uri, 1) == undisturbed


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_program_in_the_card_loads_the_adapter(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempts.run().exit_code == ExitCode.OK
    attempt = Path(attempts.run_uri.removeprefix("file://")) / "attempts/1"
    program = re.search(r"```python\n(.*?)```", (attempt / "adapter/README.md").read_text(), re.DOTALL)
    assert program
    monkeypatch.chdir(attempt)
    loaded: dict[str, Any] = {}
    exec(program[1], loaded)
    weights = load_file(attempt / "adapter/adapter_model.safetensors")
    assert weights
    assert get_peft_model_state_dict(loaded["model"], save_embedding_layers=False).keys() == weights.keys()


def test_progress_is_in_a_file_while_training_goes_on(attempts: Attempts) -> None:
    attempts.spec["training"]["maxSteps"] = 10**6
    path = Path(attempts.run_uri.removeprefix("file://")) / "attempts/1/progress.json"
    running = attempts.start()
    running.wait_for(path.exists)
    first = json.loads(path.read_text())["perdure"]["step"]
    running.wait_for(lambda: json.loads(path.read_text())["perdure"]["step"] > first)
    ended = running.terminate()
    assert json.loads(path.read_text())["perdure"]["step"] == ended.last_words.step


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([{"at_step": 1}], id="before the first save"),
        pytest.param([{"at_step": 7}], id="between saves"),
        pytest.param([{"in_save_of_step": 6}], id="within a save"),
        pytest.param([{"at_step": 4}, {"at_step": 5}, {"in_save_of_step": 9}, {"at_step": 11}], id="four times"),
    ],
)
def test_a_killed_run_ends_with_the_adapter_of_an_undisturbed_one(
    anywhere: Attempts, stores: Stores, undisturbed: bytes, faults: list[dict[str, int]]
) -> None:
    for fault in faults:
        ended = anywhere.run(**fault)
        assert ended.exit_code == -9, ended.log
    ended = anywhere.run()
    assert ended.exit_code == ExitCode.OK, ended.log
    assert adapter_of(stores, anywhere.run_uri, anywhere.started) == undisturbed


def test_an_attempt_says_where_it_went_on(attempts: Attempts) -> None:
    assert attempts.run(at_step=7).exit_code == -9
    words = attempts.run().last_words
    assert words.from_step == 6
    assert words.step == 12


def test_the_next_attempt_reads_tokens_and_not_the_dataset(anywhere: Attempts, undisturbed: bytes) -> None:
    first = anywhere.run(at_step=7)
    assert first.exit_code == -9
    second = anywhere.run()
    assert second.exit_code == ExitCode.OK, second.log
    assert ("tokens_reused" in first.log, "tokens_reused" in second.log) == (False, True)
    assert adapter_of(Stores(), anywhere.run_uri, 2) == undisturbed


def test_a_finished_run_leaves_no_tokens_behind(attempts: Attempts) -> None:
    assert attempts.run().exit_code == ExitCode.OK
    assert not [path for path in Path(attempts.run_uri.removeprefix("file://")).rglob("tokens/**/*") if path.is_file()]


def test_sigterm_saves_what_there_is_and_the_next_attempt_needs_no_step_twice(
    attempts: Attempts, stores: Stores
) -> None:
    attempts.spec["training"]["maxSteps"] = 10**6
    attempts.spec["checkpoint"]["everySteps"] = 50
    running = attempts.start()
    latest = parse_uri(attempts.run_uri).child("attempts/1/checkpoints/latest.json")
    running.wait_for(Path(latest.path).exists)
    ended = running.terminate()
    assert ended.exit_code == ExitCode.STOPPED, ended.log
    assert ended.seconds < 5
    assert ended.last_words.message == "stopped by SIGTERM"
    assert ended.last_words.checkpoint is not None
    assert ended.last_words.checkpoint.step == ended.last_words.step
    second = attempts.start()
    second.wait_for(Path(str(latest.path).replace("attempts/1/", "attempts/2/")).exists)
    assert second.terminate().last_words.from_step == ended.last_words.step


def test_a_checkpoint_on_command_is_of_that_moment_and_the_next_attempt_goes_on_from_it(
    attempts: Attempts, stores: Stores
) -> None:
    attempts.spec["training"]["maxSteps"] = 10**6
    attempts.spec["checkpoint"]["everySteps"] = 10**6
    run = Path(attempts.run_uri.removeprefix("file://"))
    with Receiver() as receiver:
        receiver.answer = (200, b'{"command": "checkpoint"}')
        running = attempts.start(**{Env.PROGRESS_URL: receiver.url})
        try:
            running.wait_for((run / "attempts/1/checkpoints/latest.json").exists)
        finally:
            running.kill()  # it would go on for ever
    newest = committed(info.uri for info in stores.list_objects(parse_uri(attempts.run_uri)))[0]
    told = [report.perdure.step or 0 for report in receiver.reports if report.perdure]
    assert 0 < told[0] <= newest.step < 10**6
    second = attempts.start()
    second.wait_for((run / "attempts/2/progress.json").exists)
    assert second.terminate().last_words.from_step == newest.step


def test_sigterm_before_there_is_anything_to_save_is_an_end_as_well(attempts: Attempts) -> None:
    attempts.spec["training"]["maxSteps"] = 10**6
    ended = attempts.start().terminate_once_it_listens()
    assert ended.exit_code == ExitCode.STOPPED, ended.log
    assert ended.last_words.message == "stopped by SIGTERM"
    assert "Traceback" not in ended.log


def test_an_older_attempt_that_still_runs_ends_when_a_newer_one_has_begun(attempts: Attempts) -> None:
    attempts.spec["training"]["maxSteps"] = 10**6
    zombie = attempts.start()
    run = Path(attempts.run_uri.removeprefix("file://"))
    zombie.wait_for((run / "attempts/1/checkpoints/latest.json").exists)
    newer = attempts.start()
    ended = zombie.end()
    assert ended.exit_code == ExitCode.FENCED, ended.log
    assert ended.last_words.message.startswith("attempt 2 has taken over")
    newer.wait_for((run / "attempts/2/checkpoints/latest.json").exists)
    assert newer.terminate().exit_code == ExitCode.STOPPED


@pytest.mark.parametrize(
    ("parts", "environment", "code", "sentence"),
    [
        pytest.param(
            {"training": {"epochs": 1}}, {}, ExitCode.CONFIG, "has both of maxSteps and epochs", id="both lengths"
        ),
        pytest.param({}, {Env.ATTEMPT: "zero"}, ExitCode.USAGE, "'zero'; expected a whole number", id="attempt"),
        pytest.param({}, {Env.RUN_URI: ""}, ExitCode.USAGE, "PERDURE_RUN_URI is not set", id="no run"),
        pytest.param({}, {Env.SPEC: "{"}, ExitCode.USAGE, "PERDURE_SPEC is no spec", id="broken spec"),
        pytest.param(
            {}, {Env.SPEC: '{"modle": {}}'}, ExitCode.USAGE, "spec.modle: Extra inputs are not permitted", id="typo"
        ),
    ],
)
def test_bad_input_is_an_exit_code_and_a_sentence(
    attempts: Attempts,
    tiny_files: Tiny,
    parts: dict[str, dict[str, Any]],
    environment: dict[str, str],
    code: ExitCode,
    sentence: str,
) -> None:
    attempts.spec = spec(tiny_files, **parts)
    ended = attempts.run(**environment)
    assert (ended.exit_code, sentence in ended.last_words.message) == (code, True), ended.last_words.message
    assert "Traceback" not in ended.log


def test_another_dataset_under_the_same_name_is_noticed(attempts: Attempts, tiny_files: Tiny, tmp_path: Path) -> None:
    copy = tmp_path / "train.jsonl"
    copy.write_bytes(tiny_files.dataset.read_bytes())
    attempts.spec["dataset"]["uri"] = f"file://{copy}"
    assert attempts.run(at_step=5).exit_code == -9
    copy.write_text(copy.read_text() + '{"text": "one more"}\n')
    ended = attempts.run()
    assert (ended.exit_code, "another dataset" in ended.last_words.message) == (ExitCode.CONFIG, True)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_adapter_loads_with_peft_alone(attempts: Attempts, tiny_files: Tiny, stores: Stores) -> None:
    attempts.spec["training"]["maxSteps"] = 60
    assert attempts.run().exit_code == ExitCode.OK
    base = AutoModelForCausalLM.from_pretrained(tiny_files.model)
    folder = Path(attempts.run_uri.removeprefix("file://")) / "attempts/1/adapter"
    tokens = AutoTokenizer.from_pretrained(tiny_files.model)("the quick brown fox jumps", return_tensors="pt")
    ids = tokens["input_ids"]
    with torch.no_grad():
        before = base(input_ids=ids, labels=ids).loss.item()
        after = PeftModel.from_pretrained(base, folder)(input_ids=ids, labels=ids).loss.item()
    assert after < before
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"file://{tiny_files.model}"


def test_a_laptop_needs_no_cluster(tiny_files: Tiny, tmp_path: Path) -> None:
    document = {"metadata": {"name": "here"}, "spec": spec(tiny_files)}
    (tmp_path / "job.yaml").write_text(json.dumps(document))
    arguments = [f"--spec={tmp_path / 'job.yaml'}", f"--output-dir={tmp_path / 'out'}"]
    first = process.start({}, tmp_path / "1", arguments, process.Fault(at_step=7)).end()
    assert first.exit_code == -9
    second = process.start({}, tmp_path / "2", arguments, process.Fault()).end()
    assert second.exit_code == ExitCode.OK, second.log
    assert second.last_words.from_step == 6
    assert second.last_words.result_uri == f"file://{tmp_path}/out/runs/here/attempts/2/result.json"


def test_a_wrong_argument_is_a_usage_error(tmp_path: Path) -> None:
    ended = process.start({}, tmp_path / "1", ["--spek=x"], process.Fault()).end()
    assert ended.exit_code == ExitCode.USAGE
    assert "unrecognized arguments: --spek=x" in ended.log
