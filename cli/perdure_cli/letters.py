"""Dead letters, as they are shown, and what people do with them."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote

import click
import yaml
from rich.table import Table
from temporalio.client import Client

from perdure_cli import phrases
from perdure_cli.errors import CliError, NoTemporal, NotThere
from perdure_cli.temporal import Temporal, connect, who
from perdure_control.factory import letters
from perdure_control.factory.errors import FactoryError, NoDeadLetter, TemporalAway
from perdure_control.factory.letters import Entry

COLUMNS: Final = ("WORKFLOW", "ID", "FAILED", "FAILURES", "STATE", "ERROR")
_ERROR_CHARACTERS: Final = 100

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Found:
    """One entry, with what is asked for of one only."""

    entry: Entry
    given: Any
    """The input of the work."""
    has_history: bool
    """Whether Temporal still has the history of the run that failed."""
    temporal_namespace: str
    ui: str | None = None
    """Where Temporal's web UI is."""


def entries(where: Temporal) -> list[Entry]:
    """Everything on the list, the newest last.

    Raises:
        CliError: it could not be found out.
    """

    async def all_(client: Client) -> list[Entry]:
        return await letters.entries(client)

    return _asked(where, all_)


def find(where: Temporal, id_: str, ui: str | None = None) -> Found:
    """One entry.

    Raises:
        CliError: there is none, or it could not be found out.
    """

    async def one(client: Client) -> Found:
        entry = letters.named(id_, await letters.entries(client))
        given, has_history = await letters.shown(client, entry), await letters.has_history(client, entry)
        return Found(entry, given, has_history, client.namespace, ui)

    return _asked(where, one)


def retry(where: Temporal, ids: Sequence[str], *, everything: bool) -> bool:
    """Starts work again, and tells of each.

    Returns:
        Whether all was started.

    Raises:
        CliError: an id is not there (nothing was started), or Temporal is away.
    """

    async def again(client: Client, entry: Entry) -> str:
        retried = await letters.retry(client, entry, who())
        return f"is tried again as run {retried.run_id}."

    return _asked(where, lambda client: _each(client, ids, again, everything=everything))


def drop(where: Temporal, ids: Sequence[str], *, everything: bool) -> bool:
    """Takes work off the list, and tells of each.

    Returns:
        Whether all was dropped.

    Raises:
        CliError: an id is not there (nothing was dropped), or Temporal is away.
    """

    async def off(client: Client, entry: Entry) -> str:
        await letters.drop(client, entry, f"dropped by {who()}")
        return "is dropped."

    return _asked(where, lambda client: _each(client, ids, off, everything=everything))


async def _each(
    client: Client, ids: Sequence[str], act: Callable[[Client, Entry], Awaitable[str]], *, everything: bool
) -> bool:
    there = await letters.entries(client)
    # All ids are looked up before the first is acted on: a typo in the last leaves nothing half done.
    chosen = (
        [entry for entry in there if entry.retried is None]
        if everything
        else [letters.named(id_, there) for id_ in ids]
    )
    failed = False
    for entry in chosen:
        try:
            click.echo(f"{entry.letter.id} {await act(client, entry)}")
        except TemporalAway:
            raise
        except FactoryError as error:
            click.echo(f"Error: {error}", err=True)
            failed = True
    if not chosen:
        click.echo("There are no dead letters that wait.", err=True)
    return not failed


def table(there: Sequence[Entry], now: datetime | None = None) -> Table:
    """One row for each entry."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        shown.add_column(column, no_wrap=column != COLUMNS[-1])
    for entry in there:
        letter = entry.letter
        ago = phrases.age(((now or datetime.now(UTC)) - letter.failed_at).total_seconds())
        cells = (letter.workflow, letter.id, f"{ago} ago", str(letter.failures), state(entry), _line(letter.error))
        shown.add_row(*cells, style="" if entry.retried else "red")
    return shown


def state(entry: Entry) -> str:
    """How it is with an entry, in a word."""
    return "retrying" if entry.retried else "waiting"


def document(entry: Entry) -> dict[str, Any]:
    """What programs may want to know of an entry on a list."""
    retried = entry.retried.to_wire() if entry.retried else None
    return {**entry.letter.to_wire(), "state": state(entry), "retried": retried}


def whole(found: Found) -> dict[str, Any]:
    """What programs may want to know of one entry."""
    return {**document(found.entry), "hasHistory": found.has_history, "input": found.given}


def story(found: Found) -> str:
    """One entry, for people."""
    letter, retried = found.entry.letter, found.entry.retried
    lines = [
        f"Workflow:  {letter.workflow} ({letter.type}, task queue {letter.queue})",
        f"Id:        {letter.id}",
        f"Failed:    {letter.failed_at:%Y-%m-%d %H:%M:%S} UTC, {_times(letter.failures)} for good",
        f"Error:     {letter.error}" + (f" ({letter.error_type})" if letter.error_type else ""),
        f"State:     {_state(retried.by, retried.at, retried.run_id) if retried else 'waits for somebody'}",
        f"History:   {_history(found)}",
        "Input:",
    ]
    text = yaml.safe_dump(found.given, allow_unicode=True, sort_keys=False)
    return "\n".join([*lines, *(f"  {line}" for line in text.splitlines())])


def _state(by: str, at: datetime, run_id: str) -> str:
    whose = f" by {by}" if by else ""
    return f"tried again{whose} at {at:%Y-%m-%d %H:%M:%S} UTC, as run {run_id}"


def _history(found: Found) -> str:
    letter = found.entry.letter
    if not found.has_history:
        return f"Temporal has forgotten that of run {letter.run_id}; its retention is over"
    if found.ui:
        place = f"namespaces/{quote(found.temporal_namespace, safe='')}/workflows/{quote(letter.id, safe='')}"
        return f"{found.ui.rstrip('/')}/{place}/{letter.run_id}/history"
    command = ["temporal", "workflow", "show", "--namespace", found.temporal_namespace]
    return shlex.join([*command, "--workflow-id", letter.id, "--run-id", letter.run_id])


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _ERROR_CHARACTERS else f"{line[: _ERROR_CHARACTERS - 1]}…"


def _asked(where: Temporal, ask: Callable[[Client], Coroutine[Any, Any, Answer]]) -> Answer:
    """What Temporal answers.

    Raises:
        CliError: it answers something else, or not at all.
    """

    async def asked() -> Answer:
        return await ask(await connect(where))

    try:
        return asyncio.run(asked())
    except TemporalAway as error:
        raise NoTemporal(str(error)) from error
    except NoDeadLetter as error:
        raise NotThere(str(error)) from error
    except FactoryError as error:
        raise CliError(str(error)) from error
