"""What keeps a deleted object, and what does not. Each operator watches its test's namespace only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from perdure_api import names
from perdure_workers.messages import DeleteCheckpoints
from tests.workers.workflows.conftest import STORE_AWAY, World

if TYPE_CHECKING:
    from tests.conftest import ApiServer
    from tests.operator.conftest import Jobs, Operate, OperatorProcess, Temporal
    from tests.temporal_server import TemporalServer

pytestmark = [pytest.mark.cluster, pytest.mark.temporal]

Until = Callable[..., Any]

OUTPUT = {"uri": "s3://b/out"}
DELETES = {"output": OUTPUT, "deletionPolicy": "DeleteCheckpoints"}
FORCE = f"{names.ANNOTATION_FORCE_DELETE}=true"
FINISHED = {
    "observedGeneration": 1,
    "phase": "Succeeded",
    "message": "it went well",
    "conditions": [
        {
            "type": type_,
            "status": status,
            "reason": "Finished",
            "message": "",
            "lastTransitionTime": "2026-11-22T12:00:00Z",
            "observedGeneration": 1,
        }
        for type_, status in (("Succeeded", "True"), ("Reconciling", "False"))
    ],
}


@pytest.fixture(autouse=True)
def operator(api_server: ApiServer, operate: Operate, jobs: Jobs) -> Iterator[OperatorProcess]:
    operator = operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace)
    yield operator
    operator.kill()


@pytest.fixture
def running(jobs: Jobs, temporal: Temporal, until: Until) -> Callable[..., str]:
    """Makes a job; its name, when its workflow runs."""

    def create(**spec: Any) -> str:
        name = jobs.create(**spec)
        until(lambda: temporal.status(jobs.workflow_id(name)) == "RUNNING", "the workflow runs")
        return name

    return create


@pytest.fixture
def finished(jobs: Jobs, temporal: Temporal, until: Until, running: Callable[..., str]) -> Callable[..., str]:
    """Makes a job that is over; its name."""

    def create(**spec: Any) -> str:
        name = running(**spec)
        id_ = jobs.workflow_id(name)
        jobs.set_status(name, **FINISHED)
        with temporal.worker():
            temporal.signal(id_, "end", None)
            until(lambda: temporal.status(id_) == "COMPLETED", "the workflow ends")
        return name

    return create


def set_policy(jobs: Jobs, name: str, policy: str) -> None:
    patch = json.dumps({"spec": {"deletionPolicy": policy}})
    jobs.kubectl("patch", names.PLURAL, name, "-n", jobs.namespace, "--type=merge", "-p", patch)


def delete_namespace(jobs: Jobs) -> None:
    """As far as an API server goes by itself: what deletes all that is in it is not running here."""
    jobs.kubectl("delete", "namespace", jobs.namespace, "--wait=false")


@contextmanager
def temporal_away(server: TemporalServer) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


def purged(world: World, name: str) -> list[DeleteCheckpoints]:
    """Whose checkpoints were deleted: what other tests have left to be done comes to the same workers."""
    return [each for each in world.purged if each.job.name == name]


class TestCheckpoints:
    def test_of_a_finished_job_are_deleted_before_it_is_gone(
        self, jobs: Jobs, temporal: Temporal, until: Until, finished: Callable[..., str]
    ) -> None:
        name = finished(**DELETES)
        jobs.delete(name)
        purge = f"{jobs.workflow_id(name)}/purge"
        until(lambda: temporal.status(purge) == "RUNNING", "their deletion is begun")
        assert jobs.get(name), "gone before they are"

        world = World()
        with temporal.worker(world):
            until(lambda: jobs.get(name) is None, "the object is gone")

        assert temporal.status(purge) == "COMPLETED"
        assert [each.output_uri for each in purged(world, name)] == ["s3://b/out"]

    def test_of_a_running_job_are_deleted_when_its_workflow_has_cleaned_up(
        self, jobs: Jobs, temporal: Temporal, until: Until, running: Callable[..., str]
    ) -> None:
        name = running(**DELETES)
        id_ = jobs.workflow_id(name)
        temporal.signal(id_, "clean", False)
        world = World()

        with temporal.worker(world):
            jobs.delete(name)
            until(lambda: temporal.cancel_requested(id_), "the workflow is asked to end")
            assert temporal.status(f"{id_}/purge") is None
            temporal.signal(id_, "clean", True)
            until(lambda: jobs.get(name) is None, "the object is gone")

        assert len(purged(world, name)) == 1

    def test_of_a_job_whose_workflow_is_lost_are_deleted_with_its_pods(
        self, jobs: Jobs, temporal: Temporal, until: Until, running: Callable[..., str]
    ) -> None:
        name = running(**DELETES)
        temporal.delete(jobs.workflow_id(name))
        world = World()

        with temporal.worker(world):
            jobs.delete(name)
            until(lambda: jobs.get(name) is None, "the object is gone")

        assert (len(world.cleaned), len(purged(world, name))) == (1, 1)

    @pytest.mark.parametrize(
        "spec", [{"output": OUTPUT}, {"deletionPolicy": "DeleteCheckpoints"}], ids=["kept", "nowhere"]
    )
    def test_that_stay_or_are_nowhere_cost_no_workflow(
        self, jobs: Jobs, temporal: Temporal, until: Until, finished: Callable[..., str], spec: dict[str, Any]
    ) -> None:
        name = finished(**spec)
        purge = f"{jobs.workflow_id(name)}/purge"

        jobs.delete(name)

        until(lambda: jobs.get(name) is None, "the object is gone")
        assert temporal.status(purge) is None

    def test_are_waited_for_while_the_store_is_away_and_it_is_said(
        self, jobs: Jobs, temporal: Temporal, until: Until, finished: Callable[..., str]
    ) -> None:
        name = finished(**DELETES)
        world = World(purges=[STORE_AWAY])
        with temporal.worker(world):
            jobs.delete(name)
            until(lambda: jobs.reason(name) == "StoreUnavailable", "it says what it waits for")
            waits = jobs.get(name)
            events = until(lambda: jobs.events(name), "an Event says so, too")
            world.purges = [None]
            until(lambda: jobs.get(name) is None, "the object is gone")

        assert waits
        assert (waits["status"]["phase"], waits["status"]["message"]) == ("Succeeded", "it went well")
        message = next(each["message"] for each in waits["status"]["conditions"] if each["type"] == "Reconciling")
        assert FORCE in message
        assert "KeepCheckpoints" in message
        assert events["StoreUnavailable"] == message

    def test_are_not_waited_for_by_force_but_deleted_when_that_can_be_done(
        self, jobs: Jobs, temporal: Temporal, until: Until, finished: Callable[..., str]
    ) -> None:
        name = finished(**DELETES)
        purge = f"{jobs.workflow_id(name)}/purge"
        world = World(purges=[STORE_AWAY])
        with temporal.worker(world):
            jobs.delete(name)
            until(lambda: jobs.reason(name) == "StoreUnavailable", "it waits")

            jobs.annotate(name, FORCE)

            until(lambda: jobs.get(name) is None, "the object is gone")
            assert temporal.status(purge) == "RUNNING"
            world.purges = [None]
            until(lambda: temporal.status(purge) == "COMPLETED", "they are deleted")

    def test_stay_when_whoever_waits_for_their_deletion_changes_the_policy(
        self, jobs: Jobs, temporal: Temporal, until: Until, finished: Callable[..., str]
    ) -> None:
        name = finished(**DELETES)
        purge = f"{jobs.workflow_id(name)}/purge"
        with temporal.worker(World(purges=[STORE_AWAY])):
            jobs.delete(name)
            until(lambda: jobs.reason(name) == "StoreUnavailable", "it waits")

            set_policy(jobs, name, "KeepCheckpoints")

            until(lambda: jobs.get(name) is None, "the object is gone")
            until(lambda: temporal.status(purge) == "CANCELED", "their deletion has ended")

    def test_are_deleted_although_others_took_the_finalizer_off(
        self, jobs: Jobs, temporal: Temporal, until: Until, running: Callable[..., str]
    ) -> None:
        name = running(**DELETES)
        id_ = jobs.workflow_id(name)

        patch = json.dumps({"metadata": {"finalizers": None}})
        jobs.kubectl("patch", names.PLURAL, name, "-n", jobs.namespace, "--type=merge", "-p", patch)
        jobs.delete(name)

        until(lambda: temporal.status(f"{id_}/purge") == "RUNNING", "their deletion is begun")
        assert temporal.cancel_requested(id_)

    def test_are_deleted_by_a_policy_that_was_set_after_the_end(
        self, jobs: Jobs, temporal: Temporal, until: Until, finished: Callable[..., str]
    ) -> None:
        name = finished(output=OUTPUT)
        set_policy(jobs, name, "DeleteCheckpoints")
        world = World()

        with temporal.worker(world):
            jobs.delete(name)
            until(lambda: jobs.get(name) is None, "the object is gone")

        assert len(purged(world, name)) == 1


class TestANamespaceThatIsDeleted:
    def test_is_not_held_up_by_a_workflow_that_does_not_end(
        self, jobs: Jobs, temporal: Temporal, until: Until, running: Callable[..., str]
    ) -> None:
        name = running(**DELETES)  # no worker: its workflow never ends
        id_ = jobs.workflow_id(name)

        delete_namespace(jobs)
        jobs.delete(name)

        until(lambda: jobs.get(name) is None, "the object is gone")
        assert temporal.cancel_requested(id_)
        assert temporal.status(f"{id_}/purge") == "RUNNING"

    def test_is_not_held_up_while_temporal_is_away_and_nothing_is_forgotten(
        self,
        jobs: Jobs,
        temporal: Temporal,
        temporal_server: TemporalServer,
        until: Until,
        running: Callable[..., str],
        finished: Callable[..., str],
    ) -> None:
        runs, over = running(**DELETES), finished(**DELETES)
        ids = {name: jobs.workflow_id(name) for name in (runs, over)}
        with temporal_away(temporal_server):
            delete_namespace(jobs)
            for name in ids:
                jobs.delete(name)
            until(lambda: [jobs.get(name) for name in ids] == [None, None], "both objects are gone")

        until(lambda: temporal.cancel_requested(ids[runs]), "the workflow is asked to end")
        for id_ in ids.values():
            until(lambda id_=id_: temporal.status(f"{id_}/purge") == "RUNNING", "the deletion is begun")

    def test_frees_what_was_deleted_before_it_and_waits_for_temporal(
        self,
        jobs: Jobs,
        temporal_server: TemporalServer,
        until: Until,
        running: Callable[..., str],
    ) -> None:
        name = running()
        with temporal_away(temporal_server):
            jobs.delete(name)
            until(lambda: jobs.reason(name) == "TemporalUnavailable", "it waits")

            delete_namespace(jobs)

            until(lambda: jobs.get(name) is None, "the object is gone")


def test_the_checkpoints_of_a_finished_job_wait_for_temporal_too(
    jobs: Jobs, temporal: Temporal, temporal_server: TemporalServer, until: Until, finished: Callable[..., str]
) -> None:
    """Nobody could delete them, should the operator go meanwhile."""
    name = finished(**DELETES)
    with temporal_away(temporal_server):
        jobs.delete(name)
        until(lambda: jobs.reason(name) == "TemporalUnavailable", "it says what it waits for")
        assert "its checkpoints cannot be deleted" in jobs.condition(name, "Reconciling")["message"]  # type: ignore[index]
    with temporal.worker():
        until(lambda: jobs.get(name) is None, "the object is gone")


def test_by_force_a_job_goes_while_temporal_is_away_and_its_workflow_ends_later(
    jobs: Jobs, temporal: Temporal, temporal_server: TemporalServer, until: Until, running: Callable[..., str]
) -> None:
    name = running()
    id_ = jobs.workflow_id(name)
    with temporal_away(temporal_server):
        jobs.annotate(name, FORCE)
        jobs.delete(name)
        until(lambda: jobs.get(name) is None, "the object is gone")

    until(lambda: temporal.cancel_requested(id_), "the workflow is asked to end")
