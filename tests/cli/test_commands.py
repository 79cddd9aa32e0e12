"""The commands against a real API server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from perdure_api import names
from tests.cli import documents
from tests.conftest import binary

if TYPE_CHECKING:
    from tests.cli.conftest import Cli, Kubelet, Namespace
    from tests.conftest import ApiServer

pytestmark = pytest.mark.cluster

STARTING = {
    "attempts": [{"number": 1, "job": "smol-1", "startTime": "2026-11-22T11:51:00Z"}],
    "attemptCounters": {"started": 1},
}
RUNS = {"running": {"startedAt": "2026-11-22T12:00:00Z"}}
WAITS = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
ENDED = {"terminated": {"exitCode": 137}}


def test_list_shows_the_jobs_of_the_namespace(cli: Cli, namespace: Namespace) -> None:
    namespace.job("one", documents.RUNNING)
    namespace.job("two")

    status, lines = cli("list")

    assert status == 0
    words = [line.split() for line in lines]
    assert words[0][:2] == ["NAME", "PHASE"]
    assert sorted(row[:2] for row in words[1:]) == [["one", "Running"], ["two", "Pending"]]


def test_list_of_all_namespaces_says_which(cli: Cli, namespace: Namespace) -> None:
    namespace.job("one")

    status, lines = cli("list", "-A")

    assert status == 0
    assert [namespace.name, "one"] in [line.split()[:2] for line in lines]


def test_list_of_nothing_says_where(cli: Cli, namespace: Namespace) -> None:
    assert cli("list") == (0, [f"There are no TrainingJobs in namespace {namespace.name}."])


@pytest.mark.parametrize("place", ["before", "after"])
def test_options_may_stand_before_or_after_the_command(cli: Cli, namespace: Namespace, place: str) -> None:
    namespace.job("one")
    where = ("-n", namespace.name)

    running = cli.start(*where, "list") if place == "before" else cli.start("list", *where)

    assert running.end() == 0
    assert "one" in running.lines[1]


def test_watch_tells_each_change_and_how_it_ended(cli: Cli, namespace: Namespace) -> None:
    namespace.job()
    watch = cli.start("watch", "smol", "-n", namespace.name)
    watch.says("Pending")

    namespace.status("smol", documents.RUNNING)
    watch.says("Running · 50 % · step 150 of 300")
    namespace.status("smol", documents.SUCCEEDED)

    assert watch.end() == 0
    assert watch.lines[-1].startswith("Succeeded after 8 min in 2 attempts. Adapter: s3://runs/adapter.")


@pytest.mark.parametrize(
    ("status", "expected"), [(documents.SUCCEEDED, 0), (documents.FAILED, 1)], ids=["succeeded", "failed"]
)
def test_the_exit_status_of_watch_is_that_of_the_job(
    cli: Cli, namespace: Namespace, status: dict[str, Any], expected: int
) -> None:
    namespace.job(status=status)

    assert cli("watch", "smol")[0] == expected


def test_watch_of_a_job_that_is_deleted_ends(cli: Cli, namespace: Namespace) -> None:
    namespace.job()
    watch = cli.start("watch", "smol", "-n", namespace.name)
    watch.says("Pending")

    namespace.delete("smol")

    assert watch.end() == 1
    assert watch.lines[-1] == "smol was deleted before it was finished."


def test_interrupting_watch_leaves_the_job_alone_and_says_so(cli: Cli, namespace: Namespace) -> None:
    namespace.job()
    watch = cli.start("watch", "smol", "-n", namespace.name)
    watch.says("Pending")

    watch.process.send_signal(signal.SIGINT)

    assert watch.end() == 130
    assert "The job goes on" in watch.lines[-1]


def test_describe_tells_the_story_with_its_events(cli: Cli, namespace: Namespace) -> None:
    uid = namespace.job(status=documents.RUNNING)
    about = {"kind": names.KIND, "name": "smol", "namespace": namespace.name, "uid": uid}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": namespace.name},
        "involvedObject": about,
        "type": "Warning",
        "reason": "OutOfMemory",
        "message": "too much",
        "lastTimestamp": "2026-11-22T11:54:00Z",
    }
    namespace.kubectl("create", "-f", "-", document=event)

    status, lines = cli("describe", "smol")

    assert status == 0
    assert f"{namespace.name}/smol: Running" in lines[0]
    assert [line for line in lines if "OutOfMemory  too much" in line]


def test_kubectl_finds_it_as_a_plugin(api_server: ApiServer, namespace: Namespace) -> None:
    namespace.job("one")
    kubectl = binary("kubectl")
    installed = Path(sys.executable).parent
    environment = {
        **os.environ,
        "KUBECONFIG": str(api_server.kubeconfig),
        "PATH": f"{installed}{os.pathsep}{os.environ['PATH']}",
    }

    answer = subprocess.run(
        [kubectl, "perdure", "list", "-n", namespace.name], env=environment, capture_output=True, text=True, check=False
    )

    assert (answer.returncode, answer.stderr) == (0, "")
    assert [line.split()[:2] for line in answer.stdout.splitlines()] == [["NAME", "PHASE"], ["one", "Pending"]]


def test_version_says_both_versions(cli: Cli) -> None:
    status, lines = cli("version")

    assert status == 0
    assert lines[0].startswith("perdure 0.")
    assert lines[1] == f"TrainingJob API of the cluster: {names.VERSION}"


class TestLogs:
    def test_are_those_of_all_attempts_in_order(self, cli: Cli, namespace: Namespace, kubelet: Kubelet) -> None:
        uid = namespace.job(status=documents.RUNNING)
        for attempt, state in ((2, RUNS), (1, ENDED)):
            kubelet.write(namespace.pod(uid, attempt, state), f"hello from attempt {attempt}")

        running = cli.start("logs", "smol", "-n", namespace.name)

        assert running.end() == 0
        assert [line for line in running.lines if not line.startswith("──")] == [
            "hello from attempt 1",
            "hello from attempt 2",
        ]

    def test_of_a_pod_that_is_gone_are_said_to_be(self, cli: Cli, namespace: Namespace, kubelet: Kubelet) -> None:
        namespace.job(status=documents.RUNNING)

        _, lines = cli("logs", "smol")

        assert "── attempt 1: its pod is gone, and its logs with it" in lines

    def test_of_a_container_that_waits_say_what_for(self, cli: Cli, namespace: Namespace, kubelet: Kubelet) -> None:
        namespace.pod(namespace.job(), 1, WAITS)

        assert cli("logs", "smol") == (0, ["── attempt 1 waits: no such image"])

    def test_follow_from_one_attempt_to_the_next(self, cli: Cli, namespace: Namespace, kubelet: Kubelet) -> None:
        uid = namespace.job(status=STARTING)
        first = namespace.pod(uid, 1, WAITS)
        logs = cli.start("logs", "-f", "smol", "-n", namespace.name)
        logs.says("attempt 1 waits: no such image")
        namespace.pod_state(first, RUNS)
        kubelet.write(first, "step 1")
        logs.says("step 1")

        namespace.status("smol", documents.RETRYING)
        namespace.pod_state(first, ENDED)
        kubelet.over.add(first)
        logs.says("attempt 1 ended: OutOfMemory (exit code 137): the container used more than its 16Gi")
        second = namespace.pod(uid, 2, RUNS)
        kubelet.write(second, "step 2")
        logs.says("step 2")
        namespace.status("smol", documents.SUCCEEDED)
        namespace.pod_state(second, ENDED)
        kubelet.over.add(second)

        assert logs.end() == 0
        assert f"── attempt 2: pod {second} on node n1" in logs.lines
        assert logs.lines[-1].startswith("── Succeeded after 8 min in 2 attempts.")

    def test_lose_and_repeat_no_line_when_the_connection_breaks(
        self, cli: Cli, namespace: Namespace, kubelet: Kubelet
    ) -> None:
        pod = namespace.pod(namespace.job(status=STARTING), 1, RUNS)
        kubelet.write(pod, "one", "two", "three")
        kubelet.break_after[pod] = 2

        logs = cli.start("logs", "-f", "smol", "-n", namespace.name)
        logs.says("three")
        kubelet.write(pod, "four")
        logs.says("four")
        namespace.status("smol", documents.SUCCEEDED)
        namespace.pod_state(pod, ENDED)
        kubelet.over.add(pod)

        assert logs.end() == 0
        assert [line for line in logs.lines if not line.startswith("──")] == ["one", "two", "three", "four"]


class TestErrors:
    def test_a_job_that_is_not_there_has_near_names(self, cli: Cli, namespace: Namespace) -> None:
        namespace.job("finetune-small")

        status, (line,) = cli("describe", "finetune-smal")

        assert status == 3
        assert line.startswith(f'Error: there is no TrainingJob "finetune-smal" in namespace {namespace.name}; ')
        assert line.endswith('did you mean "finetune-small"?')

    def test_a_job_of_an_empty_namespace_may_be_elsewhere(self, cli: Cli) -> None:
        status, lines = cli("watch", "smol")

        assert status == 3
        assert lines[0].endswith("there are none at all in it; is it the right namespace (-n)?")

    def test_who_may_not_is_told_what_right_is_missing(
        self, api_server: ApiServer, cli: Cli, namespace: Namespace
    ) -> None:
        account = {"name": "nobody", "namespace": namespace.name}
        namespace.kubectl(
            "create", "-f", "-", document={"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}
        )
        token = namespace.kubectl("create", "token", "nobody", "-n", namespace.name).strip()
        nobody = type(cli)(api_server.kubeconfig_for(token), namespace.name)

        status, lines = nobody("list")

        assert status == 3
        assert 'cannot list resource "trainingjobs"' in lines[0]
        assert lines[0].startswith("Error: not allowed: ")

    def test_credentials_that_are_not_accepted(self, api_server: ApiServer, cli: Cli) -> None:
        status, lines = type(cli)(api_server.kubeconfig_for("nonsense"), "default")("list")

        assert status == 3
        assert lines[0].endswith("does not accept these credentials; log in again")

    def test_a_cluster_that_does_not_answer(self, api_server: ApiServer, cli: Cli, tmp_path: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        kubeconfig = yaml.safe_load(api_server.kubeconfig.read_text())
        kubeconfig["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        (tmp_path / "config").write_text(yaml.safe_dump(kubeconfig))

        status, lines = type(cli)(tmp_path / "config", "default")("list")

        assert status == 3
        assert len(lines) == 1
        assert "Connection refused" in lines[0]
        assert lines[0].endswith("is it up, and reachable?")

    def test_no_kubeconfig_at_all(self, cli: Cli, tmp_path: Path) -> None:
        status, lines = type(cli)(tmp_path / "none", "default")("list")

        assert (status, len(lines)) == (3, 1)
        assert lines[0].startswith("Error: no cluster is configured: ")

    def test_a_context_that_is_not_there(self, cli: Cli) -> None:
        status, lines = cli("--context", "nowhere", "list")

        assert (status, len(lines)) == (3, 1)
        assert "nowhere" in lines[0]

    def test_a_command_that_is_none(self, cli: Cli) -> None:
        assert cli("train")[0] == 2


class TestAClusterWithoutPerdure:
    @pytest.mark.parametrize("command", [("list",), ("watch", "smol"), ("describe", "smol"), ("logs", "smol")])
    def test_is_said_to_be_one(self, cli: Cli, api_server_without_perdure: ApiServer, command: tuple[str, ...]) -> None:
        status, lines = type(cli)(api_server_without_perdure.kubeconfig, "default")(*command)

        assert (status, len(lines)) == (3, 1)
        assert "Perdure is not installed there" in lines[0]
