"""Records Jobs and pods in the states in which a real cluster shows them: `make evidence`.

What an attempt's end is judged by (attempts/assess.py, attempts/outcome.py) is tested on these, in
tests/workers/attempts. Each situation is made to happen on the development cluster; what the API server then tells of
it is written down under fixtures/, less what nothing of ours reads.

The Jobs are those that Perdure would make, beside TrainingJobs that are suspended: so nobody follows, ends or removes
them while they are looked at.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from perdure_api.spec import TrainingJobSpec
from perdure_api.workflow import JobRef
from perdure_workers.manifests import PodDefaults, training_job
from tests.cluster.commands import devcluster
from tests.cluster.conftest import (
    SYSTEM,
    Jobs,
    Kubectl,
    kubeconfig_of_the_cluster,
    loaded_base_image,
    phase,
    store_credentials,
    working_namespace,
)
from tests.cluster.spare_nodes import BREAKS as NODES
from tests.cluster.spare_nodes import spare_nodes

Document = dict[str, Any]
FIXTURES: Final = Path(__file__).parent / "fixtures"
ATTEMPT: Final = 1
PATIENCE_SECONDS: Final = 180.0
FOR_EVER: Final = "sleep 600"
SLOW_TO_STOP: Final = 'trap "sleep 8; exit 143" TERM; sleep 600 & wait'
SAYS_42: Final = "exit 42"
FAILS_AT_ONCE: Final = {
    "rules": [{"action": "FailJob", "onExitCodes": {"containerName": "trainer", "operator": "In", "values": [42]}}]
}
"""A policy of the Job controller's own, as an admission webhook may add one: 42 is not worth another try."""


@dataclass(frozen=True)
class Sight:
    """What the API server shows of one attempt."""

    job: Document
    pods: Sequence[Document]
    events: Sequence[Document]
    """That pods could not be made."""

    def says(self, type_: str, reason: str = "") -> bool:
        """Whether the Job has a condition, for that reason."""
        found = [each for each in self.job["status"].get("conditions", []) if each["type"] == type_]
        return any(each["status"] == "True" and (not reason or each["reason"] == reason) for each in found)

    @property
    def phases(self) -> list[str]:
        return [pod["status"]["phase"] for pod in self.pods]


@dataclass(frozen=True)
class Situation:
    """A state that a Job comes to, and how it is brought there."""

    shows: Callable[[Sight], bool]
    command: str = "true"
    job: Mapping[str, Any] = field(default_factory=dict)
    """Beside what Perdure writes into a Job's spec."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Of the TrainingJob."""
    happens: Callable[[Jobs, str], None] | None = None
    """What is done to a Job, by its name, as soon as its pod runs."""
    kueue_queue: str = ""
    is_lost: bool = False
    """Its node is lost: it runs on one of the spare ones."""


def suspend(jobs: Jobs, name: str) -> None:
    jobs.kubectl("patch", "job", name, "--type=merge", "-p", '{"spec": {"suspend": true}}')


def restart_its_node(_: Jobs, __: str) -> None:
    devcluster("kill-node", NODES.first)
    devcluster("start-node", NODES.first)


SITUATIONS: Final[Mapping[str, Situation]] = {
    "complete": Situation(lambda sight: sight.says("Complete"), "true"),
    "backoff-limit-exceeded": Situation(lambda sight: sight.says("Failed", "BackoffLimitExceeded"), "exit 1"),
    "deadline-exceeded": Situation(
        lambda sight: sight.says("Failed", "DeadlineExceeded") and not sight.pods,
        SLOW_TO_STOP,
        {"activeDeadlineSeconds": 5},
    ),
    "deadline-exceeded-pod-stopping": Situation(
        lambda sight: sight.says("FailureTarget") and not sight.says("Failed") and sight.phases == ["Running"],
        SLOW_TO_STOP,
        {"activeDeadlineSeconds": 5},
    ),
    "pod-failure-policy": Situation(
        lambda sight: sight.says("Failed", "PodFailurePolicy"), SAYS_42, {"podFailurePolicy": FAILS_AT_ONCE}
    ),
    "suspended-while-it-ran": Situation(
        lambda sight: sight.says("Suspended") and not sight.pods, FOR_EVER, happens=suspend
    ),
    "suspended-from-the-start": Situation(lambda sight: sight.says("Suspended"), kueue_queue="research"),
    "quota-refused": Situation(lambda sight: bool(sight.events), spec={"resources": {"gpusPerNode": 1}}),
    "node-restarted": Situation(
        lambda sight: sight.says("Failed") and sight.phases == ["Failed"],
        FOR_EVER,
        happens=restart_its_node,
        is_lost=True,
    ),
}
QUOTA: Final[Document] = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "no-gpus"},
    "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
}


def main(names: Sequence[str]) -> int:
    """Records all situations, or those that are named; 0 when each was seen."""
    unknown = set(names) - set(SITUATIONS)
    if unknown:
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}; expected some of {', '.join(SITUATIONS)}\n")
        return 64
    wanted = {name: SITUATIONS[name] for name in names or SITUATIONS}
    system = Kubectl(kubeconfig_of_the_cluster(), SYSTEM)
    with working_namespace(system, f"evidence-{os.getpid()}", store_credentials(system)) as kubectl:
        jobs = Jobs(kubectl, loaded_base_image())
        kubectl("create", "-f", "-", document=QUOTA)
        for name, situation in wanted.items():
            with _place_for(situation, jobs, system):
                write(name, brought_about(name, situation, jobs))
    return 0


@contextmanager
def _place_for(situation: Situation, jobs: Jobs, system: Kubectl) -> Iterator[None]:
    if not situation.is_lost:
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(spare_nodes(NODES, jobs, system))
        NODES.open(system, NODES.first)
        yield
        NODES.mend(system)


def brought_about(name: str, situation: Situation, jobs: Jobs) -> Sight:
    """What the cluster shows as soon as it shows what is looked for."""
    spec = jobs.own("sh", "-c", situation.command, suspend=True, **situation.spec)
    jobs.create(name, NODES.asked_for(spec) if situation.is_lost else spec)
    trainingjob = jobs.until(name, lambda job: phase(job) == "Suspended")
    reference = JobRef(namespace=jobs.kubectl.namespace, name=name, uid=trainingjob["metadata"]["uid"])
    model = TrainingJobSpec.model_validate(trainingjob["spec"])
    job = training_job(reference, model, ATTEMPT, PodDefaults(jobs.base_image), situation.kueue_queue)
    job["spec"] |= situation.job
    jobs.kubectl("create", "-f", "-", document=job)
    job_name = job["metadata"]["name"]
    if situation.happens:
        _until(jobs, job_name, lambda sight: sight.phases == ["Running"])
        situation.happens(jobs, job_name)
    return _until(jobs, job_name, situation.shows)


def _until(jobs: Jobs, name: str, shows: Callable[[Sight], bool]) -> Sight:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not shows(sight := _sight(jobs, name)):
        assert time.monotonic() < deadline, f"{name} stayed at {sight}"
        time.sleep(0.1)
    return sight


def _sight(jobs: Jobs, name: str) -> Sight:
    job = jobs.kubectl.json("get", "job", name)
    uid = job["metadata"]["uid"]
    events = f"involvedObject.uid={uid},reason=FailedCreate"
    return Sight(
        job,
        jobs.kubectl.items("pods", "-l", f"batch.kubernetes.io/controller-uid={uid}"),
        jobs.kubectl.items("events", "--field-selector", events),
    )


def write(name: str, sight: Sight) -> None:
    """Puts a sight beside the others: its Job, and its pod and Event where there is one."""
    _write("jobs", name, _without(sight.job, spec={"template"}))
    for pod in sight.pods:
        _write("pods", name, _without(pod, spec=set(pod["spec"]) - {"nodeName"}))
    for event in sight.events[:1]:
        _write("events", name, _without(event))


def _without(document: Document, spec: Collection[str] = ()) -> Document:
    """A document less who wrote which of its fields, and some fields of its spec."""
    kept = dict(document)
    kept["metadata"] = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    if "spec" in document:
        kept["spec"] = {key: value for key, value in document["spec"].items() if key not in spec}
    return kept


def _write(kind: str, name: str, document: Document) -> None:
    path = FIXTURES / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    sys.stdout.write(f"{path.relative_to(FIXTURES.parents[2])}\n")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
