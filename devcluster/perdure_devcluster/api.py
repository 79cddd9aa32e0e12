"""A small client of the API server: what the commands here need, and no more."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure_devcluster import plan
from perdure_devcluster.errors import Unreachable

Json = dict[str, Any]
_FIELD_MANAGER = "perdure-devcluster"
_OK = range(200, 300)
_WATCH_SECONDS = 300


@dataclass(frozen=True)
class Listed:
    """All that there is."""

    items: list[Json]


@dataclass(frozen=True)
class Changed:
    """One object, as it is now, or was last."""

    document: Json
    is_gone: bool


@dataclass(frozen=True)
class Api:
    """The API server, as cluster-admin."""

    authority: Path
    token: str

    def ready(self) -> bool:
        """Whether the API server answers, with all its parts."""
        try:
            self._request("GET", "/readyz", None, "application/json", timeout_seconds=2)
        except Unreachable:
            return False
        return True

    def get(self, path: str) -> Json:
        """Read an object or a list."""
        return self._json("GET", path, None, "application/json")

    def find(self, path: str) -> Json | None:
        """Read an object; None when there is none."""
        try:
            return self.get(path)
        except Unreachable as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise

    def items(self, path: str) -> list[Json]:
        """Read a list's items."""
        items: list[Json] = self.get(path)["items"]
        return items

    def create(self, path: str, manifest: Json) -> Json:
        """Create an object; ``path`` is the list's."""
        return self._json("POST", path, manifest, "application/json")

    def apply(self, path: str, manifest: Json) -> Json:
        """Server-side apply; ``path`` is the object's own."""
        query = f"?fieldManager={_FIELD_MANAGER}&force=true"
        return self._json("PATCH", path + query, manifest, "application/apply-patch+yaml")

    def patch(self, path: str, operations: list[Json]) -> Json:
        """JSON patch."""
        return self._json("PATCH", path, operations, "application/json-patch+json")

    def delete(self, path: str) -> None:
        """Delete an object; one that is not there is as good as deleted."""
        try:
            self._json("DELETE", path, None, "application/json")
        except Unreachable as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise

    def list_and_watch(self, path: str) -> Iterator[Json]:
        """Every object of a list, then every one that is added or changes; ends after a while.

        Whoever calls begins again: the list repeats what a broken watch has missed.
        """
        for change in self.changes(path):
            if isinstance(change, Listed):
                yield from change.items
            elif not change.is_gone:
                yield change.document

    def changes(self, path: str) -> Iterator[Listed | Changed]:
        """A list, then what is added to it, changes in it, or goes from it; ends after a while.

        Whoever calls begins again: the next list holds what a broken watch has missed.
        """
        listed = self.get(path)
        yield Listed(listed["items"])
        version = listed["metadata"]["resourceVersion"]
        query = f"?watch=true&resourceVersion={version}&timeoutSeconds={_WATCH_SECONDS}"
        with self._connection(_WATCH_SECONDS + 30) as connection:
            try:
                connection.request("GET", path + query, headers=self._headers("application/json"))
                for line in connection.getresponse():
                    event = json.loads(line)
                    if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                        yield Changed(event["object"], is_gone=event["type"] == "DELETED")
                    elif event["type"] == "ERROR":
                        raise Unreachable(str(event["object"].get("message")))
            except (OSError, ValueError, http.client.HTTPException) as error:
                message = f"the watch of {path} broke off ({error})"
                raise Unreachable(message) from error

    def _connection(self, timeout_seconds: float) -> contextlib.closing[http.client.HTTPSConnection]:
        return contextlib.closing(
            http.client.HTTPSConnection(
                plan.HOST_ADDRESS,
                plan.API_PORT,
                timeout=timeout_seconds,
                context=ssl.create_default_context(cafile=str(self.authority)),
            )
        )

    def _headers(self, content_type: str) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/json",
            "Content-Type": content_type,
        }

    def _json(self, method: str, path: str, body: object, content_type: str) -> Json:
        answer: Json = json.loads(self._request(method, path, body, content_type))
        return answer

    def _request(
        self,
        method: str,
        path: str,
        body: object,
        content_type: str,
        timeout_seconds: float = 30,
    ) -> bytes:
        content = None if body is None else json.dumps(body).encode()
        with self._connection(timeout_seconds) as connection:
            try:
                connection.request(method, path, content, self._headers(content_type))
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as error:
                message = (
                    f"the API server at {plan.API_SERVER} did not answer ({error});"
                    " is the cluster up? see `devcluster status`"
                )
                raise Unreachable(message) from error
        if response.status not in _OK:
            message = f"{method} {path}: {response.status} {answer.decode(errors='replace')[:500]}"
            raise Unreachable(message, response.status)
        return answer
