"""A workflow is started, or the one that is there already is joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from perdure_api import names
from perdure_control.factory.entry import Duplicates, WorkflowEntry, digest
from perdure_control.factory.errors import AlreadyStarted, InputTooLarge, InvalidId, TemporalAway
from perdure_control.factory.inputs import read_input
from perdure_control.factory.registry import Registry, load_registry

PAYLOAD_LIMIT_BYTES: Final = 2 << 20
"""Temporal's for one payload (limit.blobSize.error), unless a server is set up otherwise."""
ID_LIMIT_CHARACTERS: Final = 1000
"""Temporal's (limit.maxIDLength)."""
MEMO_INPUT: Final = "perdure-input"
"""Memo: digest of the input, so that a second start with an id by hand knows whether it means the same."""
MEMO_NAME: Final = "perdure-workflow"
"""Memo: its name in the factory."""

_CALL_TIMEOUT: Final = timedelta(seconds=10)
_REUSE: Final = {
    Duplicates.JOIN: WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
    Duplicates.REJECT: WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
    Duplicates.REPEAT: WorkflowIDReusePolicy.ALLOW_DUPLICATE,
}


@dataclass(frozen=True)
class Started:
    """A workflow that was started, or was there."""

    handle: WorkflowHandle[Any, Any]
    entry: WorkflowEntry[Any]
    joined: bool
    """It was there already: it runs, or has completed."""

    @property
    def id(self) -> str:
        """Of the workflow."""
        return self.handle.id


async def start_workflow(
    client: Client,
    name: str,
    input: BaseModel | Mapping[str, Any],  # noqa: A002 - what everybody calls it
    workflow_id: str | None = None,
    *,
    registry: Registry | None = None,
) -> Started:
    """Starts a workflow by its name.

    Args:
        client: Temporal's, with its pydantic data converter.
        name: As in the registry.
        input: Its input, as the model or as a mapping that fits it.
        workflow_id: Its id; None: the one that follows from the input.
        registry: Where to look; None: all workflows that are installed.

    Raises:
        FactoryError: it was not started; the error's class and its sentence say why.
    """
    entry = (registry or load_registry()).entry(name)
    given = read_input(entry, input)
    id_ = _checked_id(entry, workflow_id if workflow_id is not None else entry.derived_id(given))
    await _refuse_too_large(client, entry, given)
    try:
        handle: WorkflowHandle[Any, Any] = await client.start_workflow(
            entry.type,
            given,
            id=id_,
            task_queue=entry.queue,
            result_type=entry.result,
            execution_timeout=entry.timeout,
            retry_policy=entry.retry,
            # Whether it was there is told by an error only; one that failed may be tried again.
            id_reuse_policy=_REUSE[entry.duplicates],
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            memo={MEMO_INPUT: digest(given), MEMO_NAME: entry.name},
            static_summary=entry.name,
            rpc_timeout=_CALL_TIMEOUT,
        )
    except WorkflowAlreadyStartedError as error:
        if entry.duplicates is Duplicates.REJECT:
            raise AlreadyStarted(
                f"{id_} was started already, and {entry.name} is not to run twice; give another id if it is to"
            ) from error
        return await _joined(client, entry, given, id_, by_hand=workflow_id is not None)
    except RPCError as error:
        raise _refusal(client, entry, error) from error
    return Started(handle, entry, joined=False)


async def _joined(client: Client, entry: WorkflowEntry[Any], given: BaseModel, id_: str, *, by_hand: bool) -> Started:
    """The workflow that has the id.

    Raises:
        AlreadyStarted: it is another one than meant: of another type, or, where the id was given by hand, with another
            input.
        TemporalAway: no answer.
    """
    handle = client.get_workflow_handle(id_, result_type=entry.result)
    try:
        there = await handle.describe(rpc_timeout=_CALL_TIMEOUT)
        before = await there.memo_value(MEMO_INPUT, None)
    except RPCError as error:
        raise _refusal(client, entry, error) from error
    if there.workflow_type != entry.type:
        raise AlreadyStarted(f"{id_} is the id of another workflow, a {there.workflow_type}; give another id")
    if by_hand and before != digest(given):
        raise AlreadyStarted(f"{id_} was started already, with another input; give another id, or none")
    return Started(handle, entry, joined=True)


def _checked_id(entry: WorkflowEntry[Any], id_: str) -> str:
    if not id_.strip() or len(id_) > ID_LIMIT_CHARACTERS or not id_.isprintable():
        raise InvalidId(
            f"the id of a {entry.name} is {id_[:80]!r} ({len(id_)} characters); expected 1 to {ID_LIMIT_CHARACTERS} "
            f"characters that can be printed"
        )
    if id_.startswith(names.WORKFLOW_ID_PREFIX):
        raise InvalidId(
            f"{id_} is an id of a TrainingJob's own workflow; expected one that does not begin with "
            f'"{names.WORKFLOW_ID_PREFIX}"'
        )
    if id_.startswith(names.DEAD_LETTER_ID_PREFIX):
        raise InvalidId(
            f'{id_} is an id of a dead letter; expected one that does not begin with "{names.DEAD_LETTER_ID_PREFIX}"'
        )
    return id_


async def _refuse_too_large(client: Client, entry: WorkflowEntry[Any], given: BaseModel) -> None:
    payloads = await client.data_converter.encode([given])
    size = sum(payload.ByteSize() for payload in payloads)
    if size > PAYLOAD_LIMIT_BYTES:
        raise InputTooLarge(
            f"the input of {entry.name} has {size / (1 << 20):.1f} MiB; Temporal takes at most "
            f"{PAYLOAD_LIMIT_BYTES >> 20} MiB. Put what is large into the object store, and its URI into the input"
        )


def _refusal(client: Client, entry: WorkflowEntry[Any], error: RPCError) -> TemporalAway | InputTooLarge:
    if error.status is RPCStatusCode.INVALID_ARGUMENT and "exceeds" in error.message:
        return InputTooLarge(
            f"the input of {entry.name} is larger than this Temporal takes ({error.message}). Put what is large into "
            f"the object store, and its URI into the input"
        )
    return away(client, error)


def away(client: Client, error: RPCError) -> TemporalAway:
    """That Temporal gave no answer, as it is told."""
    return TemporalAway(
        f"Temporal at {client.service_client.config.target_host}, namespace {client.namespace}: "
        f"{error.status.name.lower()}: {error.message}"
    )
