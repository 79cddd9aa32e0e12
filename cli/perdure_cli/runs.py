"""Workflows by their names: `run` and `workflows`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import yaml
from pydantic_core import to_jsonable_python
from rich.table import Table
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import CancelledError
from temporalio.service import RPCError, RPCStatusCode

from perdure_cli.errors import CliError, NoTemporal, NotUnderstood
from perdure_cli.temporal import Temporal, connect
from perdure_control.factory import Registry, Started, WorkflowEntry, ends, load_registry, start_workflow
from perdure_control.factory.errors import AlreadyStarted, FactoryError, TemporalAway
from perdure_control.factory.inputs import fields, read_input

_PAUSE_SECONDS: Final = 2.0
_FINAL: Final = frozenset({RPCStatusCode.NOT_FOUND, RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED})
"""Answers that the same question gets again."""
COLUMNS: Final = ("NAME", "INPUT", "QUEUE", "FROM", "DESCRIPTION")


def registry() -> Registry:
    """The workflows that are installed here.

    Raises:
        CliError: two of them cannot be told apart.
    """
    try:
        return load_registry()
    except FactoryError as error:
        raise CliError(str(error)) from error


def run(where: Temporal, name: str, file: str, id_: str | None, *, wait: bool) -> bool:
    """Starts a workflow, or joins it; tells which, and where it is to be waited for how it ended.

    Args:
        where: Which Temporal.
        name: Of the workflow.
        file: With its input; `-` is standard input.
        id_: Of the workflow, by hand.
        wait: For its end.

    Returns:
        False when it was waited for and did not complete.

    Raises:
        CliError: it was not started, or nobody knows how it ended.
    """
    given = read_document(_content(file))
    with refusals():
        return asyncio.run(_run(where, name, given, id_, wait=wait))


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What keeps a workflow from being started, as the command's own errors."""
    try:
        yield
    except TemporalAway as error:
        raise NoTemporal(str(error)) from error
    except AlreadyStarted as error:
        raise CliError(str(error)) from error
    except FactoryError as error:
        raise NotUnderstood(str(error)) from error


def read_document(content: bytes) -> object:
    """What YAML or JSON says.

    Raises:
        NotUnderstood: it is neither.
    """
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise NotUnderstood(f"the input is neither YAML nor JSON: {problem}") from error


def _content(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise NotUnderstood(
            f"the input {file} cannot be read: {error.strerror}; give a file with YAML or JSON"
        ) from error


def in_order(registry: Registry) -> list[WorkflowEntry[Any]]:
    """Its workflows by name."""
    return [registry.entries[name] for name in sorted(registry.entries)]


def table(registry: Registry) -> Table:
    """One row for each workflow."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        shown.add_column(column, no_wrap=column != COLUMNS[-1])
    for each in in_order(registry):
        shown.add_row(
            each.name, ", ".join(fields(each.input)), each.queue, registry.origins[each.name], each.description
        )
    return shown


def document(entry: WorkflowEntry[Any], registry: Registry) -> dict[str, Any]:
    """All that programs may want to know of a workflow."""
    return {
        "name": entry.name,
        "description": entry.description,
        "type": entry.type,
        "queue": entry.queue,
        "from": registry.origins[entry.name],
        "duplicates": str(entry.duplicates),
        "timeoutSeconds": entry.timeout.total_seconds() if entry.timeout else None,
        "input": entry.input.model_json_schema(),
        "result": entry.result.model_json_schema(mode="serialization") if entry.result else None,
    }


async def _run(where: Temporal, name: str, given: object, id_: str | None, *, wait: bool) -> bool:
    # What is wrong with the command is told first: Temporal need not be there for that.
    known = registry()
    wish = read_input(known.entry(name), given)
    client = await connect(where)
    started = await start_workflow(client, name, wish, id_, registry=known)
    told = "was there already, and is joined" if started.joined else "has started"
    if not wait:
        click.echo(f"{started.id} {told}.")
        return True
    click.echo(f"{started.id} {told}; waiting for its end ...", err=True)
    return await _completes(started)


async def _completes(started: Started) -> bool:
    """Whether it completes; its result goes to standard output, why it does not to standard error."""
    try:
        result = await result_of(started)
    except WorkflowFailureError as error:
        click.echo(f"{started.id} {why(error.cause)}", err=True)
        return False
    click.echo(json.dumps(to_jsonable_python(result, by_alias=True, exclude_none=True), indent=2))
    return True


async def result_of(started: Started) -> Any:
    """What a workflow returns, however long Temporal is away meanwhile.

    Raises:
        WorkflowFailureError: it did not complete.
        NoTemporal: nobody will tell.
    """
    while True:
        try:
            return await started.handle.result()
        except RPCError as error:
            if error.status in _FINAL:
                raise NoTemporal(
                    f"Temporal does not tell how {started.id} ends ({error.status.name.lower()}: {error.message}); "
                    f"the workflow goes on"
                ) from error
            click.echo(f"Temporal does not answer ({error.message}). Trying again.", err=True)
            await asyncio.sleep(_PAUSE_SECONDS)


def why(error: BaseException | None) -> str:
    """How a workflow ended that did not complete, in a sentence."""
    if isinstance(ends.innermost(error), CancelledError):
        return "was cancelled."
    return f"failed: {ends.sentence(error)}"
