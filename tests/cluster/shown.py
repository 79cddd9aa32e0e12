"""What can be seen of a job: its status, its Events, what it has left in the store."""

from __future__ import annotations

from perdure_api.pod import ResultDocument
from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from tests.cluster.conftest import Document, Jobs, condition, phase

MEBIBYTE = 2**20


def is_running(job: Document) -> bool:
    return phase(job) == "Running"


def is_suspended(job: Document) -> bool:
    """That it is, and not that it still was when the newest spec was not known yet."""
    known = job["status"].get("observedGeneration") == job["metadata"]["generation"]
    return known and phase(job) == "Suspended" and condition(job, "Suspended")["status"] == "True"


def events(jobs: Jobs, name: str, reason: str) -> list[Document]:
    """Events about a job that give a reason."""
    selector = f"--field-selector=involvedObject.name={name},reason={reason},involvedObject.kind=TrainingJob"
    return jobs.kubectl.items("events", selector)


def messages(jobs: Jobs, name: str, reason: str) -> list[str]:
    """What they say."""
    return [event["message"] for event in events(jobs, name, reason)]


def adapter_of(stores: Stores, job: Document) -> bytes:
    file = parse_uri(f"{job['status']['result']['adapterUri']}/adapter_model.safetensors")
    return stores.read(file, limit_bytes=2**24)


def result_of(stores: Stores, job: Document) -> ResultDocument:
    attempt = parse_uri(job["status"]["result"]["adapterUri"]).parent
    return ResultDocument.model_validate_json(stores.read(attempt.child("result.json"), limit_bytes=MEBIBYTE))
