"""Whether Temporal answers."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from temporalio.testing import WorkflowEnvironment

from perdure_control.temporal import Reachability, connect


async def test_it_answers_or_what_is_wrong_is_said() -> None:
    reachability = Reachability()
    assert reachability.problem == "not asked yet"

    server = str(Path(sys.executable).with_name("temporal-test-server"))
    async with await WorkflowEnvironment.start_time_skipping(test_server_existing_path=server) as environment:
        await reachability.ask(environment.client)
        assert reachability.problem is None

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        await reachability.ask(await connect(address, "default", identity="test", lazy=True))
    assert (reachability.problem or "").startswith("no answer: ")
