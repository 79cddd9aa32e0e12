"""Temporal, as far as its own settings open it."""

from __future__ import annotations

import getpass
import re
import socket
from dataclasses import dataclass, replace
from typing import Final

from temporalio.client import Client
from temporalio.envconfig import ClientConfigProfile

from perdure_cli.errors import NoTemporal
from perdure_control.temporal import DEFAULT_ADDRESS, connect_as_told

_CONNECT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Temporal:
    """Which Temporal, as options say it. None: what the environment and its profiles say."""

    address: str | None = None
    namespace: str | None = None


async def connect(where: Temporal) -> Client:
    """A client.

    Raises:
        NoTemporal: its settings cannot be read, or it cannot be reached.
    """
    try:
        profile = ClientConfigProfile.load()
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise NoTemporal(f"Temporal's settings cannot be read: {problem}; look at TEMPORAL_* and profiles") from error
    profile = replace(profile, address=where.address or profile.address, namespace=where.namespace or profile.namespace)
    address = profile.address or DEFAULT_ADDRESS
    try:
        return await connect_as_told(profile, identity=f"perdure:{who()}", seconds=_CONNECT_SECONDS)
    except (RuntimeError, TimeoutError, ValueError) as error:
        because = _root(str(error)) or f"no answer within {_CONNECT_SECONDS:.0f} s"
        raise NoTemporal(
            f"Temporal at {address} cannot be reached ({because}); give --address, or set TEMPORAL_ADDRESS"
        ) from error


def who() -> str:
    """Who it is in histories: `user@host`."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a user without a name, as in many containers
        return socket.gethostname()


def _root(text: str) -> str:
    """The innermost reason: the SDK wraps it in the names of all its layers."""
    messages = re.findall(r'message: "([^"]+)"', text)
    return messages[-1] if messages else text
