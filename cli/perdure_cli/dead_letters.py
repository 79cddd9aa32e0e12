"""The commands `dead-letters …`: work of workflows that failed for good."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Final

import click
from rich.console import Console

from perdure_cli.errors import EXIT_FAILED
from perdure_cli.options import temporal_options

_WIDE: Final = 10_000


@click.group("dead-letters")
def dead_letters() -> None:
    """See, try again or drop work of workflows that failed for good.

    What `perdure run` started and what failed with all its attempts is kept here with its input, also when Temporal has
    forgotten the workflow itself, until it was done after all or is dropped.
    """


def _output(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)(
        command
    )


@dead_letters.command("list")
@_output
@temporal_options
def list_(output: str, address: str | None, temporal_namespace: str | None) -> None:
    """List the work that failed for good, the newest last."""
    from perdure_cli import letters  # noqa: PLC0415 - Temporal's client takes long to import, and few commands need it
    from perdure_cli.temporal import Temporal  # noqa: PLC0415

    there = letters.entries(Temporal(address, temporal_namespace))
    if output == "json":
        click.echo(json.dumps([letters.document(entry) for entry in there], indent=2))
        return
    if not there:
        click.echo("There are no dead letters.", err=True)
        return
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    console.print(letters.table(there))


@dead_letters.command()
@click.argument("id", metavar="ID")
@_output
@click.option(
    "--ui", envvar="PERDURE_TEMPORAL_UI", help="URL of Temporal's web UI, for a link; or PERDURE_TEMPORAL_UI."
)
@temporal_options
def show(id: str, output: str, ui: str | None, address: str | None, temporal_namespace: str | None) -> None:  # noqa: A002 - click's name
    """Show what failed: its error, where its history is, and its input.

    ID is that of the workflow, as `perdure dead-letters list` shows it.
    """
    from perdure_cli import letters  # noqa: PLC0415 - as above
    from perdure_cli.temporal import Temporal  # noqa: PLC0415

    found = letters.find(Temporal(address, temporal_namespace), id, ui)
    click.echo(json.dumps(letters.whole(found), indent=2) if output == "json" else letters.story(found))


@dead_letters.command()
@click.argument("ids", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything on the list that is not being tried again.")
@temporal_options
def retry(ids: tuple[str, ...], *, everything: bool, address: str | None, temporal_namespace: str | None) -> None:
    """Start the same workflow again, with the same input and the same id.

    An entry says that it is being tried again, and goes when that was done. If it fails again, it waits again.

    Exit status: 0 all were started, 1 some were not.
    """
    from perdure_cli import letters  # noqa: PLC0415 - as above
    from perdure_cli.temporal import Temporal  # noqa: PLC0415

    _one_or_all(ids, everything=everything)
    where = Temporal(address, temporal_namespace)
    sys.exit(0 if letters.retry(where, ids, everything=everything) else EXIT_FAILED)


@dead_letters.command()
@click.argument("ids", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything on the list that is not being tried again.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@temporal_options
def drop(
    ids: tuple[str, ...], *, everything: bool, yes: bool, address: str | None, temporal_namespace: str | None
) -> None:
    """Take work off the list for good, its input with it.

    Exit status: 0 all were dropped, 1 some were not.
    """
    from perdure_cli import letters  # noqa: PLC0415 - as above
    from perdure_cli.temporal import Temporal  # noqa: PLC0415

    _one_or_all(ids, everything=everything)
    if not yes:
        what = "everything on the list" if everything else ", ".join(ids)
        click.confirm(f"Drop {what} for good, with the input?", abort=True, err=True)
    where = Temporal(address, temporal_namespace)
    sys.exit(0 if letters.drop(where, ids, everything=everything) else EXIT_FAILED)


def _one_or_all(ids: tuple[str, ...], *, everything: bool) -> None:
    if bool(ids) == everything:
        raise click.UsageError("expected ids, or --all; `perdure dead-letters list` shows ids")
