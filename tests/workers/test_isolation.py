"""The NetworkPolicy around a job's pods: what it says, and when it is there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml
from aiohttp import web
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.spec import TrainingJobSpec
from perdure_api.workflow import JobRef
from perdure_control.settings import SettingsError
from perdure_workers.activities.resources import ResourceActivities
from perdure_workers.manifests import PodDefaults, network_policy, reservation, training_job
from perdure_workers.messages import CleanUp, CreateJob
from perdure_workers.settings import WorkerSettings
from tests.api_stand_in import answered_by

Document = dict[str, Any]
JOB = JobRef(namespace="ns", name="bible", uid="uid-1", generation=1)
EGRESS = [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443}]}]
SPEC = TrainingJobSpec.from_wire({"trainer": {"image": "i", "command": ["true"]}}).completed()
TWO_NODES = TrainingJobSpec.from_wire(
    {"trainer": {"image": "i", "command": ["true"]}, "resources": {"nodes": 2}}
).completed()
NAME = names.network_policy_name(JOB.name, JOB.uid)


def test_pods_reach_each_other_and_what_the_installation_names() -> None:
    expected = yaml.safe_load(f"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {NAME}
  namespace: ns
  labels:
    app.kubernetes.io/managed-by: perdure
    perdure.dev/trainingjob: bible
    perdure.dev/trainingjob-uid: uid-1
  annotations: {{perdure.dev/trainingjob-name: bible}}
  ownerReferences:
    - {{apiVersion: perdure.dev/v1alpha1, kind: TrainingJob, name: bible, uid: uid-1, controller: true}}
spec:
  podSelector: {{matchLabels: {{perdure.dev/trainingjob-uid: uid-1}}}}
  policyTypes: [Ingress, Egress]
  ingress:
    - from: [{{podSelector: {{matchLabels: {{perdure.dev/trainingjob-uid: uid-1}}}}}}]
  egress:
    - to: [{{podSelector: {{matchLabels: {{perdure.dev/trainingjob-uid: uid-1}}}}}}]
    - to: [{{ipBlock: {{cidr: 192.0.2.0/24}}}}]
      ports: [{{port: 443}}]
""")

    assert network_policy(JOB, EGRESS) == expected


def test_it_is_about_the_pods_of_every_attempt_and_of_reservations() -> None:
    selector = network_policy(JOB, EGRESS)["spec"]["podSelector"]["matchLabels"]
    defaults = PodDefaults(trainer_image="t")
    jobs = [training_job(JOB, SPEC, 7, defaults), reservation(JOB, SPEC, 1, defaults)]

    assert all(selector.items() <= job["spec"]["template"]["metadata"]["labels"].items() for job in jobs)


def test_a_new_object_of_an_old_name_gets_a_policy_of_its_own() -> None:
    assert names.network_policy_name("bible", "uid-1") != names.network_policy_name("bible", "uid-2")


class Api:
    """An API server that keeps what is created, and says what it was asked."""

    def __init__(self, *there: Document) -> None:
        self.asked: list[str] = []
        self.patched: Document = {}
        self._there = {document["metadata"]["name"]: document for document in there}

    async def answer(self, request: web.Request) -> web.Response:
        kind, name = request.path.split("/")[-2:]
        if request.method == "POST":
            kind, document = name, await request.json()
            self.asked.append(f"create {kind}")
            if document["metadata"]["name"] in self._there:
                return web.json_response({"reason": "AlreadyExists"}, status=409)
            return web.json_response(document, status=201)
        self.asked.append(f"{request.method.lower()} {kind if name in self._there else name}")
        if request.method == "PATCH":
            self.patched = await request.json()
        if request.method == "GET" and name in {"jobs", "pods"}:
            return web.json_response({"items": []})
        found = self._there.get(name)
        return web.json_response(found or {}, status=200 if found else 404)


@asynccontextmanager
async def activities(api: Api, *, isolated: bool = True) -> AsyncIterator[ResourceActivities]:
    async def record(*_: object) -> None:
        raise AssertionError

    defaults = PodDefaults(trainer_image="t", egress=tuple(EGRESS) if isolated else None)
    async with answered_by(api.answer) as cluster:
        yield ResourceActivities(cluster, lambda: defaults, record)


async def create(api: Api, spec: TrainingJobSpec = SPEC, *, isolated: bool = True) -> None:
    async with activities(api, isolated=isolated) as resources:
        request = CreateJob(job=JOB, spec=spec, attempt=1)
        await ActivityEnvironment().run(resources.create_training_job, request)


async def test_the_policy_is_there_before_any_pod_can_be() -> None:
    await create(api := Api(), TWO_NODES)

    assert api.asked == ["create networkpolicies", "create services", "create jobs"]


async def test_without_network_policies_none_is_made() -> None:
    await create(api := Api(), isolated=False)

    assert api.asked == ["create jobs"]


def there_already(owner: str = JOB.uid) -> Document:
    return {"metadata": {"name": NAME, "uid": "of-the-policy", "ownerReferences": [{"uid": owner}]}}


async def test_the_next_attempt_takes_over_what_may_be_reached_now() -> None:
    await create(api := Api(there_already()))

    assert api.asked == ["create networkpolicies", "get networkpolicies", "patch networkpolicies", "create jobs"]
    assert api.patched == {"metadata": {"uid": "of-the-policy"}, "spec": network_policy(JOB, EGRESS)["spec"]}


async def test_a_policy_of_somebody_else_is_left_alone_and_no_pod_is_started() -> None:
    api = Api(there_already(owner="somebody"))
    with pytest.raises(ApplicationError, match=f"a NetworkPolicy {NAME} that is not ours exists") as told:
        await create(api)

    assert told.value.type == Reason.JOB_REFUSED
    assert api.asked == ["create networkpolicies", "get networkpolicies"]


async def test_cleaning_up_leaves_it_to_the_trainingjob() -> None:
    """A pod on a node that does not answer may run on for long, and must stay isolated."""
    api = Api(there_already())
    async with activities(api) as resources:
        await ActivityEnvironment().run(resources.cleanup_resources, CleanUp(job=JOB))

    assert not [asked for asked in api.asked if "networkpolicies" in asked]


def test_a_worker_is_told_what_its_training_pods_may_reach() -> None:
    given = {"PERDURE_TRAINING_EGRESS": json.dumps(EGRESS)}

    assert WorkerSettings.from_environment(given).training_egress == tuple(EGRESS)
    assert WorkerSettings.from_environment({"PERDURE_TRAINING_EGRESS": "[]"}).training_egress == ()
    assert WorkerSettings.from_environment({}).training_egress is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nonsense", "is no JSON .* expected a JSON list of egress rules"),
        ("{}", "is {}, expected a JSON list of egress rules, as a NetworkPolicy has them"),
        ('["a"]', "expected a JSON list of egress rules"),
    ],
)
def test_what_is_no_list_of_rules_is_refused(given: str, message: str) -> None:
    """A worker that went on without them would open what was to be closed."""
    with pytest.raises(SettingsError, match=message):
        WorkerSettings.from_environment({"PERDURE_TRAINING_EGRESS": given})
