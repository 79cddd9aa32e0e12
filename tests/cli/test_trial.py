"""What `helm test` runs; tests/cluster/test_helm_test.py has Helm run it."""

from __future__ import annotations

import inspect
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from perdure_api.spec import TrainingJobSpec
from perdure_api.status import UNSEEN
from perdure_cli import trial_pod
from perdure_cli.errors import NoCluster
from perdure_cli.job import Job, read_job
from perdure_cli.trial import Clock, Trial, TrialFailed, training_job
from perdure_operator import certificates
from tests.cli import documents

PROGRESS = {"progress": {"step": 1, "totalSteps": 1, "percent": 100}}
SUCCEEDED = {**documents.SUCCEEDED, **PROGRESS}
DOCUMENT = training_job("perdure-test", "registry.example.com/perdure-cpu:1", {})
SECONDS = 30.0


@dataclass
class Remembered:
    """A namespace in which one status follows another, one at each look."""

    statuses: list[dict[str, Any]] = field(default_factory=list)
    job: Job | None = None
    done: list[str] = field(default_factory=list)

    def find(self, name: str) -> Job | None:
        if self.job and not self.job.deleting and self.statuses:
            self.job = read_job({**self.document(self.job.uid), "status": self.statuses.pop(0)})
        return self.job

    def create(self, document: dict[str, Any]) -> Job:
        self.done.append("created")
        self.job = read_job({**self.document("new"), "status": {}})
        return self.job

    def delete(self, job: Job) -> None:
        self.done.append(f"deleted {job.uid}")
        self.job = None

    @staticmethod
    def document(uid: str) -> dict[str, Any]:
        metadata = {"name": "perdure-test", "namespace": "team-a", "uid": uid, "creationTimestamp": documents.CREATED}
        return {"metadata": metadata, "spec": DOCUMENT["spec"]}


@dataclass
class Ticking:
    """Time that passes only while somebody sleeps."""

    seconds: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def trial(namespace: Remembered) -> tuple[Trial, list[str]]:
    time, said = Ticking(), list[str]()
    return Trial(namespace, DOCUMENT, SECONDS, Clock(lambda: time.seconds, time.sleep), said.append), said


def test_a_job_that_succeeds_is_followed_step_by_step_and_deleted() -> None:
    namespace = Remembered([{}, documents.RUNNING, documents.RUNNING, SUCCEEDED])
    tried, said = trial(namespace)

    tried.run()

    assert namespace.done == ["created", "deleted new"]
    assert said[0] == "TrainingJob team-a/perdure-test is made."
    assert said[-1] == "TrainingJob team-a/perdure-test is deleted."
    phases = [line.partition(" ")[0] for line in said[1:-1]]
    assert phases == ["Pending", "Running", "Succeeded"], "a line for each change, and no more"


@pytest.mark.parametrize(
    ("statuses", "sentence"),
    [
        pytest.param(
            [documents.RUNNING, documents.FAILED],
            rf"team-a/perdure-test failed \({documents.FAILED['reason']}\), expected it to succeed: ",
            id="failed",
        ),
        pytest.param(
            [{**documents.SUCCEEDED, "progress": None}],
            "succeeded and its status shows no progress, expected step 1",
            id="no progress",
        ),
        pytest.param(
            [UNSEEN], "nobody has looked at .* within 30 s.* is team-a among watchNamespaces", id="no operator"
        ),
        pytest.param(
            [{**documents.RUNNING, "observedGeneration": 1}],
            "has not ended after 30 s, expected it to succeed; it says: Run",
            id="slow",
        ),
    ],
)
def test_a_job_that_does_not_succeed_is_told_in_a_sentence_and_deleted(
    statuses: list[dict[str, Any]], sentence: str
) -> None:
    namespace = Remembered(list(statuses))

    with pytest.raises(TrialFailed, match=sentence):
        trial(namespace)[0].run()

    assert namespace.done == ["created", "deleted new"]


def test_a_cluster_that_stops_to_answer_does_not_leave_the_job_there() -> None:
    class Away(Remembered):
        def find(self, name: str) -> Job | None:
            if self.job:
                raise NoCluster("away")
            return None

    namespace = Away()

    with pytest.raises(NoCluster):
        trial(namespace)[0].run()

    assert namespace.done == ["created", "deleted new"]


def test_what_an_earlier_trial_left_behind_goes_first() -> None:
    namespace = Remembered(job=read_job(Remembered.document("old")))
    tried, _ = trial(namespace)
    finds = iter([replace(namespace.job, deleting=False) if namespace.job else None])
    look = namespace.find
    namespace.find = lambda name: next(finds, None) or look(name)  # type: ignore[method-assign]
    namespace.statuses = [SUCCEEDED]

    tried.run()

    assert namespace.done == ["deleted old", "created", "deleted new"]


def test_what_is_left_behind_for_ever_is_told() -> None:
    old = replace(read_job(Remembered.document("old")), deleting=True)
    namespace = Remembered(job=old)

    with pytest.raises(TrialFailed, match="of an earlier test is still being deleted after 30 s"):
        trial(namespace)[0].run()

    assert namespace.done == []


def test_somebody_elses_job_of_the_same_name_is_not_taken_for_it() -> None:
    namespace = Remembered()
    tried, _ = trial(namespace)
    create = namespace.create

    def replaced(document: dict[str, Any]) -> Job:
        made = create(document)
        namespace.job = read_job(Remembered.document("other"))
        return made

    namespace.create = replaced  # type: ignore[method-assign]

    with pytest.raises(TrialFailed, match="was deleted by somebody"):
        tried.run()


def test_the_job_is_one_that_the_api_takes() -> None:
    resources = {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "dedicated", "operator": "Exists"}]}
    spec = TrainingJobSpec.from_wire(training_job("t", "registry/i:1", resources)["spec"])

    assert spec.trainer
    assert spec.retry
    assert spec.resources
    assert spec.trainer.image == "registry/i:1"
    assert spec.retry.max_attempts == 1
    assert spec.resources.node_selector == {"a": "b"}
    assert [each.key for each in spec.resources.tolerations] == ["dedicated"]


@dataclass
class Receiver:
    """A progress receiver over TLS that answers as it is told."""

    folder: Path
    status: int = 200
    reports: list[tuple[str | None, Any]] = field(default_factory=list)

    def environment(self, port: int) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PERDURE_PROGRESS_URL": f"https://localhost:{port}/v1/progress",
            "PERDURE_PROGRESS_TOKEN_FILE": str(self.folder / "token"),
            "PERDURE_PROGRESS_CA_FILE": str(self.folder / "ca.crt"),
        }


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[Receiver, dict[str, str]]]:
    receiver = Receiver(tmp_path)
    bundle = certificates.renewed({}, ("localhost",), datetime.now(UTC))
    assert bundle
    for name, content in bundle.to_data().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "token").write_text("a-token")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.reports.append((self.headers["Authorization"], json.loads(body)))
            self.send_response(receiver.status)
            self.end_headers()
            self.wfile.write(b"not today")

        def log_message(self, *arguments: object) -> None:
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield receiver, receiver.environment(server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()


def run_pod(tmp_path: Path, environment: dict[str, str]) -> tuple[int, str]:
    """The exit code of a pod that is not patient, and its last words."""
    log = tmp_path / "termination-log"
    source = inspect.getsource(trial_pod).replace("TRIES = 20", "TRIES = 1").replace("/dev/termination-log", str(log))
    result = subprocess.run(
        [sys.executable, "-I", "-c", source], env=environment, capture_output=True, text=True, check=False
    )
    return result.returncode, log.read_text() if log.exists() else result.stderr


def test_the_pod_reports_as_the_receiver_reads_it(receiver: tuple[Receiver, dict[str, str]], tmp_path: Path) -> None:
    desk, environment = receiver

    assert run_pod(tmp_path, environment) == (0, "")

    ((who, report),) = desk.reports
    assert who == "Bearer a-token"
    assert report["trainerStatus"]["progressPercentage"] == 100
    assert {each["name"]: each["value"] for each in report["trainerStatus"]["metrics"]} == {
        "current_step": "1",
        "total_steps": "1",
    }


def test_a_pod_whose_report_is_refused_ends_for_good_and_says_why(
    receiver: tuple[Receiver, dict[str, str]], tmp_path: Path
) -> None:
    desk, environment = receiver
    desk.status = 503

    code, words = run_pod(tmp_path, environment)

    assert code == 64
    assert words.startswith("the pod of the test runs, and found an answer of 503 to its report: not today")


def test_a_pod_that_reaches_no_receiver_says_so(receiver: tuple[Receiver, dict[str, str]], tmp_path: Path) -> None:
    _, environment = receiver
    nobody = {**environment, "PERDURE_PROGRESS_URL": "https://localhost:1/v1/progress"}

    assert "found no answer to its report" in run_pod(tmp_path, nobody)[1]
    assert "found no PERDURE_PROGRESS_URL" in run_pod(tmp_path, {"PATH": environment["PATH"]} | {
        name: value for name, value in environment.items() if name != "PERDURE_PROGRESS_URL"
    })[1]  # fmt: skip
