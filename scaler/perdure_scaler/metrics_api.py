"""external.metrics.k8s.io/v1beta1, as an API server behind Kubernetes' own serves it.

Only what an autoscaler asks: which metrics there are, and the values of one. Errors are Status objects with a sentence.
A demand that is not known is an error too: an autoscaler that gets one changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from perdure_scaler.demand import Known, Queue, Unknown
from perdure_scaler.selector import BadSelector, Requirement, parse_selector
from perdure_scaler.settings import ScaledQueue

GROUP: Final = "external.metrics.k8s.io"
VERSION: Final = "v1beta1"
GROUP_VERSION: Final = f"{GROUP}/{VERSION}"
METRIC: Final = "perdure_task_queue_demand"
_ROOT: Final = f"/apis/{GROUP_VERSION}"
_LABELS: Final = ("queue", "temporal_namespace")
_REASONS: Final[Mapping[int, str]] = {
    400: "BadRequest",
    401: "Unauthorized",
    404: "NotFound",
    405: "MethodNotAllowed",
    500: "InternalError",
    503: "ServiceUnavailable",
}

Document = dict[str, Any]
DemandOf = Callable[[Queue], Known | Unknown]
Welcomes = Callable[[Mapping[str, Any] | None], bool]


class MetricsApi:
    """The API of these task queues."""

    def __init__(
        self,
        queues: Sequence[ScaledQueue],
        demand_of: DemandOf,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._queues = tuple(queues)
        self._demand_of = demand_of
        self._now = now

    def application(self, welcomes: Welcomes) -> web.Application:
        """The HTTP application, which answers those whose certificate is welcome."""
        application = web.Application(middlewares=[_only_for(welcomes)])
        application.add_routes(
            [
                web.get("/apis", _always(_groups())),
                web.get(f"/apis/{GROUP}", _always({"kind": "APIGroup", "apiVersion": "v1", **_group()})),
                web.get(_ROOT, _always(_resources())),
                web.get(f"{_ROOT}/namespaces/{{namespace}}/{{metric}}", self._values),
            ]
        )
        return application

    async def _values(self, request: web.Request) -> web.Response:
        if (metric := request.match_info["metric"]) != METRIC:
            return _refuse(404, f'found no metric "{metric}", expected {METRIC}; ask for that one')
        try:
            requirements = parse_selector(request.query.get("labelSelector", ""))
        except BadSelector as error:
            return _refuse(400, str(error))
        if unknown := sorted({each.key for each in requirements} - set(_LABELS)):
            return _refuse(400, f"labelSelector names {', '.join(unknown)}, expected {' or '.join(_LABELS)}")
        chosen = _chosen(self._queues, requirements)
        if not chosen:
            return _refuse(404, self._none_chosen(request.query["labelSelector"]))
        items = []
        for scaled in chosen:
            demand = self._demand_of(scaled.queue)
            if isinstance(demand, Unknown):
                # A sum without one of its parts would be too small.
                return _refuse(503, f"the demand of task queue {scaled.queue.name} is not known: {demand.why}")
            items.append(self._item(scaled, demand))
        return web.json_response(
            {"kind": "ExternalMetricValueList", "apiVersion": GROUP_VERSION, "metadata": {}, "items": items}
        )

    def _none_chosen(self, selector: str) -> str:
        known = ", ".join(",".join(f"{key}={value}" for key, value in each.labels.items()) for each in self._queues)
        return (
            f"found no task queue of which {selector} is true, expected one of {known}; ask for one of these, or name "
            f"yours in the chart's scaler.extraQueues"
        )

    def _item(self, scaled: ScaledQueue, demand: Known) -> Document:
        return {
            "metricName": METRIC,
            "metricLabels": scaled.labels,
            "timestamp": self._now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "value": str(demand.total),
        }


def _chosen(queues: Sequence[ScaledQueue], requirements: Sequence[Requirement]) -> list[ScaledQueue]:
    return [scaled for scaled in queues if all(each.met_by(scaled.labels) for each in requirements)]


@web.middleware
async def _as_status(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _refuse(error.status, f"{request.method} {request.path}: {error.reason}; expected GET below {_ROOT}")


def _only_for(welcomes: Welcomes) -> Any:
    @web.middleware
    async def check(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        if not welcomes(certificate):
            return _refuse(
                401,
                "found no certificate of the cluster's API server, expected to be asked by nobody else; ask it: "
                f"kubectl get --raw {_ROOT}",
            )
        return await _as_status(request, handler)

    return check


def _always(document: Document) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(document)

    return answer


def _group() -> Document:
    version = {"groupVersion": GROUP_VERSION, "version": VERSION}
    return {"name": GROUP, "versions": [version], "preferredVersion": version}


def _groups() -> Document:
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group()]}


def _resources() -> Document:
    resource = {
        "name": METRIC,
        "singularName": "",
        "namespaced": True,
        "kind": "ExternalMetricValueList",
        "verbs": ["get"],
    }
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": [resource]}


def _refuse(code: int, message: str) -> web.Response:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _REASONS.get(code, "Unknown"),
        "code": code,
    }
    return web.json_response(status, status=code)
