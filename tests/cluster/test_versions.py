"""Workers of several versions beside each other: the installation is changed for it, so nothing else runs beside it.

A version is the same image under another name: what is tested is who carries on what, not what has changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from tests.cluster.commands import helm, install, suspend
from tests.cluster.conftest import Document, Jobs, Kubectl, condition, phase, step, wait_until
from tests.cluster.shown import is_suspended
from tests.cluster.watches import PodLog, watching_pods
from tests.cluster.wishes import long_training

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.lengthy, pytest.mark.timeout(1800)]

DRAIN_SECONDS = 180
FORGET_SECONDS = 300
"""Whether a version has workflows left, and which workers are gone, takes Temporal minutes unless it is told this:"""
SOON = json.dumps(
    [
        f'--dynamic-config-value=matching.{key}="10s"'
        for key in (
            "wv.VersionDrainageStatusVisibilityGracePeriod",
            "wv.VersionDrainageStatusRefreshInterval",
            "PollerHistoryTTL",
        )
    ]
)
LIMIT = 10
LONG = ("sleep", "100")
Upgrade = Callable[..., None]


def temporal(system: Kubectl, *arguments: str) -> Document:
    """What Temporal's own tool says, as JSON; nothing where it knows nothing of what is asked for."""
    command = ["temporal", *arguments, "--address", "127.0.0.1:7233", "-o", "json"]
    said = system.run("exec", "perdure-temporal-0", "--", *command)
    document: Document = json.loads(said.stdout) if said.returncode == 0 else {}
    return document


def current(system: Kubectl) -> str:
    """The build that what is new goes to; empty: workers without one, or nobody."""
    described = temporal(system, "worker", "deployment", "describe", "--name", "perdure")
    return str(described.get("routingConfig", {}).get("currentVersionBuildID", ""))


def begun_on(system: Kubectl, build: str) -> int:
    """Workflows that a version has yet to carry on."""
    query = f'TemporalWorkerDeploymentVersion="perdure:{build}" AND ExecutionStatus="Running"'
    return int(temporal(system, "workflow", "count", "--query", query).get("count") or 0)


def deployed(system: Kubectl) -> set[str]:
    """Builds that have a Deployment."""
    return {each["metadata"]["labels"]["perdure.dev/build"] for each in of_versions(system)}


def of_versions(system: Kubectl) -> list[Document]:
    return system.items("deployments", "-l", "perdure.dev/workers=perdure-worker")


def operator_metrics(system: Kubectl) -> str:
    """Of whichever operator answers; one that is not ready does too."""
    pods = system.items("pods", "-l", "app.kubernetes.io/component=operator")
    base = f"/api/v1/namespaces/{system.namespace}/pods"
    return "".join(system.run("get", "--raw", f"{base}/{pod['metadata']['name']}:8080/proxy/metrics").stdout
                   for pod in pods)  # fmt: skip


@pytest.fixture(scope="module")
def upgrade(system: Kubectl) -> Iterator[Upgrade]:
    """Installs a version of the workers; afterwards they have none again."""
    used: set[str] = set()

    def upgraded(build: str, *more: str, becomes_current: bool = True) -> None:
        used.add(build)
        version = ["--set", "worker.versioning.enabled=true", "--set-string", f"worker.versioning.build={build}"]
        install(*version, "--set-json", f"temporal.quickStart.extraArgs={SOON}", *more)
        if becomes_current:
            wait_until(lambda: current(system) == build, 120, lambda: f"{current(system)} is current, not {build}")

    yield upgraded
    install()
    system("rollout", "status", "deployment/perdure-operator", "deployment/perdure-worker", "--timeout=120s")
    wait_until(lambda: current(system) not in used, 120, lambda: f"{current(system)} is still current")
    system("delete", "deployment", "-l", "perdure.dev/workers=perdure-worker", "--timeout=120s")


def succeeded(job: Document) -> bool:
    return condition(job, "Succeeded")["status"] == "True"


def reasons(job: Document) -> list[str]:
    return [attempt["reason"] for attempt in job["status"]["attempts"]]


def has_failed(times: int) -> Callable[[Document], bool]:
    return lambda job: job.get("status", {}).get("attemptCounters", {}).get("failed", 0) == times


def is_running(job: Document) -> bool:
    return phase(job) == "Running"


def test_jobs_of_workers_without_versions_go_over_to_the_first_that_has_one(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, upgrade: Upgrade
) -> None:
    jobs.create("before", long_training(tiny_inputs))
    jobs.create("asleep", {**jobs.own("true"), "suspend": True})
    jobs.until("before", lambda job: is_running(job) and step(job) > 0)
    jobs.until("asleep", is_suspended)

    upgrade("a")
    job = jobs.finished("before", seconds=300)
    suspend(jobs, "asleep", suspended=False)

    assert succeeded(job), job["status"]
    assert len(job["status"]["attempts"]) == 1, "the same attempt, followed further"
    assert succeeded(jobs.finished("asleep"))
    assert deployed(system) == {"a"}


def test_twenty_jobs_in_all_states_end_as_they_deserve_across_an_upgrade(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, upgrade: Upgrade
) -> None:
    elsewhere = {"nodeSelector": {"gpu": "none-such"}, "alternatives": [{"nodeSelector": {}}]}
    backs_off = {"maxAttempts": 2, "initialIntervalSeconds": 120}
    over: dict[str, Document] = {
        **{f"finished-{n}": jobs.own("true") for n in (1, 2)},
        **{f"fails-{n}": jobs.own("sh", "-c", "exit 64") for n in (1, 2)},
    }
    asleep: dict[str, Document] = {f"asleep-{n}": {**jobs.own("true"), "suspend": True} for n in (1, 2)}
    open_: dict[str, Document] = {
        **{f"runs-{n}": jobs.own(*LONG) for n in (1, 2, 3)},
        **{f"trains-{n}": long_training(tiny_inputs) for n in (1, 2)},
        "two-nodes": jobs.own(*LONG, resources={"nodes": 2}),
        **{f"backs-off-{n}": jobs.own("sh", "-c", "exit 1", retry=backs_off) for n in (1, 2)},
        **{f"finds-room-{n}": jobs.own("true", resources=elsewhere, deadlines={"startSeconds": 120}) for n in (1, 2)},
    }
    queued = {f"queued-{n}": jobs.own("true") for n in (1, 2, 3)}
    upgrade("a", "--set", f"limits.maxConcurrentJobs={LIMIT}")

    with watching_pods(jobs.kubectl) as log:
        create_all(jobs, over)
        before = {name: jobs.finished(name)["status"] for name in over}
        create_all(jobs, {"stopped": jobs.own(*LONG), **asleep})
        jobs.until("stopped", is_running)
        suspend(jobs, "stopped", suspended=True)
        for name in ("stopped", *asleep):
            jobs.until(name, is_suspended)
        create_all(jobs, open_)
        for name in ("runs-1", "runs-2", "runs-3", "trains-1", "trains-2", "two-nodes"):
            jobs.until(name, is_running)
        for name in ("backs-off-1", "backs-off-2"):
            jobs.until(name, has_failed(1))
        create_all(jobs, queued)
        for name in queued:
            jobs.until(name, lambda job: phase(job) == "Queued")

        upgrade("b", "--set", f"limits.maxConcurrentJobs={LIMIT}")

        assert {"a", "b"} <= deployed(system)
        assert begun_on(system, "a") >= 3, "one that is suspended and two that back off, whatever else has ended"
        draining = 'perdure_operator_worker_versions{build="a",state="draining"} 1.0'
        wait_until(lambda: draining in operator_metrics(system), 60, lambda: "that it drains is not told")
        for name in ("stopped", *asleep):
            suspend(jobs, name, suspended=False)
        ended = {name: jobs.finished(name, seconds=600) for name in ("stopped", *asleep, *open_, *queued)}
        jobs.create("new", jobs.own("true"))
        ended["new"] = jobs.finished("new")

    assert {name: reasons(job) for name, job in ended.items()} == {name: deserved(name) for name in ended}
    assert {name for name, job in ended.items() if not succeeded(job)} == {"backs-off-1", "backs-off-2"}
    assert {name: jobs.get(name)["status"] for name in over} == before
    assert pods_seen(log, ended) == {name: nodes(name) * len(deserved(name)) for name in ended}
    assert {name for name in ended if log.most_at_once[name] > nodes(name)} == set(), "two attempts at once"
    wait_until(
        lambda: deployed(system) == {"b"}, DRAIN_SECONDS, lambda: f"{deployed(system)}: {begun_on(system, 'a')} left"
    )


def deserved(name: str) -> list[str]:
    """How the attempts of a job end, by what its name says of it."""
    kind = name.rpartition("-")[0]
    ends = {"backs-off": ["Failed"] * 2, "finds-room": ["NoCapacity", "Completed"]}
    return ["Suspended", "Completed"] if name == "stopped" else ends.get(kind, ["Completed"])


def nodes(name: str) -> int:
    return 2 if name == "two-nodes" else 1


def pods_seen(log: PodLog, names: Iterable[str]) -> dict[str, int]:
    return {name: len(log.seen[name]) for name in names}


def create_all(jobs: Jobs, specs: dict[str, Any]) -> None:
    for name, spec in specs.items():
        jobs.create(name, spec)


def test_a_rollback_makes_the_older_version_current_again_and_costs_no_job(
    jobs: Jobs, system: Kubectl, upgrade: Upgrade
) -> None:
    upgrade("b")
    upgrade("c")
    jobs.create("on-the-newer", jobs.own("sleep", "30"))
    jobs.until("on-the-newer", is_running)

    helm(system, "rollback", "perdure", "--wait", "--timeout", "5m")
    wait_until(lambda: current(system) == "b", 120, lambda: f"{current(system)} is current")
    jobs.create("on-the-older", jobs.own("true"))

    assert succeeded(jobs.finished("on-the-older"))
    job = jobs.finished("on-the-newer")
    assert (succeeded(job), reasons(job)) == (True, ["Completed"]), job["status"]


def test_a_version_whose_workers_cannot_start_leaves_the_older_one_current(
    jobs: Jobs, system: Kubectl, upgrade: Upgrade
) -> None:
    upgrade("b")

    upgrade("stuck", "--set", "worker.nodeSelector.nowhere=none", "--wait=false", becomes_current=False)
    waiting = 'perdure_operator_worker_versions{build="stuck",state="waiting"} 1.0'
    wait_until(lambda: waiting in operator_metrics(system), 120, lambda: "it is not told that it waits")
    jobs.create("meanwhile", jobs.own("true"))

    assert succeeded(jobs.finished("meanwhile"))
    assert current(system) == "b"
    upgrade("b")
    wait_until(lambda: "stuck" not in deployed(system), 120, lambda: "a version that never was is still there")


def test_uninstalling_leaves_nothing_of_any_version_and_a_newer_one_takes_the_jobs_over(
    jobs: Jobs, system: Kubectl, upgrade: Upgrade
) -> None:
    upgrade("b")
    upgrade("c")
    jobs.create("stays", jobs.own("sleep", "60"))
    jobs.until("stays", is_running)

    helm(system, "uninstall", "perdure", "--wait")
    try:
        wait_until(lambda: not of_versions(system), 120, lambda: f"{deployed(system)} are left")
        workers = ("pods", "-l", "app.kubernetes.io/component=worker")
        wait_until(lambda: not system.items(*workers), 120, lambda: "workers are left")
    finally:
        upgrade("d")
    job = jobs.finished("stays", seconds=FORGET_SECONDS)

    assert (succeeded(job), reasons(job)) == (True, ["Completed"]), job["status"]
    assert deployed(system) == {"d"}
