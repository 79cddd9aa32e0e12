"""What the API server was asked, by its own count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from bench.cluster.errors import BenchError

WRITING: Final = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
QUESTIONS: Final = frozenset({"subjectaccessreviews", "tokenreviews", "selfsubjectaccessreviews", "selfsubjectreviews"})
"""Posted, and yet nothing is written."""
OF_THE_CLUSTER: Final = frozenset({"leases", "nodes", "nodes/status", ""})
"""Asked as often whether there are jobs or not: leases, what kubelets say of their nodes, health checks."""


@dataclass(frozen=True, order=True)
class Request:
    """A kind of request."""

    resource: str
    """Plural, and the subresource behind a slash."""
    verb: str
    """As the API server counts them: GET, LIST, WATCH, POST, PUT, PATCH, APPLY, DELETE, …"""

    @property
    def writes(self) -> bool:
        """Whether something is written when it succeeds."""
        return self.verb in WRITING and self.resource.split("/")[0] not in QUESTIONS

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"

    @classmethod
    def parse(cls, text: str) -> Request:
        """The inverse of str()."""
        verb, _, resource = text.partition(" ")
        return cls(resource, verb)


def family(text: str, name: str) -> list[Metric]:
    """The families of one name in a page of metrics, without reading the rest of it, which is long."""
    lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return list(text_string_to_metric_families("\n".join([f"# TYPE {name} unknown", *lines, ""])))


def counted(metrics: str) -> Counter[Request]:
    """How often each kind was asked since the API server started, without those that jobs have no part in."""
    found: Counter[Request] = Counter()
    for metric in family(metrics, "apiserver_request_total"):
        for sample in metric.samples:
            labels = sample.labels
            resource = "/".join(filter(None, (labels.get("resource"), labels.get("subresource"))))
            if resource not in OF_THE_CLUSTER:
                found[Request(resource, labels["verb"])] += int(sample.value)
    return found


def between(before: Mapping[Request, int], after: Mapping[Request, int]) -> Counter[Request]:
    """What was asked in between.

    Raises:
        BenchError: a count went down: the API server was started again.
    """
    for request, times in before.items():
        if after.get(request, 0) < times:
            raise BenchError(
                f"the API server counts fewer {request} than before: it was started again in between; measure again"
            )
    return Counter({key: after[key] - before.get(key, 0) for key in after if after[key] > before.get(key, 0)})
