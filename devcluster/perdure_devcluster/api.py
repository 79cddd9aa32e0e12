"""A small client of the API server: what the commands here need, and no more."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure_devcluster import plan
from perdure_devcluster.errors import Unreachable

Json = dict[str, Any]
_FIELD_MANAGER = "perdure-devcluster"
_OK = range(200, 300)


@dataclass(frozen=True)
class Api:
    """The API server, as cluster-admin."""

    authority: Path
    token: str

    def ready(self) -> bool:
        """Whether the API server answers, with all its parts."""
        try:
            self._request("GET", "/readyz", None, "", timeout_seconds=2)
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
        connection = http.client.HTTPSConnection(
            plan.HOST_ADDRESS,
            plan.API_PORT,
            timeout=timeout_seconds,
            context=ssl.create_default_context(cafile=str(self.authority)),
        )
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        try:
            connection.request(
                method, path, None if body is None else json.dumps(body).encode(), headers
            )
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            message = (
                f"the API server at {plan.API_SERVER} did not answer ({error});"
                " is the cluster up? see `devcluster status`"
            )
            raise Unreachable(message) from error
        finally:
            connection.close()
        if response.status not in _OK:
            message = f"{method} {path}: {response.status} {answer.decode(errors='replace')[:500]}"
            raise Unreachable(message, response.status)
        return answer
