"""More jobs than may run at a time. The installation's limits are changed for it, so nothing else runs beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster.commands import install, perdure, suspend, told
from tests.cluster.conftest import Document, Jobs, Kubectl, condition, phase, training_job, wait_until
from tests.cluster.shown import is_suspended

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(900)]

LIMIT = 4
SECONDS_EACH = 15
"""Of patience for one job, where four run at a time."""
UNTIL_TOLD = 'trap "exit 143" TERM; sleep 3600 & wait'
SECOND = timedelta(seconds=1)
OVER = {"Succeeded", "Failed"}

Limited = Callable[[int], None]


@pytest.fixture(scope="module")
def limited(system: Kubectl) -> Iterator[Limited]:
    """Sets the limit of the installation, which has none again afterwards."""

    def limit(count: int) -> None:
        install("--set", f"limits.maxConcurrentJobs={count}")

    yield limit
    install()
    system("rollout", "status", "deployment/perdure-operator", "--timeout=120s")


def position(job: Document) -> int | None:
    found: int | None = job["status"].get("queue", {}).get("position")
    return found


def waits_at(place: int) -> Callable[[Document], bool]:
    return lambda job: phase(job) == "Queued" and position(job) == place


def moment(job: Document, field: str) -> datetime:
    return datetime.fromisoformat(job["status"][field]).astimezone(UTC)


def phases(jobs: Jobs, names: list[str]) -> set[str]:
    """All that these jobs are in, by one look."""
    wanted = set(names)
    return {phase(job) for job in jobs.kubectl.items("trainingjobs") if job["metadata"]["name"] in wanted}


def kubernetes_jobs(jobs: Jobs, name: str) -> list[str]:
    """Names of the Jobs of one TrainingJob."""
    return [each["metadata"]["name"] for each in jobs.kubectl.items("jobs", "-l", f"perdure.dev/trainingjob={name}")]


def status_writes(system: Kubectl) -> float:
    """Of the operator that runs now, since it was started."""
    found = re.search(r'^perdure_operator_status_writes_total\{result="written"\} (\S+)$',
                      told(system, "operator", "/metrics"), re.MULTILINE)  # fmt: skip
    return float(found[1]) if found else 0.0


def at_once(jobs: list[Document]) -> int:
    """How many of them surely ran at the same time: times in a status have whole seconds."""
    ran = [(moment(job, "startTime") + SECOND, moment(job, "completionTime")) for job in jobs]
    return max(sum(begin <= now < end for begin, end in ran) for now, _ in ran)


@pytest.mark.parametrize(
    ("many", "command"),
    [
        pytest.param(40, ("sleep", "2"), id="40"),
        pytest.param(500, ("true",), id="500", marks=[pytest.mark.lengthy, pytest.mark.timeout(500 * SECONDS_EACH)]),
    ],
)
def test_jobs_behind_a_limit_of_four_run_in_their_order_and_never_more_of_them(
    jobs: Jobs, system: Kubectl, limited: Limited, many: int, command: tuple[str, ...]
) -> None:
    limited(0)
    names = [f"many-{many}-{number}" for number in range(many)]
    priorities = {name: number % 3 for number, name in enumerate(names)}
    items = [training_job(name, {**jobs.own(*command), "priority": priorities[name]}) for name in names]
    jobs.kubectl("create", "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": items})
    listed = jobs.kubectl.items("trainingjobs")
    expected = [
        job["metadata"]["name"]
        for job in sorted(
            (job for job in listed if job["metadata"]["name"] in priorities),
            key=lambda job: (
                -priorities[job["metadata"]["name"]],
                job["metadata"]["creationTimestamp"],
                names.index(job["metadata"]["name"]),
            ),
        )
    ]
    for place, name in enumerate(expected[:5], start=1):
        jobs.until(name, waits_at(place))
    wait_until(lambda: phases(jobs, expected) == {"Queued"}, 120, lambda: "not all say that they wait")
    assert jobs.kubectl.items("pods") == []
    assert jobs.kubectl.items("jobs") == []
    listing = perdure(jobs, "list")
    assert re.search(rf"{expected[2]} +Queued +no\. 3 in line", listing), listing
    said = jobs.describe(expected[2])
    assert "waiting for its turn: number 3 in line; at most 0 run at a time (limits.maxConcurrentJobs)" in said

    limited(LIMIT)
    wait_until(
        lambda: phases(jobs, expected) <= OVER, many * SECONDS_EACH, lambda: f"{phases(jobs, expected)} are left"
    )
    by_name = {job["metadata"]["name"]: job for job in jobs.kubectl.items("trainingjobs")}
    finished = [by_name[name] for name in expected]

    assert {phase(job) for job in finished} == {"Succeeded"}
    assert [job["metadata"]["name"] for job in finished if "queue" in job["status"]] == []
    started = [moment(job, "startTime") for job in finished]
    for number, begun in enumerate(started):
        assert begun <= min(started[number:]) + SECOND, f"{expected[number]} was overtaken"
    assert at_once(finished) <= LIMIT
    assert status_writes(system) < many * 12
    jobs.kubectl("delete", "trainingjobs", *expected, "--wait=false")


def test_limits_and_priorities_change_while_jobs_run_and_wait(jobs: Jobs, limited: Limited) -> None:
    limited(1)
    for name in ("turn-1", "turn-2", "turn-3"):
        jobs.create(name, jobs.own("sh", "-c", UNTIL_TOLD))
    jobs.until("turn-1", lambda job: phase(job) == "Running")
    jobs.until("turn-2", waits_at(1))
    jobs.until("turn-3", waits_at(2))

    jobs.kubectl("patch", "trainingjob", "turn-3", "--type=merge", "-p", '{"spec": {"priority": 1}}')
    jobs.until("turn-3", waits_at(1))
    jobs.until("turn-2", waits_at(2))
    limited(2)
    jobs.until("turn-3", lambda job: phase(job) == "Running")
    limited(1)
    job = jobs.until("turn-2", lambda job: "at most 1 run" in job["status"]["message"])

    assert waits_at(1)(job)
    assert {phase(jobs.get(name)) for name in ("turn-1", "turn-3")} == {"Running"}, "what runs is not stopped"
    perdure(jobs, "cancel", "turn-2", "--yes")
    cancelled = jobs.finished("turn-2")
    assert cancelled["status"]["reason"] == "Cancelled"
    assert "finalizers" not in cancelled["metadata"], "nothing of it ever began"
    for name in ("turn-1", "turn-3"):
        perdure(jobs, "cancel", name, "--yes")
        jobs.finished(name)


def test_a_suspended_job_gives_its_slot_away_and_waits_for_one_when_it_is_resumed(
    jobs: Jobs, system: Kubectl, limited: Limited
) -> None:
    limited(1)
    for name in ("gives", "takes"):
        jobs.create(name, jobs.own("sh", "-c", UNTIL_TOLD))
    jobs.until("gives", lambda job: phase(job) == "Running")
    jobs.until("takes", waits_at(1))

    suspend(jobs, "gives", suspended=True)
    jobs.until("gives", is_suspended)
    jobs.until("takes", lambda job: phase(job) == "Running")
    suspend(jobs, "gives", suspended=False)
    waiting = jobs.until("gives", waits_at(1))
    assert condition(waiting, "Suspended")["status"] == "True"
    assert jobs.pods("gives") == []
    system("rollout", "restart", "deployment/perdure-operator")  # which has to find out who runs and who waits
    system("rollout", "status", "deployment/perdure-operator", "--timeout=120s")
    assert waits_at(1)(jobs.get("gives"))
    jobs.kubectl("delete", "trainingjob", "takes")

    job = jobs.until("gives", lambda job: phase(job) == "Running")
    assert job["status"]["observedGeneration"] == job["metadata"]["generation"] == 3
    assert "queue" not in job["status"]
    assert [attempt.get("reason") for attempt in job["status"]["attempts"]] == ["Suspended", None]
    perdure(jobs, "cancel", "gives", "--yes")
    jobs.finished("gives")


def test_a_job_in_a_queue_of_kueue_waits_for_kueue_and_for_nothing_else(jobs: Jobs, limited: Limited) -> None:
    """There is no Kueue in this cluster: what it does to a Job is done by hand."""

    def let_run(job: str, *, run: bool) -> None:
        jobs.kubectl("patch", "job", job, "--type=merge", "-p", f'{{"spec": {{"suspend": {str(not run).lower()}}}}}')

    def waits_for_kueue(job: Document) -> bool:
        return phase(job) == "Queued" and job["status"]["message"].endswith("queue research")

    limited(0)
    document = training_job("kueued", {**jobs.own("sh", "-c", UNTIL_TOLD), "deadlines": {"startSeconds": 15}})
    document["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "research"}
    jobs.kubectl("create", "-f", "-", document=document)
    jobs.until("kueued", waits_for_kueue)
    asked = jobs.kubectl.json("get", "job", "kueued-1")
    assert asked["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert asked["spec"]["suspend"] is True
    assert jobs.pods("kueued") == []

    created = datetime.fromisoformat(asked["metadata"]["creationTimestamp"])
    wait_until(lambda: datetime.now(UTC) - created > 20 * SECOND, 60, lambda: "the clock stands still")
    assert waits_for_kueue(jobs.get("kueued")), "waiting for Kueue is no part of deadlines.startSeconds"
    let_run("kueued-1", run=True)
    jobs.until("kueued", lambda job: phase(job) == "Running")
    let_run("kueued-1", run=False)
    job = jobs.until("kueued", lambda job: waits_for_kueue(job) and len(job["status"]["attempts"]) > 1)

    first = job["status"]["attempts"][0]
    assert (first["reason"], first["message"]) == (
        "Disrupted",
        "Kueue (queue research) suspended its Job, so its pods were taken away",
    )
    assert kubernetes_jobs(jobs, "kueued") == ["kueued-2"]
    assert job["status"]["attemptCounters"].get("failed", 0) == 0
    let_run("kueued-2", run=True)
    jobs.until("kueued", lambda job: phase(job) == "Running")
    perdure(jobs, "cancel", "kueued", "--yes")
    jobs.finished("kueued")


def known(system: Kubectl, job: Document) -> str:
    """What the workflow of a job knows by now, as JSON without spaces."""
    of = ["--workflow-id", job["status"]["workflow"]["id"], "--name", "status", "--address", "127.0.0.1:7233"]
    asked = ["temporal", "workflow", "query", *of, "-o", "json"]
    return "".join(system("exec", "perdure-temporal-0", "--", *asked).split())


def test_a_job_that_is_given_to_kueue_later_waits_for_it_with_its_next_attempt(
    jobs: Jobs, system: Kubectl, limited: Limited
) -> None:
    limited(1)
    jobs.create("given", jobs.own("sh", "-c", UNTIL_TOLD))
    jobs.until("given", lambda job: phase(job) == "Running")
    jobs.kubectl("label", "trainingjob", "given", "kueue.x-k8s.io/queue-name=research")
    wait_until(lambda: '"kueueQueue":"research"' in known(system, jobs.get("given")), 60, lambda: "it has not heard")
    assert kubernetes_jobs(jobs, "given") == ["given-1"], "it runs on"

    jobs.kubectl("delete", "job", "given-1", "--wait=false")
    jobs.until("given", lambda job: phase(job) == "Queued" and len(job["status"]["attempts"]) > 1)
    assert jobs.kubectl.json("get", "job", "given-2")["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    jobs.kubectl("label", "trainingjob", "given", "kueue.x-k8s.io/queue-name-")
    wait_until(lambda: '"kueueQueue":null' in known(system, jobs.get("given")), 60, lambda: "it has not heard")

    jobs.kubectl("delete", "job", "given-2", "--wait=false")
    job = jobs.until("given", lambda job: phase(job) == "Running")
    assert [attempt["number"] for attempt in job["status"]["attempts"]] == [1, 2, 3]
    perdure(jobs, "cancel", "given", "--yes")
    jobs.finished("given")
