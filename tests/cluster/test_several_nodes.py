"""Two pods that train as one."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from perdure_data.stores import Stores
from tests.chaos.witness import trainer_processes
from tests.cluster.conftest import Document, Jobs, condition, phase, step
from tests.cluster.shown import adapter_of, events, result_of
from tests.cluster.wishes import of_two_nodes

pytestmark = [pytest.mark.cluster, pytest.mark.early, pytest.mark.timeout(900)]


def rank(jobs: Jobs, name: str, number: int) -> str:
    """Name of the newest attempt's pod of a rank."""
    index = "batch.kubernetes.io/job-completion-index"
    pods = [pod for pod in jobs.pods(name) if pod["metadata"]["labels"][index] == str(number)]
    newest = max(pods, key=lambda pod: int(pod["metadata"]["labels"]["perdure.dev/attempt"]))
    return str(newest["metadata"]["name"])


def test_two_pods_train_as_one_and_rank_0_leaves_the_result(jobs: Jobs, tiny_inputs: Document, stores: Stores) -> None:
    epoch = of_two_nodes(tiny_inputs, epochs=1, batchSize=2, sequenceLength=16)
    jobs.create("two", epoch)
    jobs.create("one", {**epoch, "training": {**epoch["training"], "batchSize": 4}, "resources": {"nodes": 1}})
    two, one = (jobs.finished(name, seconds=480) for name in ("two", "one"))

    assert phase(two) == "Succeeded", two["status"]
    assert [attempt["reason"] for attempt in two["status"]["attempts"]] == ["Completed"]
    results = [result_of(stores, job) for job in (two, one)]
    assert results[0].step == results[1].step
    assert results[0].metrics["tokens"] == results[1].metrics["tokens"], "each sample of the epoch once"
    assert results[0].metrics["eval_loss"] == pytest.approx(results[1].metrics["eval_loss"], rel=1e-3)
    assert len(jobs.pods("two")) == 2
    assert {pod["status"]["phase"] for pod in jobs.pods("two")} == {"Succeeded"}


def test_when_one_pod_dies_whichever_the_attempt_ends_and_the_next_goes_on(
    jobs: Jobs, tiny_inputs: Document, stores: Stores
) -> None:
    jobs.create("loses", of_two_nodes(tiny_inputs, maxSteps=1000))
    saved = []
    for attempt, number in ((1, 1), (2, 0)):
        begun = jobs.until("loses", partial(is_running, attempt=attempt), 240)
        saved.append(newest(jobs.until("loses", partial(has_saved_after, step=newest(begun)), 240)))
        jobs.kubectl("delete", "pod", rank(jobs, "loses", number), "--force", "--grace-period=0")
    job = jobs.finished("loses", seconds=480)

    assert phase(job) == "Succeeded", job["status"]
    attempts = job["status"]["attempts"]
    assert [attempt["reason"] for attempt in attempts] == ["Disrupted", "Disrupted", "Completed"]
    assert 0 < saved[0] < saved[1] <= attempts[2]["fromStep"]
    assert result_of(stores, job).step == 1000


@pytest.fixture(scope="module")
def seldom(tiny_inputs: Document) -> Document:
    """A job that saves seldom."""
    return {**of_two_nodes(tiny_inputs, maxSteps=600), "checkpoint": {"everySteps": 200}}


@pytest.fixture(scope="module")
def undisturbed(jobs: Jobs, seldom: Document) -> Document:
    jobs.create("undisturbed", seldom)
    return jobs.finished("undisturbed", seconds=480)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_pod_that_is_killed_between_two_checkpoints_costs_no_step(
    jobs: Jobs, seldom: Document, undisturbed: Document, stores: Stores, lost: int
) -> None:
    """The other one saves the last step that was whole, whichever it is."""
    killed = f"killed-{lost}"
    jobs.create(killed, seldom)
    begun = jobs.until(killed, lambda job: newest(job) > 0 and step(job) >= newest(job) + 20, 240)
    kill_rank(begun, lost)
    job = jobs.finished(killed, seconds=480)

    assert phase(job) == "Succeeded", job["status"]
    first, second = job["status"]["attempts"]
    saved = second["fromStep"]
    assert saved >= step(begun) > newest(begun)
    assert first["checkpointStep"] == first["toStep"] == saved
    told = f"; rank {1 - lost} saved step {saved}"
    assert first["message"].endswith(told)
    assert any(told in event["message"] for event in events(jobs, killed, first["reason"]))
    results = [result_of(stores, each) for each in (job, undisturbed)]
    assert results[0].metrics["tokens"] == results[1].metrics["tokens"]
    assert adapter_of(stores, job) == adapter_of(stores, undisturbed)


def kill_rank(job: Document, number: int) -> None:
    """SIGKILL to the first process of a rank's pod."""
    uid = job["metadata"]["uid"]
    found = [each.pid for each in trainer_processes() if (each.attempt.uid, each.rank) == (uid, str(number))]
    assert found, f"no process of rank {number} of {job['metadata']['name']} runs on this machine"
    os.kill(min(found), signal.SIGKILL)


def is_running(job: Document, attempt: int) -> bool:
    return phase(job) == "Running" and len(job["status"]["attempts"]) == attempt


def newest(job: Document) -> int:
    """Step of the newest checkpoint."""
    return int(job["status"].get("checkpoint", {}).get("step", 0))


def has_saved_after(job: Document, step: int) -> bool:
    return newest(job) > step


def test_a_rank_that_lost_another_says_which_and_the_next_attempt_goes_on(jobs: Jobs) -> None:
    script = """
import os, time
if os.environ["PERDURE_ATTEMPT"] == "1":
    if os.environ["PET_NODE_RANK"] == "1":
        time.sleep(600)
    time.sleep(3)
    open("/dev/termination-log", "w").write("rank 1 (hangs) hangs")
    raise SystemExit(80)
"""
    wish = jobs.own("python3", "-c", script, resources={"nodes": 2}, retry={"initialIntervalSeconds": 1})
    jobs.create("hangs", wish)
    job = jobs.finished("hangs", seconds=180)

    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["PeerLost", "Completed"]
    assert "rank 1 (hangs) hangs" in jobs.kubectl("describe", "trainingjob", "hangs")


def test_a_trainer_of_ones_own_finds_its_ranks(jobs: Jobs) -> None:
    """What torchrun needs: numbers, and a name that leads to rank 0."""
    script = """
import os, socket, time
rank, host, port = os.environ["PET_NODE_RANK"], os.environ["PET_MASTER_ADDR"], int(os.environ["PET_MASTER_PORT"])
assert rank == os.environ["JOB_COMPLETION_INDEX"] and os.environ["PET_NNODES"] == "2"
if rank == "0":
    server = socket.create_server(("", port))
    server.settimeout(60)
    peer, _ = server.accept()
    assert peer.recv(100) == b"rank 1"
else:
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = socket.create_connection((host, port), 5)
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    connection.sendall(b"rank 1")
"""
    jobs.create("own", jobs.own("python3", "-c", script, resources={"nodes": 2}))
    job = jobs.finished("own", seconds=180)

    assert phase(job) == "Succeeded", job["status"]
    selector = f"perdure.dev/trainingjob-uid={job['metadata']['uid']}"
    assert len(jobs.kubectl.items("services", "-l", selector)) == 1
    jobs.kubectl("delete", "trainingjob", "own", "--timeout=60s")


def test_one_pod_that_fails_ends_all_and_says_why(jobs: Jobs) -> None:
    script = """
import os, time
if os.environ["PET_NODE_RANK"] == "1":
    open("/dev/termination-log", "w").write("no such column: text")
    raise SystemExit(65)
time.sleep(600)
"""
    jobs.create("fails", jobs.own("python3", "-c", script, resources={"nodes": 2}))
    job = jobs.finished("fails", seconds=180)

    assert condition(job, "Succeeded")["status"] == "False"
    assert job["status"]["reason"] == "PermanentError"
    assert "rank 1: no such column: text" in job["status"]["message"]
