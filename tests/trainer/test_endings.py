"""Each row of docs/reference/endings.md, made to happen."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

from perdure_api.exit_codes import ExitCode
from perdure_api.pod import Env
from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from tests.conftest import ObjectStore
from tests.docs.markdown import table_rows
from tests.trainer.conftest import Attempts, Tiny, spec
from tests.trainer.process import Ended, Fault
from tests.trainer.speech import tiny as speech_tiny
from tests.trainer.surroundings import Surroundings
from tests.trainer.test_encoding import FORGETS, REFUSES
from tests.trainer.test_progress import Receiver
from tests.trainer.tiny import SENTENCE, WORDS
from tests.trainer.troubled_store import OldListings, Trouble, every_second_fails, slow, troubled

pytestmark = pytest.mark.slow

PAGE: Final = "docs/reference/endings.md"
ENDINGS, GOING_ON = table_rows(PAGE)
KIBIBYTE, GIBIBYTE = 2**10, 2**30


@dataclass(frozen=True)
class Scene:
    """A run on a file system, and room for what is wrong with it."""

    attempts: Attempts
    folder: Path

    def given(self, **parts: dict[str, Any]) -> Scene:
        """With other parts of the spec."""
        for name, part in parts.items():
            self.attempts.spec[name] = self.attempts.spec.get(name, {}) | part
        return self

    def dataset(self, content: str | bytes, name: str = "given.jsonl") -> Scene:
        """With another dataset."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.given(dataset={"uri": f"file://{path}"})

    def records(self, *records: dict[str, Any]) -> Scene:
        """With these records as its dataset."""
        return self.dataset("".join(f"{json.dumps(record)}\n" for record in records))

    def within(self, **poor: Any) -> Scene:
        """In poor surroundings."""
        self.attempts.surroundings = Surroundings(**poor)
        return self

    def model(self, change: Callable[[Path], object]) -> Scene:
        """With a base model of which a folder was changed."""
        copy = self.folder / "model"
        shutil.copytree(self.attempts.spec["model"]["uri"].removeprefix("file://"), copy)
        change(copy)
        return self.given(model={"uri": f"file://{copy}"})

    def speech(self, *names: str) -> Scene:
        """With a tiny model of speech, and these recordings, else all that there are."""
        speech_tiny.write_model(self.folder / "csm")
        clips = [json.loads(line) for line in speech_tiny.CLIPS.read_text().splitlines()]
        chosen = [{"audio": name, "text": clips[0]["text"]} for name in names] or clips
        for path in speech_tiny.CLIPS.parent.glob("*.wav"):
            shutil.copy(path, self.folder)
        return self.records(*chosen).given(
            model={"uri": f"file://{self.folder / 'csm'}"}, training={"batchSize": 2, "sequenceLength": 100}
        )

    @property
    def run_folder(self) -> Path:
        return Path(self.attempts.run_uri.removeprefix("file://"))

    def checkpoints(self) -> list[Path]:
        """Folders of checkpoints, oldest first."""
        return sorted(path.parent for path in self.run_folder.glob("attempts/*/checkpoints/step-*/manifest.json"))

    def ends(self) -> Ended:
        return self.attempts.run()


@pytest.fixture
def scene(attempts: Attempts, tmp_path: Path) -> Scene:
    return Scene(attempts, tmp_path)


def weights_changed(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    """A model's folder with other weights."""

    def in_folder(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return in_folder


@weights_changed
def spoilt(weights: dict[str, torch.Tensor]) -> None:
    weights["model.norm.weight"][0] = torch.nan


def spoilt_for_a_tilde(folder: Path) -> None:
    (token,) = AutoTokenizer.from_pretrained(folder)("~")["input_ids"]

    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights["model.embed_tokens.weight"][token] = torch.nan

    weights_changed(spoil)(folder)


def config_changed(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """A model's folder in which a JSON file says something else."""

    def in_folder(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        change(document)
        (folder / name).write_text(json.dumps(document))

    return in_folder


without_end = config_changed("tokenizer_config.json", lambda found: found.pop("eos_token"))


def with_fewer_words(folder: Path) -> None:
    def cut_off(weights: dict[str, torch.Tensor]) -> None:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            weights[name] = weights[name][:200].clone()

    weights_changed(cut_off)(folder)
    config_changed("config.json", lambda found: found.update(vocab_size=200))(folder)


def of_another_family(folder: Path) -> None:
    MambaForCausalLM(MambaConfig(vocab_size=320, hidden_size=32, state_size=4, num_hidden_layers=2)).save_pretrained(
        folder
    )


def talking(template: str | None) -> Callable[[Scene], Ended]:
    """A conversation, and a tokenizer with this chat template."""

    def case(scene: Scene) -> Ended:
        turns = [{"role": role, "content": "the quick"} for role in ("user", "assistant") * 2]
        if template:
            scene.model(lambda folder: (folder / "chat_template.jinja").write_text(template))
        return scene.records({"messages": turns}).ends()

    return case


def held_out_is_spoilt(scene: Scene) -> Ended:
    held_out = scene.folder / "held-out.jsonl"
    held_out.write_text(json.dumps({"text": f"~ {SENTENCE}"}))
    return (
        scene.model(spoilt_for_a_tilde)
        .given(training={"packing": False}, dataset={"evalUri": f"file://{held_out}"})
        .ends()
    )


def told_different_things(scene: Scene) -> Ended:
    other = json.dumps({**scene.attempts.spec, "lora": {"rank": 8}})
    ranks = scene.attempts.start_ranks(Fault(), Fault(), of_rank_1={Env.SPEC: other})
    ended = ranks[0].end()
    ranks[1].kill()
    return ended


def with_a_port_taken(scene: Scene) -> Ended:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        return scene.attempts.run(
            **{Env.NNODES: "2", Env.NODE_RANK: "0", Env.MASTER_ADDR: "127.0.0.1", Env.MASTER_PORT: port}
        )


def stopped(scene: Scene) -> Ended:
    scene.given(training={"maxSteps": 10**6})
    running = scene.attempts.start()
    running.wait_for((scene.run_folder / "attempts/1/checkpoints/latest.json").exists)
    return running.terminate()


def fenced(scene: Scene) -> Ended:
    scene.given(training={"maxSteps": 10**6})
    older = scene.attempts.start()
    older.wait_for((scene.run_folder / "attempts/1/checkpoints/latest.json").exists)
    (scene.run_folder / "attempts/2").mkdir()
    (scene.run_folder / "attempts/2/started.json").write_text("{}")
    return older.end()


def of_another_course(scene: Scene) -> Ended:
    assert scene.attempts.run(at_step=5).exit_code == -9
    return scene.given(lora={"rank": 2}).ends()


def without_gpu_memory(scene: Scene) -> Ended:
    fault = Fault(raising_at_step=(5, "CUDA out of memory. Tried to allocate 2.00 GiB."))
    return scene.attempts.start_with(fault).end()


def of_a_store_that_stays_away(scene: Scene) -> Ended:
    scene.attempts.environment = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
    }
    scene.given(dataset={"uri": "s3://away/train.jsonl"})
    return scene.attempts.start_with(Fault(patience_seconds=0)).end()


def stopped_on_command(scene: Scene) -> Ended:
    scene.given(training={"maxSteps": 10**6})
    with Receiver() as receiver:
        receiver.answer = (200, b'{"command": "stop"}')
        return scene.attempts.run(**{Env.PROGRESS_URL: receiver.url})


DIVERGING: Final = {"learningRate": 10, "weightDecay": 10, "scheduler": "constant", "maxSteps": 500}
LARGE: Final = {"batchSize": 65536, "sequenceLength": 128}

CASES: Final[dict[str, Callable[[Scene], Ended]]] = {
    "The learning rate is so high that training diverges": lambda scene: scene.given(training=DIVERGING).ends(),
    "The base model's weights hold no numbers": lambda scene: scene.model(spoilt).ends(),
    "The same, without packing": lambda scene: scene.model(spoilt).given(training={"packing": False}).ends(),
    "The held-out data alone meet weights that are no numbers": held_out_is_spoilt,
    "The last update leaves weights that are no numbers": lambda scene: scene.attempts.start_with(
        Fault(endless_at_step=11)
    ).end(),
    "A batch does not fit the memory": lambda scene: (
        scene.given(training=LARGE).within(memory_bytes=2 * GIBIBYTE).ends()
    ),
    "A batch does not fit the GPU": without_gpu_memory,
    "The output has no room left": lambda scene: (
        scene.within(small_disk=(scene.run_folder, 64 * KIBIBYTE)).given(checkpoint={"everySteps": 10**6}).ends()
    ),
    "Checkpoints find no room for long": lambda scene: (
        scene.within(small_disk=(scene.run_folder, 64 * KIBIBYTE))
        .given(checkpoint={"everySteps": 3, "maxFailures": 1}, training={"maxSteps": 10**6})
        .ends()
    ),
    "The folder for temporary files has no room left": lambda scene: scene.within(
        small_disk=(scene.folder / "attempt-1/scratch", 8 * KIBIBYTE)
    ).ends(),
    "The output may not be written": lambda scene: scene.within(read_only=scene.run_folder).ends(),
    "The folder for temporary files may not be written": lambda scene: scene.within(
        read_only=scene.folder / "attempt-1/scratch"
    ).ends(),
    "A store stays away": of_a_store_that_stays_away,
    "There is no dataset": lambda scene: scene.given(dataset={"uri": "file:///nowhere/train.jsonl"}).ends(),
    "The dataset is empty": lambda scene: scene.dataset("").ends(),
    "The documents hold white space only": lambda scene: scene.records({"text": " "}, {"text": "\n"}).ends(),
    "The dataset is one question with its answer": lambda scene: scene.records(
        {"prompt": "the quick", "completion": " brown fox"}
    ).ends(),
    "The text field is missing": lambda scene: scene.records({"text": "a b c"}, {"txt": "d"}).ends(),
    "The labels are empty": lambda scene: scene.records({"prompt": "the quick", "completion": ""}).ends(),
    "The labels are null": lambda scene: scene.records({"prompt": "the quick", "completion": None}).ends(),
    "The assistant never speaks": lambda scene: scene.records(
        {"messages": [{"role": "user", "content": "the quick"}]}
    ).ends(),
    "The tokenizer has no chat template": talking(None),
    "The chat template refuses a conversation": talking(REFUSES),
    "The chat template changes earlier turns": talking(FORGETS),
    "The dataset is not UTF-8": lambda scene: scene.dataset(b'{"text": "a b"}\n{"text": "caf\xe9"}\n').ends(),
    "A line is cut": lambda scene: scene.dataset('{"text": "a b"}\n{"text": "c').ends(),
    "A line never ends": lambda scene: scene.dataset('{"text": "' + "a b " * 2**22).ends(),
    "Recordings, but the model writes": lambda scene: scene.given(
        dataset={"uri": f"file://{speech_tiny.CLIPS}"}
    ).ends(),
    "Text, but the model speaks": lambda scene: scene.speech().records({"text": SENTENCE}).ends(),
    "A recording is missing": lambda scene: scene.speech("lost.wav").ends(),
    "A recording is no WAV file": lambda scene: scene.speech("given.jsonl").ends(),
    "A recording is longer than a sequence": lambda scene: scene.speech().given(training={"sequenceLength": 30}).ends(),
    "One recording is all the data": lambda scene: scene.speech("one-moment-please.wav").ends(),
    "What speech needs is not installed": lambda scene: (
        scene.speech().attempts.start_with(Fault(missing_package="pocketsphinx")).end()
    ),
    "There is no model": lambda scene: scene.given(model={"uri": "file:///nowhere"}).ends(),
    "The target modules do not exist": lambda scene: scene.given(lora={"targetModules": ["q_proj", "query"]}).ends(),
    "The rank is larger than the layer": lambda scene: scene.given(lora={"rank": 17}).ends(),
    "The sequence is longer than the model reads": lambda scene: scene.given(training={"sequenceLength": 129}).ends(),
    "Packed documents would see each other": lambda scene: scene.model(of_another_family).ends(),
    "The tokenizer has no end of a text": lambda scene: scene.model(without_end).ends(),
    "The tokenizer is of another model": lambda scene: scene.model(with_fewer_words).ends(),
    "The run began with another spec, model or dataset": of_another_course,
    "A newer attempt has begun": fenced,
    "SIGTERM or Ctrl-C": stopped,
    "The control plane says stop": stopped_on_command,
    "Somebody starts the container by hand": lambda scene: scene.attempts.run(**{Env.SPEC: ""}),
    "The ranks were told different things": told_different_things,
    "The port of rank 0 is taken": with_a_port_taken,
}


def resumed_after(damage: Callable[[Scene], None]) -> Callable[[Scene], Ended]:
    """A run that was killed behind step 9, damaged, and started again."""

    def case(scene: Scene) -> Ended:
        assert scene.attempts.run(at_step=10).exit_code == -9
        damage(scene)
        return scene.ends()

    return case


def damaged(name: str, damage: Callable[[Path], object]) -> Callable[[Scene], Ended]:
    """The same, with damage done to a file of the newest checkpoint."""

    def on_newest(scene: Scene) -> None:
        damage(scene.checkpoints()[-1] / name)

    return resumed_after(on_newest)


def damaged_everywhere(name: str, damage: Callable[[Path], object]) -> Callable[[Scene], Ended]:
    """The same, with damage done to a file of every checkpoint."""

    def on_every_one(scene: Scene) -> None:
        assert len(scene.checkpoints()) > 1
        for folder in scene.checkpoints():
            damage(folder / name)

    return resumed_after(on_every_one)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def of_the_future(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2, "shards": []}))


def head_to_nowhere(scene: Scene) -> None:
    head = scene.run_folder / "attempts/1/checkpoints/latest.json"
    nowhere = f"file://{head.parent}/step-00000011-deadbeef"
    head.write_text(json.dumps(json.loads(head.read_text()) | {"uri": nowhere, "step": 11}))


def kept_tokens(scene: Scene) -> None:
    (tokens,) = scene.run_folder.glob("tokens/*/tokens.i32-00000")
    flip(tokens)


def without_pictures(scene: Scene) -> Ended:
    attempt = scene.run_folder / "attempts/1"
    attempt.mkdir(parents=True)
    (attempt / "tensorboard").touch()
    (attempt / ".progress.json.next").symlink_to("/dev/full")
    return scene.ends()


def killed_for_memory(scene: Scene) -> Ended:
    """The kernel counts; killing is done here as it does it."""
    counters = [scene.folder / "cgroups" / name for name in ("memory.events", "memory/memory.oom_control")]
    scene.within(cgroups=scene.folder / "cgroups")
    for kills, run in enumerate((lambda: scene.attempts.run(at_step=10), scene.ends)):
        for counter in counters:
            counter.parent.mkdir(parents=True, exist_ok=True)
            counter.write_text(f"oom_kill {kills}\n")
        ended = run()
    return ended


UNHARMED: Final[dict[str, Callable[[Scene], Ended]]] = {
    "The newest checkpoint is cut": damaged("adapter.safetensors", cut),
    "A bit of the newest checkpoint flipped": damaged("optimizer.safetensors", flip),
    "A file of the newest checkpoint is missing": damaged("state.json", Path.unlink),
    "A file too many is in the newest checkpoint": damaged("extra.safetensors", Path.touch),
    "The newest manifest is of a newer trainer": damaged("manifest.json", of_the_future),
    "Every checkpoint is cut": damaged_everywhere("optimizer.safetensors", cut),
    "A bit of every checkpoint flipped": damaged_everywhere("adapter.safetensors", flip),
    "A file of every checkpoint is missing": damaged_everywhere("randomness.safetensors", Path.unlink),
    "A file too many is in every checkpoint": damaged_everywhere("extra.safetensors", Path.touch),
    "The head pointer leads nowhere": resumed_after(head_to_nowhere),
    "The kept tokens are broken": resumed_after(kept_tokens),
    "The kernel kills it for memory": killed_for_memory,
    "Pictures and progress cannot be written": without_pictures,
}
RESUMED_FROM: Final = {"The next older one is taken.": 6, "Training begins anew.": 0}
TROUBLES: Final[dict[str, Callable[[], Trouble]]] = {
    "The store fails every second call": lambda: every_second_fails,
    "The store is slow": lambda: slow,
    "The store's listings are old": OldListings,
}
LONG_ANSWER: Final = [{"prompt": f"{word} " * 30, "completion": f" {word}" * 60} for word in WORDS]
ODD_DATA: Final[dict[str, Callable[[Scene], Scene]]] = {
    "One document is all the data": lambda scene: scene.records({"text": SENTENCE}),
    "A document is longer than a sequence": lambda scene: scene.records(*({"text": f"{SENTENCE} " * 9},) * 9),
    "An answer is longer than a sequence": lambda scene: scene.records(*LONG_ANSWER),
    "A line of 1 MB": lambda scene: scene.records({"text": f"{SENTENCE} " * (2**20 // len(SENTENCE))}),
    "A batch is larger than the dataset": lambda scene: scene.given(training={"batchSize": 200}).records(
        *({"text": SENTENCE},) * 9
    ),
}


def test_every_row_is_made_to_happen_and_every_end_has_a_row() -> None:
    assert [row[0] for row in ENDINGS] == list(CASES)
    assert [row[0] for row in GOING_ON] == [*UNHARMED, *TROUBLES, *ODD_DATA]


@pytest.mark.parametrize("row", ENDINGS, ids=lambda row: row[0])
def test_it_ends_with_this_exit_code_and_sentence(scene: Scene, row: list[str]) -> None:
    title, code, sentence = row
    ended = CASES[title](scene)
    assert (f"`{ended.exit_code}`", ended.exit_code in set(ExitCode)) == (code, True), ended.log
    pattern = ".*".join(re.escape(part) for part in sentence.strip("`").split("…"))
    assert re.fullmatch(pattern, ended.last_words.message), ended.last_words.message
    saved = ended.last_words.checkpoint
    assert saved is None or Path(saved.uri.removeprefix("file://"), "manifest.json").exists()
    assert "Traceback" not in ended.log


@pytest.fixture(scope="session")
def undisturbed(tiny_files: Tiny, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The adapter of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    attempts = Attempts(f"file://{folder}/run", spec(tiny_files), folder)
    assert attempts.run().exit_code == ExitCode.OK
    return adapter_of(attempts)


def adapter_of(attempts: Attempts) -> bytes:
    uri = parse_uri(attempts.run_uri).child("attempts", str(attempts.started), "adapter", "adapter_model.safetensors")
    return Stores().read(uri, limit_bytes=2**20)


def going_on(cases: Collection[str]) -> list[list[str]]:
    return [row for row in GOING_ON if row[0] in cases]


def events(ended: Ended) -> set[str]:
    """The names of the events in a log, set as code."""
    return {f"`{json.loads(line)['event']}`" for line in ended.log.splitlines() if line.startswith("{")}


@pytest.mark.parametrize("row", going_on(UNHARMED), ids=lambda row: row[0])
def test_a_damage_is_told_of_and_changes_nothing(scene: Scene, undisturbed: bytes, row: list[str]) -> None:
    title, _, event = row
    ended = UNHARMED[title](scene)
    assert ended.exit_code == ExitCode.OK, ended.log
    assert event in events(ended)
    assert ("`checkpoint_broken`" in events(ended)) == (event == "`checkpoint_broken`"), "nothing else is blamed"
    assert ended.last_words.from_step == RESUMED_FROM.get(row[1], 9 if scene.attempts.started > 1 else 0)
    assert adapter_of(scene.attempts) == undisturbed


@pytest.mark.parametrize("row", going_on(TROUBLES), ids=lambda row: row[0])
def test_troubles_of_a_store_lose_no_step_and_change_nothing(
    scene: Scene, undisturbed: bytes, object_store: ObjectStore, s3_folder: str, row: list[str]
) -> None:
    title, _, event = row
    scene.attempts.run_uri = f"{s3_folder}/run"
    with troubled(object_store.endpoint, TROUBLES[title]()) as endpoint:
        scene.attempts.environment = {**object_store.environment, "AWS_ENDPOINT_URL": endpoint}
        killed = scene.attempts.run(at_step=10)
        assert killed.exit_code == -9, killed.log
        ended = scene.ends()
    assert ended.exit_code == ExitCode.OK, ended.log
    assert ended.last_words.from_step == 9
    assert event in events(ended)
    assert adapter_of(scene.attempts) == undisturbed


@pytest.mark.parametrize("row", going_on(ODD_DATA), ids=lambda row: row[0])
def test_odd_data_are_trained_on(scene: Scene, row: list[str]) -> None:
    title, _, event = row
    ended = ODD_DATA[title](scene).ends()
    assert ended.exit_code == ExitCode.OK, ended.log
    assert event in events(ended)
