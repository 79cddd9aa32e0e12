"""Perdure with its NetworkPolicies, in a cluster whose nodes enforce them.

The installation is changed for these tests and changed back; the policies are off otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from perdure_data.stores import Stores
from perdure_devcluster import plan
from tests.cluster.commands import install
from tests.cluster.conftest import Document, Jobs, Kubectl, phase, wait_until
from tests.cluster.shown import result_of
from tests.cluster.wishes import of_two_nodes

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(600)]

# Beyond the cluster, and open to every pod that no policy holds back.
FOREIGN = (plan.HOST_ADDRESS, plan.REGISTRY_PORT)
API_SERVER = ("kubernetes.default.svc", 443)
SERVE = ("python3", "-m", "http.server", "8080")
REACH = """
import json, os, socket, urllib.parse
def reach(host, port):
    try:
        socket.create_connection((host, port), 3).close()
        return "open"
    except OSError as error:
        return type(error).__name__
def of(url):
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port
"""
TELL = """
open("/dev/termination-log", "w").write(json.dumps({"message": json.dumps(told)}))
raise SystemExit(64)
"""


@pytest.fixture(scope="module", autouse=True)
def _policies(system: Kubectl) -> Iterator[None]:
    install("--set", "networkPolicies.enabled=true")
    yield
    install()


@pytest.fixture(scope="module")
def bystander(jobs: Jobs) -> str:
    """A pod that no policy is about."""
    container = {"name": "main", "image": jobs.base_image, "command": ["sleep", "infinity"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    metadata = {"name": "bystander"}
    jobs.kubectl("create", "-f", "-", document={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    jobs.kubectl("wait", "--for=condition=Ready", "pod/bystander", "--timeout=60s")
    return "bystander"


@pytest.fixture(scope="module")
def neighbour(jobs: Jobs) -> str:
    """Address of a pod of another job, which serves whoever comes."""
    jobs.create("neighbour", jobs.own(*SERVE))
    jobs.until("neighbour", lambda job: phase(job) == "Running")
    (pod,) = jobs.pods("neighbour")
    name, address = pod["metadata"]["name"], str(pod["status"]["podIP"])
    wait_until(lambda: reaches(jobs, name, "127.0.0.1", 8080) == "open", 30, lambda: "it does not serve")
    return address


def reaches(jobs: Jobs, pod: str, host: str, port: int) -> str:
    """What a pod that runs is told when it connects."""
    script = f"{REACH}\nprint(reach({host!r}, {port}))"
    return jobs.kubectl("exec", pod, "--", "python3", "-c", script).strip()


def told_by(jobs: Jobs, name: str, script: str) -> dict[str, str]:
    """What a training pod says that it reached."""
    jobs.create(name, jobs.own("python3", "-c", f"{REACH}\n{script}\n{TELL}"))
    told: dict[str, str] = json.loads(jobs.finished(name)["status"]["message"])
    return told


def worker_address(system: Kubectl) -> str:
    pods = system.items("pods", "-l", "app.kubernetes.io/component=worker", "--field-selector=status.phase=Running")
    staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return str(staying[0]["status"]["podIP"])


def test_a_training_pod_reaches_store_receiver_and_dns_and_nothing_else(
    jobs: Jobs, system: Kubectl, neighbour: str, bystander: str
) -> None:
    closed = {
        "the API server": API_SERVER,
        "the API server by its own address": (plan.HOST_ADDRESS, plan.API_PORT),
        "another job's pod": (neighbour, 8080),
        "a foreign address": FOREIGN,
        "Temporal": ("perdure-temporal.perdure-system.svc", 7233),
        "a worker's metrics": (worker_address(system), 8080),
    }
    script = f"""
told = {{name: reach(*place) for name, place in {closed!r}.items()}}
told["the store"] = reach(*of(os.environ["AWS_ENDPOINT_URL"]))
told["the receiver"] = reach(*of(os.environ["PERDURE_PROGRESS_URL"]))
told["a name"] = socket.gethostbyname("kubernetes.default.svc")
"""

    assert told_by(jobs, "asks", script) == {
        **dict.fromkeys(closed, "TimeoutError"),
        "the store": "open",
        "the receiver": "open",
        "a name": plan.KUBERNETES_SERVICE_ADDRESS,
    }
    assert reaches(jobs, bystander, *FOREIGN) == "open", "it is the policy that closes it, not the network"
    assert reaches(jobs, bystander, *API_SERVER) == "open"


def test_nobody_reaches_a_training_pod(jobs: Jobs, neighbour: str, bystander: str) -> None:
    assert reaches(jobs, bystander, neighbour, 8080) == "TimeoutError"


def test_nobody_else_reaches_what_is_ours(jobs: Jobs, system: Kubectl, bystander: str) -> None:
    places = [
        ("perdure-temporal.perdure-system.svc", 7233),
        ("perdure-seaweedfs.perdure-system.svc", 8333),
        ("perdure-progress.perdure-system.svc", 8443),
        (worker_address(system), 8080),
    ]

    assert [reaches(jobs, bystander, *place) for place in places] == ["TimeoutError"] * len(places)


def test_two_ranks_train_under_policies_and_are_heard_of(jobs: Jobs, tiny_inputs: Document, stores: Stores) -> None:
    jobs.create("two", of_two_nodes(tiny_inputs, epochs=1, batchSize=2, sequenceLength=16))
    job = jobs.finished("two", seconds=300)

    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Completed"]
    assert job["status"]["progress"]["step"] == result_of(stores, job).step


def test_a_destination_is_opened_by_a_policy_of_ones_own(jobs: Jobs) -> None:
    block = {"ipBlock": {"cidr": f"{plan.HOST_ADDRESS}/32"}}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "one-more"},
        "spec": {
            "podSelector": {"matchLabels": {"perdure.dev/trainingjob": "opened"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": [block], "ports": [{"port": plan.REGISTRY_PORT}]}],
        },
    }
    jobs.kubectl("create", "-f", "-", document=policy)
    script = f"told = {{'foreign': reach{FOREIGN!r}, 'API server': reach{API_SERVER!r}}}"

    assert told_by(jobs, "opened", script) == {"foreign": "open", "API server": "TimeoutError"}


def test_the_policy_stays_as_long_as_its_trainingjob_and_goes_with_it(jobs: Jobs) -> None:
    jobs.create("goes", jobs.own("true"))
    uid = jobs.finished("goes")["metadata"]["uid"]
    selector = f"perdure.dev/trainingjob-uid={uid}"
    assert len(jobs.kubectl.items("networkpolicies", "-l", selector)) == 1

    jobs.kubectl("delete", "trainingjob", "goes", "--timeout=60s")
    wait_until(
        lambda: not jobs.kubectl.items("networkpolicies", "-l", selector), 60, lambda: "the policy is still there"
    )
