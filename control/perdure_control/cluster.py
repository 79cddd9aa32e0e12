"""The Kubernetes API as plain documents.

The official client carries the requests (configuration, authentication, TLS, connection pool); its generated models
are left aside, since building them costs four times the request itself and hides fields that are newer than they.

    ClusterError
    ├── ClusterUnavailable   no answer, 429, 5xx: try again
    └── Refused              an answer that the same request will get again
        ├── NotFound         404
        ├── Conflict         409: it exists, or changed, or is another object than meant
        ├── Forbidden        403: RBAC, quota, admission
        ├── Invalid          400, 422: schema, CEL, admission
        └── Gone             410: a watch began too far back
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import ApiClient, Configuration

Document = dict[str, Any]

APPLY: Final = "application/apply-patch+yaml;charset=utf-8"
"""With a parameter, which the API server passes over: without one the client would make JSON of the body itself."""
MERGE_PATCH: Final = "application/merge-patch+json"
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
JSON_PATCH: Final = "application/json-patch+json"

_BEYOND_ASCII: Final = re.compile(r"[^ -~]")
_LAST_OF_FIRST_PLANE: Final = 0xFFFF
_SURROGATES: Final = range(0xD800, 0xE000)
_REPLACEMENT: Final = 0xFFFD
"""What stands for a character that is none."""
_REQUEST_TIMEOUT_SECONDS: Final = 30
_POOL_SIZE: Final = 64


class ClusterError(Exception):
    """Something that the API server said, or did not."""

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", causes: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        """HTTP status; 0 when there was no answer."""
        self.reason = reason
        """The API server's machine-readable reason, such as AlreadyExists."""
        self.causes = causes
        """What it names as causes, such as NamespaceTerminating."""


class ClusterUnavailable(ClusterError):
    """No answer now: the API server is away, overloaded, or refuses for the moment."""


class Refused(ClusterError):
    """An answer that the same request will get again."""


class NotFound(Refused):
    """404."""


class Conflict(Refused):
    """409."""


class Forbidden(Refused):
    """403."""


class Invalid(Refused):
    """400 or 422."""


class Gone(Refused):
    """410."""


_BY_STATUS: Final[Mapping[int, type[ClusterError]]] = {
    400: Invalid,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: ClusterUnavailable,
}
_SERVER_ERROR: Final = 500

Answered = Callable[[str, str, int], None]
"""Told of each answer: method, path, HTTP status (0: there was none)."""


@dataclass(frozen=True)
class Collection:
    """A resource type, and where its objects are."""

    api: str
    """`v1` or `group/version`."""
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of the collection, of one object, or of a part of one."""
        root = f"/api/{self.api}" if "/" not in self.api else f"/apis/{self.api}"
        parts = [root, f"namespaces/{namespace}" if namespace else None, self.plural, name, subresource]
        return "/".join(part for part in parts if part)


JOBS: Final = Collection("batch/v1", "jobs")
DEPLOYMENTS: Final = Collection("apps/v1", "deployments")
PODS: Final = Collection("v1", "pods")
SERVICES: Final = Collection("v1", "services")
EVENTS: Final = Collection("v1", "events")
NETWORK_POLICIES: Final = Collection("networking.k8s.io/v1", "networkpolicies")
SECRETS: Final = Collection("v1", "secrets")
TOKEN_REVIEWS: Final = Collection("authentication.k8s.io/v1", "tokenreviews")


async def load_configuration(kubeconfig: str | None = None) -> Configuration:
    """The client configuration by the given kubeconfig, by KUBECONFIG, or from inside a pod, in this order."""
    configuration = Configuration()
    path = kubeconfig or os.environ.get("KUBECONFIG")
    if path:
        await kubernetes_config.load_kube_config(config_file=path, client_configuration=configuration)
    else:
        kubernetes_config.load_incluster_config(client_configuration=configuration)
    return configuration


class Cluster:
    """A connection to one API server. Use as an asynchronous context manager."""

    def __init__(self, configuration: Configuration, *, answered: Answered = lambda *_: None) -> None:
        self._api = ApiClient(configuration)
        self._answered = answered

    @classmethod
    async def connect(
        cls, user_agent: str, *, kubeconfig: str | None = None, answered: Answered = lambda *_: None
    ) -> Self:
        """A connection by the given kubeconfig, by KUBECONFIG, or from inside a pod, in this order."""
        configuration = await load_configuration(kubeconfig)
        configuration.connection_pool_maxsize = _POOL_SIZE
        if not _has_proxy(configuration.host):
            # It would be looked for, and a netrc file read, with each request.
            configuration.client_session_kwargs = {"trust_env": False}
        cluster = cls(configuration, answered=answered)
        cluster._api.user_agent = user_agent
        return cluster

    async def __aenter__(self) -> Self:
        """The connection itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes every connection."""
        await self.close()

    async def close(self) -> None:
        """Closes every connection."""
        await self._api.close()

    async def get(self, path: str, **query: str | int) -> Document:
        """The object or list at a path."""
        return await self._document("GET", path, query=query)

    async def uid(self, path: str) -> str:
        """The uid of the object at a path; the rest of it is not sent."""
        document = await self._document("GET", path, accept=_METADATA_ONLY)
        uid: str = document["metadata"]["uid"]
        return uid

    async def create(self, path: str, body: Document, **query: str | int) -> Document:
        """The created object."""
        return await self._document("POST", path, query=query, body=body)

    async def patch(self, path: str, body: Document | list[Document], *, content_type: str) -> Document:
        """The patched object."""
        return await self._document("PATCH", path, body=body, content_type=content_type)

    async def apply(self, path: str, body: Document, *, manager: str) -> Document:
        """The object after a forced server-side apply: what this manager no longer names is removed."""
        query = {"fieldManager": manager, "force": "true"}
        return await self._document("PATCH", path, query=query, body=yaml_of(body), content_type=APPLY)

    async def delete(
        self, path: str, *, propagation: str = "Background", uid: str | None = None, grace_seconds: int | None = None
    ) -> None:
        """Deletes an object, only the one with this uid when one is given. Already gone is fine."""
        body: Document = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self._document("DELETE", path, body=body)
        except NotFound:
            return

    async def watch(self, path: str, *, idle_seconds: float, **query: str | int) -> AsyncIterator[Document]:
        """Watch events as they come, until the server ends the watch.

        Args:
            path: The collection.
            idle_seconds: Silence after which the connection counts as dead; bookmarks come about once a minute.
            query: labelSelector, resourceVersion, timeoutSeconds, …

        Raises:
            Gone: the resourceVersion is too old: list again.
            ClusterUnavailable: the connection broke or fell silent.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_REQUEST_TIMEOUT_SECONDS, sock_read=idle_seconds)
        response = await self._send("GET", path, query={**query, "watch": "true"}, limits=limits)
        try:
            async for line in response.content:
                if not line.strip():
                    continue
                event: Document = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise _error(status.get("code", _SERVER_ERROR), status)
                yield event
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ClusterUnavailable(f"the watch of {path} broke off: {error!r}") from error
        finally:
            response.close()

    async def _document(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Document | list[Document] | bytes | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Document:
        limits = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_SECONDS)
        headers = {"Content-Type": content_type, "Accept": accept}
        response = await self._send(method, path, query=query, body=body, headers=headers, limits=limits)
        try:
            document: Document = json.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ClusterUnavailable(f"{method} {path}: the answer broke off: {error!r}") from error
        return document

    async def _send(
        self,
        method: str,
        path: str,
        *,
        limits: aiohttp.ClientTimeout,
        query: Mapping[str, str | int] | None = None,
        body: Document | list[Document] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        """The response with a good status, its body unread."""
        url = f"{self._api.configuration.host}{path}{f'?{urlencode(query)}' if query else ''}"
        all_headers = {"Content-Type": "application/json", **(headers or {}), **self._api.default_headers}
        try:
            await self._api.update_params_for_auth(all_headers, [], ["BearerToken"], path, method, body)
            answer = await self._api.rest_client.request(
                method, url, headers=all_headers, body=body, _request_timeout=limits
            )
            response: aiohttp.ClientResponse = answer.response
            self._answered(method, path, response.status)
            if response.ok:
                return response
            text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._answered(method, path, 0)
            raise ClusterUnavailable(f"{method} {path}: no answer from the API server: {error!r}") from error
        raise _error(response.status, _status_document(text))


def _has_proxy(url: str) -> bool:
    """Whether the environment names a proxy for an address."""
    parts = urlsplit(url)
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")


def yaml_of(document: Document) -> bytes:
    """A document as YAML: JSON but for emojis and the like, which JSON writes as surrogates, and YAML knows none."""
    return _BEYOND_ASCII.sub(_escaped, json.dumps(document, ensure_ascii=False)).encode()


def _escaped(character: re.Match[str]) -> str:
    code = ord(character[0])
    if code in _SURROGATES:
        code = _REPLACEMENT
    return f"\\U{code:08x}" if code > _LAST_OF_FIRST_PLANE else f"\\u{code:04x}"


def _status_document(text: bytes) -> Document:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    return document if isinstance(document, dict) else {"message": text.decode(errors="replace")[:1000]}


def _error(status: int, document: Document) -> ClusterError:
    default = ClusterUnavailable if status >= _SERVER_ERROR else Refused
    kind = _BY_STATUS.get(status, default)
    message, reason = document.get("message") or f"HTTP {status}", document.get("reason", "")
    causes = (document.get("details") or {}).get("causes") or []
    return kind(message, status=status, reason=reason, causes=frozenset(each.get("reason", "") for each in causes))
