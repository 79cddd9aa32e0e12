"""What Prometheus is told of the API server's answers."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter

_GROUPED: Final = "apis"


class KubernetesRequests:
    """Counts answers by method, resource and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "perdure_kubernetes_requests",
            'Requests to the API server, by what came of them; code "none": no answer.',
            ["method", "resource", "code"],
            registry=registry,
        )

    def count(self, method: str, path: str, status: int) -> None:
        """Takes one answer in."""
        self._answers.labels(method=method, resource=resource_of(path), code=str(status) if status else "none").inc()


def resource_of(path: str) -> str:
    """The resource that a path of the API is about, with its subresource: `pods`, `trainingjobs/status`.

    No names, of which there are any number.
    """
    root, *parts = path.strip("/").split("/")
    parts = parts[2:] if root == _GROUPED else parts[1:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:  # noqa: PLR2004 - namespaces/<name>/…
        parts = parts[2:]
    return "/".join([*parts[:1], *parts[2:3]])
