"""The Kubernetes API, as far as a kubeconfig opens it."""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode

import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration

from perdure_api import names
from perdure_cli.attempts import Pod, read_pod
from perdure_cli.errors import CliError, NoCluster, NotAllowed, NotInstalled, NotThere
from perdure_cli.job import Job, read_job
from perdure_cli.story import Event, read_event

_CONNECT_SECONDS: Final = 5
_ANSWER_SECONDS: Final = 30
_WATCH_SECONDS: Final = 240
"""The API server ends a watch after this time, and it is begun anew."""
_SILENCE_SECONDS: Final = 60
"""A log that is silent for so long is asked for again: a dead connection would be silent for ever."""
_PAGE: Final = 500
_HTTP_PORT: Final = 8080
"""Of our pods, for health and metrics."""
_METRICS_SECONDS: Final = 5


@dataclass(frozen=True)
class Where:
    """Which cluster and namespace, as kubectl's options say it. None: what the kubeconfig says."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None


@dataclass(frozen=True)
class WorkerPod:
    """Where a worker runs."""

    namespace: str
    name: str


class Cluster:
    """A cluster, and the namespace that is meant in it."""

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    @classmethod
    def connect(cls, where: Where) -> Self:
        """The cluster that is meant; nothing is asked of it yet.

        Raises:
            NoCluster: no kubeconfig, or it has no such context.
        """
        # A connection that is tried again is no news; that it failed in the end is said by us.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        # A kubeconfig that says insecure-skip-tls-verify has said enough; kubectl is silent too.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        configuration = Configuration()
        path = where.kubeconfig or os.environ.get("KUBECONFIG") or None
        try:
            config.load_kube_config(path, context=where.context, client_configuration=configuration)
            namespace = where.namespace or _namespace_of_context(path, where.context)
        except (config.ConfigException, OSError) as error:
            if not where.context and _in_cluster(configuration):
                return cls(ApiClient(configuration), where.namespace or _namespace_of_pod())
            raise NoCluster(
                f"no cluster is configured: {str(error).rstrip('.')}; give --kubeconfig or --context, or set KUBECONFIG"
            ) from error
        return cls(ApiClient(configuration), namespace)

    def job(self, name: str) -> Job:
        """One TrainingJob.

        Raises:
            NotThere: there is none of this name; says which names are near.
            CliError: the cluster does not answer, or refuses.
        """
        try:
            return read_job(self._get(self._jobs_path(name)))
        except NotThere:
            raise NotThere(_no_such_job(name, self.namespace, [job.name for job in self.jobs()])) from None

    def find(self, name: str) -> Job | None:
        """One TrainingJob, or None where there is none of this name; which others there are is not asked.

        Raises:
            CliError: the cluster does not answer, or refuses.
        """
        try:
            return read_job(self._get(self._jobs_path(name)))
        except NotThere:
            return None

    def jobs(self, *, everywhere: bool = False) -> list[Job]:
        """Every TrainingJob of the namespace, or of the cluster.

        Raises:
            CliError: the cluster does not answer, or refuses.
        """
        path = f"/apis/{names.API_VERSION}/{names.PLURAL}" if everywhere else self._jobs_path()
        return [read_job(item) for item in self._items(path)]

    def create(self, document: dict[str, Any]) -> Job:
        """Makes a TrainingJob.

        Raises:
            CliError: the cluster does not answer, or refuses.
        """
        answer = self._send(self._jobs_path(), {}, verb="POST", silence_seconds=_ANSWER_SECONDS, body=document)
        return read_job(json.loads(answer.data))

    def delete(self, job: Job) -> None:
        """Deletes a TrainingJob, unless it is gone or another one has its name by now.

        Raises:
            CliError: the cluster does not answer, or refuses.
        """
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": job.uid}}
        path = self._jobs_path(job.name)
        with contextlib.suppress(NotThere):
            self._send(path, {}, verb="DELETE", silence_seconds=_ANSWER_SECONDS, body=options)

    def change(self, job: Job, patch: dict[str, Any]) -> None:
        """Changes a TrainingJob, unless another one has its name by now.

        Raises:
            CliError: the cluster does not answer, or refuses.
        """
        same = {"metadata": {**patch.get("metadata", {}), "uid": job.uid}}
        body = {**patch, **same}
        self._send(self._jobs_path(job.name), {}, verb="PATCH", silence_seconds=_ANSWER_SECONDS, body=body)

    def changes(self, job: Job) -> Iterator[Job | None]:
        """A TrainingJob, now and after each change; None once it is gone. A broken watch ends it, without a sign.

        Raises:
            CliError: the cluster does not answer, or refuses.
        """
        document = self._get(self._jobs_path(job.name))
        yield read_job(document)
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={job.name}",
            "resourceVersion": document["metadata"]["resourceVersion"],
            "timeoutSeconds": _WATCH_SECONDS,
        }
        for line in self._lines(self._jobs_path(), query, silence_seconds=_WATCH_SECONDS + _ANSWER_SECONDS):
            event = json.loads(line)
            match event["type"]:
                case "ADDED" | "MODIFIED":
                    yield read_job(event["object"])
                case "DELETED":
                    yield None
                case _:
                    return  # history that is too old: begun anew

    def events(self, job: Job) -> list[Event]:
        """The Events of a job; none where this user may not read them.

        Raises:
            CliError: the cluster does not answer.
        """
        path = f"/api/v1/namespaces/{job.namespace}/events"
        try:
            return [read_event(item) for item in self._items(path, fieldSelector=f"involvedObject.uid={job.uid}")]
        except NotAllowed:
            return []

    def pods(self, job: Job) -> list[Pod]:
        """The pods of a job's attempts that are still there.

        Raises:
            CliError: the cluster does not answer, or refuses.
        """
        path = f"/api/v1/namespaces/{job.namespace}/pods"
        of_attempts = f"{names.LABEL_JOB_UID}={job.uid},{names.LABEL_ATTEMPT}!={names.RESERVATION}"
        return [read_pod(item) for item in self._items(path, labelSelector=of_attempts)]

    def log(self, job: Job, pod: Pod, container: str, *, follow: bool, since: str | None = None) -> Iterator[str]:
        """The stamped lines of a pod's log. Ends early, without a sign, when the connection breaks.

        Raises:
            CliError: the cluster does not answer, or refuses.
        """
        query: dict[str, str | int] = {"container": container, "timestamps": "true"}
        if follow:
            query["follow"] = "true"
        if since:
            query["sinceTime"] = since
        path = f"/api/v1/namespaces/{job.namespace}/pods/{pod.name}/log"
        yield from self._lines(path, query, silence_seconds=_SILENCE_SECONDS)

    def workers(self) -> list[WorkerPod]:
        """The pods of Perdure's workers, wherever in the cluster they are.

        Raises:
            CliError: the cluster does not answer, or refuses.
        """
        pods = self._items("/api/v1/pods", labelSelector="app.kubernetes.io/part-of=perdure")
        return [WorkerPod(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in pods if _is_worker(pod)]

    def metrics(self, pod: WorkerPod) -> str:
        """What a worker tells Prometheus.

        Raises:
            CliError: it does not answer, or the cluster refuses to ask it.
        """
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}:{_HTTP_PORT}/proxy/metrics"
        response = self._send(path, {}, silence_seconds=_METRICS_SECONDS)
        return str(response.data.decode())

    def served_versions(self) -> list[str]:
        """The versions of our API that the cluster serves.

        Raises:
            CliError: the cluster does not answer, or knows no TrainingJobs.
        """
        return [version["version"] for version in self._get(f"/apis/{names.GROUP}")["versions"]]

    def _jobs_path(self, name: str | None = None) -> str:
        tail = f"/{name}" if name else ""
        return f"/apis/{names.API_VERSION}/namespaces/{self.namespace}/{names.PLURAL}{tail}"

    def _items(self, path: str, **query: str | int) -> Iterator[dict[str, Any]]:
        page = self._get(path, limit=_PAGE, **query)
        yield from page["items"]
        while token := page["metadata"].get("continue"):
            page = self._get(path, limit=_PAGE, **query, **{"continue": token})
            yield from page["items"]

    def _get(self, path: str, **query: str | int) -> dict[str, Any]:
        response = self._send(path, query, silence_seconds=_ANSWER_SECONDS)
        document: dict[str, Any] = json.loads(response.data)
        return document

    def _lines(self, path: str, query: dict[str, str | int], *, silence_seconds: float) -> Iterator[str]:
        response = self._send(path, query, silence_seconds=silence_seconds)
        rest = b""
        try:
            for chunk in response.stream(amt=None, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
        except urllib3.exceptions.HTTPError:
            return  # broken or silent: whoever reads asks again for what comes after
        finally:
            response.release_conn()
        if rest:
            yield rest.decode(errors="replace")

    def _send(
        self,
        path: str,
        query: dict[str, str | int],
        *,
        silence_seconds: float,
        verb: str = "GET",
        body: dict[str, Any] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        host = self._api.configuration.host
        headers = {"Accept": "application/json, */*", **self._api.default_headers}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, verb, None)
        url = f"{host}{path}{f'?{urlencode(query)}' if query else ''}"
        try:
            answer = self._api.rest_client.request(
                verb, url, headers=headers, body=body, _request_timeout=(_CONNECT_SECONDS, silence_seconds)
            )
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise NoCluster(
                f"the cluster at {host} does not answer ({_root(error)}); is it up, and reachable?"
            ) from error
        response: urllib3.BaseHTTPResponse = answer.response
        if response.status < 400:  # noqa: PLR2004 - HTTP's border between answers and errors
            return response
        raise _refusal(host, response.status, response.data)


def _refusal(host: str, status: int, body: bytes) -> CliError:
    try:
        document = json.loads(body)
    except ValueError:
        document = {}
    message = document.get("message") or body.decode(errors="replace")[:300]
    match status:
        case 401:
            return NoCluster(f"the cluster at {host} does not accept these credentials; log in again")
        case 403:
            return NotAllowed(f"not allowed: {message}; ask whoever runs the cluster for this right")
        case 404 if (document.get("details") or {}).get("name"):
            return NotThere(message)
        case 404:
            return NotInstalled(
                f"the cluster at {host} knows no TrainingJobs ({names.API_VERSION}): Perdure is not installed there; "
                f"install its Helm chart, or choose another cluster with --context"
            )
        case _:
            return CliError(f"the cluster at {host} answered {status}: {message}")


def _is_worker(pod: dict[str, Any]) -> bool:
    commands = [container.get("command") or [] for container in pod["spec"]["containers"]]
    return any("perdure_workers" in command for command in commands) and pod["status"].get("phase") == "Running"


def _no_such_job(name: str, namespace: str, there: list[str]) -> str:
    near = difflib.get_close_matches(name, there, n=3, cutoff=0.5)
    if near:
        quoted = " or ".join(f'"{each}"' for each in near)
        hint = f"did you mean {quoted}?"
    elif there:
        hint = "`perdure list` shows those that there are"
    else:
        hint = "there are none at all in it; is it the right namespace (-n)?"
    return f'there is no TrainingJob "{name}" in namespace {namespace}; {hint}'


def _namespace_of_context(path: str | None, name: str | None) -> str:
    contexts, active = config.list_kube_config_contexts(path)
    chosen = next((context for context in contexts if context["name"] == name), active) if name else active
    namespace: str = chosen["context"].get("namespace") or "default"
    return namespace


def _in_cluster(configuration: Configuration) -> bool:
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        return False
    return True


def _namespace_of_pod() -> str:
    path = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return path.read_text().strip() if path.exists() else "default"


def _root(error: BaseException) -> str:
    """The innermost reason: urllib3 wraps it in all that it tried."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _root(reason)
    text = str(reason or error)
    return text.rsplit(": ", 1)[-1] if isinstance(error, urllib3.exceptions.NewConnectionError) else text
