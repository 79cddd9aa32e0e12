"""The GPU pool in the cluster, with tiny models on CPUs: killed, upgraded under load, and asked as the guide says."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import obstore
import pytest
from obstore.store import S3Store
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter

from bench.cluster import usage
from bench.cluster.tasks import Course, Task, tasks
from perdure_api.inference import BatchEmbedResult
from perdure_api.uri import parse_uri
from perdure_control.factory import start_workflow
from perdure_data.stores import Stores
from perdure_workers.messages import ActivityName
from tests.cluster.commands import install, temporal_address, told
from tests.cluster.conftest import BUCKET, Document, Kubectl, wait_until
from tests.docs.markdown import blocks
from tests.inference.tiny import DIMENSION, write_encoder, write_generator
from tests.trainer.tiny import documents
from tests.workers.gpu import noted

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(300)]

GUIDE: Final = "docs/guides/inference.md"
DOCUMENTS: Final = "docs/guides/documents.md"
EVALUATE: Final = "docs/guides/evaluate.md"
FOLDER: Final = f"{BUCKET}/gpu-pool-{os.getpid()}"
WORKERS: Final = 2
VALUES: Final[dict[str, object]] = {
    "enabled": True,
    "replicas": WORKERS,
    "gpus": 0,
    "resources.requests": {"cpu": "100m", "memory": "1Gi"},
    "modelsLoadedFirst": [f"{FOLDER}/models/wide"],
}
FILES, ROWS = 8, 250
LINES: Final = 10_000
TEXTS: Final = 60
"""Of each small task: a fraction of a second for the wide encoder."""
AT_A_TIME: Final = 2 * WORKERS
"""Small tasks that wait or are done at any moment: no worker is ever without one."""


def values(**more: object) -> list[str]:
    """What the chart is installed with."""
    return [f"--set-json=gpuWorker.{name}={json.dumps(value)}" for name, value in {**VALUES, **more}.items()]


@pytest.fixture(scope="module")
def pool(system: Kubectl, stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The installation with workers that ask models, of which it has none again afterwards."""
    folder = tmp_path_factory.mktemp("gpu-pool")
    write_encoder(folder / "models" / "all-minilm-l6-v2")
    write_encoder(folder / "models" / "wide", width=256)
    write_generator(folder / "models" / "smollm2-135m")
    texts = [f"{number} {text} {text}" for number, text in enumerate(documents(FILES * ROWS))]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "datasets" / "bible").mkdir(parents=True)
    lines = [json.dumps({"text": text}) for text in documents(30)]
    (folder / "datasets" / "bible" / "train.jsonl").write_text("\n".join(lines))
    for file in folder.rglob("*"):
        if file.is_file():
            stores.put(parse_uri(f"{FOLDER}/{file.relative_to(folder)}"), file.read_bytes())
    try:
        install(*values())
        yield
    finally:
        install()
        for each in stores.list_objects(parse_uri(FOLDER)):
            stores.delete(each.uri)


async def connect(system: Kubectl) -> Client:
    return await Client.connect(temporal_address(system), data_converter=pydantic_data_converter)


async def begin(client: Client, name: str, **given: object) -> WorkflowHandle[Any, BatchEmbedResult]:
    """Vectors by the wide encoder, under an id of this run's own."""
    wish = {"model": f"{FOLDER}/models/wide", **given}
    return (await start_workflow(client, "batch_embed", wish, f"gpu-pool-{os.getpid()}-{name}")).handle


async def begin_with_files(client: Client, name: str) -> WorkflowHandle[Any, BatchEmbedResult]:
    return await begin(
        client, name, source={"uri": f"{FOLDER}/texts.jsonl"}, output=f"{FOLDER}/{name}", rowsPerFile=ROWS
    )


async def tasks_of(handle: WorkflowHandle[Any, Any]) -> list[Task]:
    """What became of its embedding, by Temporal."""
    return tasks((await handle.fetch_history()).events, ActivityName.EMBED_TEXTS)


def pods(system: Kubectl) -> list[Document]:
    """Of the pool, without those that stop."""
    found = system.items("pods", "-l", "app.kubernetes.io/component=gpu-worker")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def names_of(found: list[Document]) -> set[str]:
    return {pod["metadata"]["name"] for pod in found}


def kill(system: Kubectl, name: str) -> None:
    """Ends a worker's processes as the kernel does that runs out of memory: nothing is said, nothing finished."""
    (pod,) = [each for each in pods(system) if each["metadata"]["name"] == name]
    processes = usage.in_pods({pod["metadata"]["uid"]: name})[name]
    assert processes, f"{name} has no process"
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)


def files(stores: Stores, result: BatchEmbedResult) -> dict[str, bytes]:
    """What a run has written, by the files' names."""
    found = stores.list_objects(parse_uri(str(result.uri)))
    return {Path(each.uri.path).name: stores.read(each.uri, limit_bytes=1 << 24) for each in found}


def written_at(folder: str) -> dict[str, datetime]:
    """When each file of a run was written, by the store's own clock."""
    uri = parse_uri(folder)
    store = S3Store(uri.bucket, client_options={"allow_http": True})
    found = [meta for chunk in obstore.list(store, prefix=uri.path.strip("/")) for meta in chunk]
    return {Path(meta["path"]).name: meta["last_modified"] for meta in found}


async def until_told(handle: WorkflowHandle[Any, Any], at_least: int) -> int:
    """Waits until a heartbeat tells that so many rows are in the store; how many it tells."""
    async with asyncio.timeout(60):
        while (rows := int((await noted(handle)).get("rows", 0))) < at_least:  # noqa: ASYNC110 - a server is asked
            await asyncio.sleep(0.02)
    return rows


async def worker_of(handle: WorkflowHandle[Any, Any]) -> str:
    """Which pod has the embedding that a workflow waits for."""
    (activity,) = (await handle.describe()).raw_description.pending_activities
    return str(activity.last_worker_identity)


async def test_gpu_worker_crashes_mid_activity_and_batch_embed_has_identical_output(
    system: Kubectl, stores: Stores, pool: None
) -> None:
    """What was told is not done again; another worker goes on where the killed one said that it was."""
    client = await connect(system)
    undisturbed = await (await begin_with_files(client, "undisturbed")).result()

    handle = await begin_with_files(client, "killed")
    done = await until_told(handle, at_least=2 * ROWS)
    kill(system, await worker_of(handle))
    assert done < FILES * ROWS, "it was over before it was killed"
    killed_at = time.time()
    result = await handle.result()

    assert len(files(stores, result)) == FILES
    assert files(stores, result) == files(stores, undisturbed)
    kept = sorted(written_at(str(result.uri)).items())[: done // ROWS]
    assert all(moment.timestamp() < killed_at for _, moment in kept), kept
    (task,) = await tasks_of(handle)
    assert (task.course, task.attempts) == (Course.BEGUN_AGAIN, 2), task
    assert result.model_copy(update={"uri": "", "seconds": 0.0}) == undisturbed.model_copy(
        update={"uri": "", "seconds": 0.0}
    )


async def test_an_upgrade_under_load_loses_no_task_and_does_none_twice(system: Kubectl, pool: None) -> None:
    """Pods are replaced one by one while small tasks come in all the time, more than the workers take at once.

    By Temporal's histories every task was scheduled once and is done, by the first worker that began; or by the one
    that it was handed over to by a worker that stopped before it had computed anything. None waited for a timeout.
    """
    client = await connect(system)
    before = names_of(pods(system))
    after: set[str] = set()
    found: list[Task] = []
    numbers = itertools.count()

    async def upgrade() -> None:
        await asyncio.to_thread(install, *values(podAnnotations={"tests/upgrade": "again"}))
        after.update(names_of(await asyncio.to_thread(pods, system)))

    async def small_tasks() -> None:
        while not after or not after <= {task.worker for task in found}:
            number = next(numbers)
            texts = [f"{number} {text}" for text in documents(TEXTS, seed=number)]
            handle = await begin(client, f"small-{number}", texts=texts)
            assert (await handle.result()).count == TEXTS
            found.extend(await tasks_of(handle))

    async with asyncio.TaskGroup() as group:
        group.create_task(upgrade())
        for _ in range(AT_A_TIME):
            group.create_task(small_tasks())

    assert (len(before), len(after), before & after) == (WORKERS, WORKERS, set())
    assert len(found) == next(numbers), "a task was scheduled more than once, or never"
    courses = Counter(task.course for task in found)
    assert courses.keys() <= {Course.ONCE, Course.HANDED_OVER}, [task for task in found if task.course != Course.ONCE]
    assert courses[Course.HANDED_OVER] <= WORKERS, "each old worker had one slot, so one task to hand over at most"
    assert before & {task.worker for task in found}, "the load began after the upgrade"


def types(system: Kubectl, folder: Path, input_: str, shell: str) -> Any:
    """What a command of the guide prints, as JSON; typed where Temporal is known by its address alone."""
    (folder / "input.yaml").write_text(input_)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TEMPORAL_ADDRESS": temporal_address(system),
        "TEMPORAL_CONFIG_FILE": str(folder / "none.toml"),
    }
    said = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", shell], cwd=folder, env=environment,
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert said.returncode == 0, f"{shell}\n{said.stdout}{said.stderr}"
    return json.loads(said.stdout)


def block(language: str, number: int, page: str = GUIDE) -> str:
    """A block of a guide, its URIs led to this run's folder; a tiny model is a folder."""
    text = [each.text for each in blocks(language) if each.page == page][number]
    return re.sub(r"s3://perdure/(\S+?)(?:/smollm2-135m\.gguf)?(?=[\s\"]|$)", rf"{FOLDER}/\1", text)


def shell_of(name: str) -> str:
    (found,) = [
        each.text for each in blocks("sh") if each.page == GUIDE and each.text.startswith(f"perdure run {name}")
    ]
    return found


def test_vectors_and_answers_are_asked_for_as_the_guide_says(
    system: Kubectl, stores: Stores, pool: None, tmp_path: Path
) -> None:
    inline = types(system, tmp_path, block("yaml", 0), shell_of("batch_embed"))
    stored = types(system, tmp_path, block("yaml", 1), shell_of("batch_embed"))
    answer = types(system, tmp_path, block("yaml", 2), shell_of("prepare_and_infer"))

    assert [len(row) for row in inline["vectors"]] == [DIMENSION] * 2
    assert stored["count"] == 30
    assert [Path(each.uri.path).suffix for each in stores.list_objects(parse_uri(stored["uri"]))] == [".parquet"]
    assert answer["completionTokens"] == 60
    assert answer["text"]
    wait_until(lambda: len(pods(system)) == WORKERS, 1, lambda: "a worker has ended")


def test_ten_thousand_lines_are_ingested_and_searched_as_the_guide_says(
    system: Kubectl, stores: Stores, pool: None, tmp_path: Path
) -> None:
    lines = [f"Line {number}: {text}" for number, text in enumerate(documents(LINES))]
    for first in range(0, LINES, LINES // 100):
        content = "\n\n".join(lines[first : first + LINES // 100])
        stores.put(parse_uri(f"{FOLDER}/documents/{first:05}.txt"), content.encode())
    ingest, search = (block("sh", number, DOCUMENTS) for number in range(2))
    # The tiny encoder reads 48 tokens of a chunk: none begins like another.
    wish, run = f"{block('yaml', 0, DOCUMENTS)}chunkOverlap: 0\n", ingest.replace("documents.yaml", "input.yaml")

    ingested, again = (types(system, tmp_path, wish, run) for _ in range(2))
    shown = types(system, tmp_path, "", f"{search.strip()} -o json")["hits"]
    same = search.replace('"Who made the heaven?"', shlex.quote(shown[1]["text"]))
    (found, _) = types(system, tmp_path, "", f"{same.strip()} -o json")["hits"]

    assert (ingested["documents"], ingested["written"], ingested["refused"]) == (100, 100, 0)
    assert (again["unchanged"], again["written"]) == (100, 0)
    assert len(shown) == 2
    assert (found["document"], found["start"]) == (shown[1]["document"], shown[1]["start"])
    assert found["score"] == pytest.approx(1.0, abs=1e-4)
    document = stores.read(parse_uri(found["document"]), limit_bytes=1 << 20).decode()
    assert document[found["start"] : found["end"]] == found["text"]


def test_a_suite_is_scored_as_the_guide_says(system: Kubectl, stores: Stores, pool: None, tmp_path: Path) -> None:
    suite, wish = (block("yaml", number, EVALUATE) for number in range(2))
    stores.put(parse_uri(f"{FOLDER}/suites/geography.yaml"), suite.encode())

    verdict = types(system, tmp_path, wish, block("sh", 0, EVALUATE).replace("eval.yaml", "input.yaml"))

    assert (verdict["n"], verdict["passed"]) == (3, True)
    assert 0 <= verdict["interval"]["low"] <= verdict["score"] <= verdict["interval"]["high"] <= 1
    assert verdict["uri"] == f"{FOLDER}/results/base.json"


def test_each_worker_tells_how_many_slots_it_has(system: Kubectl, pool: None) -> None:
    """Where a Prometheus finds it, by the PodMonitor; and to those who look at `/readyz`."""
    metrics, ready = told(system, "gpu-worker", "/metrics"), told(system, "gpu-worker", "/readyz")

    assert metrics.count('perdure_worker_slots{queue="perdure-gpu"} 1.0') == WORKERS
    assert metrics.count('perdure_worker_slots_used{queue="perdure-gpu"} 0.0') == WORKERS
    assert ready.count("polling for models: ok") == WORKERS
