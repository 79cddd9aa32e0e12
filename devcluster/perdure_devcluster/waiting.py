"""Wait for a condition, with a deadline."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import TypeVar

from perdure_devcluster.errors import DevclusterError

_T = TypeVar("_T")


def wait_for(
    condition: Callable[[], _T | None],
    *,
    what: str,
    timeout_seconds: float,
    interval_seconds: float = 0.05,
) -> _T:
    """Return the first true value of ``condition``; ``what`` names it when it never comes."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            message = f"waited {timeout_seconds:.0f} s for {what}, and it did not come"
            raise DevclusterError(message)
        time.sleep(interval_seconds)


def answers_ok(host: str, port: int, path: str) -> bool:
    """Whether a GET over plain HTTP is answered with 200."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
