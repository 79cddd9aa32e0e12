"""The commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import update_wrapper
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
from rich.console import Console, Group
from rich.live import Live

from perdure_api.pod import CONTAINER_NAME
from perdure_cli import attempts, bar, steering, story, table
from perdure_cli import top as top_view
from perdure_cli.attempts import Pod
from perdure_cli.cluster import Cluster, Where
from perdure_cli.dead_letters import dead_letters
from perdure_cli.errors import EXIT_FAILED, EXIT_SUCCEEDED, EXIT_UNKNOWN, CliError, NoCluster, NotThere
from perdure_cli.job import Job
from perdure_cli.options import temporal_options

if TYPE_CHECKING:
    from perdure_cli.looking import Looking

_POLL_SECONDS: Final = 1.0
_EXIT_INTERRUPTED: Final = 130
_WIDE: Final = 10_000
_ENDING_SECONDS: Final = 5.0
"""How long the status may take to tell how an attempt ended whose log has ended."""


class Commands(click.Group):
    """Commands whose errors are sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        """What the command returns; an error ends it with its sentence."""
        try:
            return super().invoke(ctx)
        except CliError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_status)


def where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Kubectl's options for which cluster and namespace: before the command or after it."""

    def with_where(
        ctx: click.Context, /, namespace: str | None, context: str | None, kubeconfig: str | None, **rest: Any
    ) -> Any:
        outer = ctx.find_object(Where) or Where()
        ctx.obj = Where(namespace or outer.namespace, context or outer.context, kubeconfig or outer.kubeconfig)
        return command(ctx.obj, **rest)

    wrapped = update_wrapper(click.pass_context(with_where), command)
    for option in (
        click.option("--kubeconfig", type=click.Path(dir_okay=False), help="The kubeconfig file."),
        click.option("--context", help="Context of the kubeconfig; left out: the current one."),
        click.option("-n", "--namespace", help="Namespace; left out: that of the context."),
    ):
        wrapped = option(wrapped)
    return wrapped


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@where_options
def perdure(where: Where) -> None:
    """Watch training jobs, read their logs, steer them, and learn what became of them. Run workflows.

    Exit status: 0 fine, 1 the job or workflow failed, 2 the command was not understood, 3 it could not be found out.
    """


@perdure.command("list")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of all namespaces.")
@where_options
def list_(where: Where, *, everywhere: bool) -> None:
    """List the training jobs."""
    cluster = Cluster.connect(where)
    jobs = cluster.jobs(everywhere=everywhere)
    if not jobs:
        place = "the cluster" if everywhere else f"namespace {cluster.namespace}"
        click.echo(f"There are no TrainingJobs in {place}.", err=True)
        return
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE  # programs want whole words, not columns that fit
    console.print(table.job_table(jobs, datetime.now(UTC), with_namespace=everywhere))


@perdure.command()
@click.argument("name")
@where_options
def watch(where: Where, name: str) -> None:
    """Watch a training job until it is finished.

    In a terminal with a live bar, elsewhere with a line for each change. Exit status: 0 it succeeded, 1 it failed.
    """
    cluster = Cluster.connect(where)
    job = cluster.job(name)
    try:
        last = _show_changes(cluster, job)
    except KeyboardInterrupt:
        click.echo(f"The job goes on; `perdure watch {name}` shows it again.", err=True)
        sys.exit(_EXIT_INTERRUPTED)
    if last is None:
        click.echo(f"{name} was deleted before it was finished.")
        sys.exit(EXIT_FAILED)
    click.secho(bar.last_line(last), fg=table.style(last) or None, bold=True)
    if not last.succeeded:
        click.echo(f"`perdure describe {name}` tells the whole story.", err=True)
    sys.exit(EXIT_SUCCEEDED if last.succeeded else EXIT_FAILED)


@perdure.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, across attempts.")
@where_options
def logs(where: Where, name: str, *, follow: bool) -> None:
    """Print the logs of a training job, attempt by attempt.

    The logs go to standard output, the lines between attempts to standard error.
    """
    cluster = Cluster.connect(where)
    job = cluster.job(name)
    pods = attempts.in_order(cluster.pods(job))
    for line in attempts.missing(job, pods):
        click.echo(line, err=True)
    if follow:
        _follow_logs(cluster, job)
        return
    for pod in pods:
        click.echo(attempts.begins(pod) if pod.began else attempts.waits(job, pod), err=True)
        if pod.began:
            _print_log(cluster, job, pod, follow=False)
    if not pods:
        click.echo(attempts.waits(job, None), err=True)


@perdure.command(short_help="Tell the story of a training job.")
@click.argument("name")
@where_options
def describe(where: Where, name: str) -> None:
    """Tell the story of a training job: what was asked, what happened, why, and what can be done."""
    cluster = Cluster.connect(where)
    job = cluster.job(name)
    for section in story.tell(job, cluster.events(job), datetime.now(UTC)):
        click.secho(section.title, bold=True)
        for line in section.lines:
            click.echo(f"  {line}")


@perdure.command()
@click.argument("name")
@where_options
def suspend(where: Where, name: str) -> None:
    """Have a training job save, end its pods, and wait. No attempt is used up."""
    click.echo(steering.suspend(Cluster.connect(where), name))


@perdure.command()
@click.argument("name")
@where_options
def resume(where: Where, name: str) -> None:
    """Have a suspended training job go on from what it has saved."""
    click.echo(steering.resume(Cluster.connect(where), name))


@perdure.command()
@click.argument("name")
@click.option("--reason", default="by hand", show_default=True, help="Why; it is told in the job's Events.")
@click.option("--timeout", default=120, show_default=True, type=click.IntRange(1, 86_400), help="Seconds to wait.")
@where_options
def checkpoint(where: Where, name: str, *, reason: str, timeout: int) -> None:
    """Have a training job save now, and wait until it has."""
    click.echo(steering.checkpoint(Cluster.connect(where), name, reason, timeout))


@perdure.command()
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@where_options
def cancel(where: Where, name: str, *, yes: bool) -> None:
    """End a training job for good. What it has saved stays."""
    if not yes:
        steering.sure(name)
    click.echo(steering.cancel(Cluster.connect(where), name))


@perdure.command(short_help="Start a workflow by its name.")
@click.argument("name")
@click.option(
    "-f",
    "--file",
    required=True,
    type=click.Path(dir_okay=False, allow_dash=True),
    help="The input, YAML or JSON; - reads standard input.",
)
@click.option("--wait", is_flag=True, help="Wait for its end, and print its result as JSON.")
@click.option("--id", "id_", help="Id of the workflow; left out: the one that follows from the input.")
@temporal_options
def run(
    name: str, file: str, *, wait: bool, id_: str | None, address: str | None, temporal_namespace: str | None
) -> None:
    """Start a workflow by its name, or join the one that has the same input.

    Temporal is found as its own command line finds it: TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY,
    TEMPORAL_TLS_*, and profiles (TEMPORAL_PROFILE).

    Exit status with --wait: 0 it completed, 1 it failed.
    """
    from perdure_cli import runs  # noqa: PLC0415 - Temporal's client takes long to import, and few commands need it
    from perdure_cli.temporal import Temporal  # noqa: PLC0415

    try:
        completed = runs.run(Temporal(address, temporal_namespace), name, file, id_, wait=wait)
    except KeyboardInterrupt:
        click.echo("The workflow goes on; the same command joins it again.", err=True)
        sys.exit(_EXIT_INTERRUPTED)
    sys.exit(EXIT_SUCCEEDED if completed else EXIT_FAILED)


@perdure.command(short_help="Find chunks of documents by what they mean.")
@click.argument("text")
@click.option("--store", required=True, metavar="URI", help="The vector store that document_ingest has written.")
@click.option("-k", "--count", default=5, show_default=True, type=click.IntRange(1, 100), help="Chunks to find.")
@click.option("--timeout", default=120, show_default=True, type=click.IntRange(1, 600), help="Seconds to wait.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@temporal_options
def search(
    text: str,
    *,
    store: str,
    count: int,
    timeout: int,
    output: str,
    address: str | None,
    temporal_namespace: str | None,
) -> None:
    """Find the chunks of a vector store that are nearest to a text, the nearest first.

    Each is told with its score (1: means the same), its document, and its place in it, in characters. The workers make
    the vector and read the store: no credentials for it are needed here.
    """
    from perdure_cli import searching  # noqa: PLC0415 - as above
    from perdure_cli.temporal import Temporal  # noqa: PLC0415

    found = searching.search(Temporal(address, temporal_namespace), text, store, count, timeout)
    click.echo(searching.as_json(found) if output == "json" else searching.as_text(found))


@perdure.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def workflows(output: str) -> None:
    """List the workflows that can be run: Perdure's own, and those of packages that are installed beside it."""
    from perdure_cli import runs  # noqa: PLC0415 - as above

    registry = runs.registry()
    for problem in registry.problems:
        click.echo(f"Passed over: {problem}", err=True)
    if output == "json":
        click.echo(json.dumps([runs.document(each, registry) for each in runs.in_order(registry)], indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    console.print(runs.table(registry))


perdure.add_command(dead_letters)


@perdure.command(short_help="Show queues, workers, circuit breakers, and jobs that go on.")
@click.option("--once", is_flag=True, help="Once, instead of over and over; so it is where there is no terminal.")
@temporal_options
@where_options
def top(where: Where, *, once: bool, address: str | None, temporal_namespace: str | None) -> None:
    """Show what waits and what is being done, circuit breakers, dead letters, and jobs that go on.

    What waits is asked of Temporal, the rest of the cluster; what cannot be asked is left out, and said. Workers tell
    of themselves by their metrics, for which the right to get pods/proxy is needed.
    """
    from perdure_cli import looking  # noqa: PLC0415 - as above
    from perdure_cli.temporal import Temporal  # noqa: PLC0415

    console = Console()
    looks = looking.Looking(where, Temporal(address, temporal_namespace))
    if once or not console.is_terminal:
        console.width = console.width if console.is_terminal else _WIDE
        picture = asyncio.run(looks.look())
        console.print(top_view.view(picture, datetime.now(UTC)))
        for problem in picture.problems:
            click.echo(f"Not known: {problem}", err=True)
        sys.exit(EXIT_UNKNOWN if picture.is_empty else EXIT_SUCCEEDED)
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
        asyncio.run(_look_for_ever(looks, live))


async def _look_for_ever(looks: Looking, live: Live) -> None:
    while True:
        picture = await looks.look()
        live.update(Group(top_view.view(picture, datetime.now(UTC)), *picture.problems), refresh=True)
        await asyncio.sleep(_POLL_SECONDS)


@perdure.command(short_help="Print the versions of this command and of the cluster's API.")
@where_options
def version(where: Where) -> None:
    """Print the version of this command and of the cluster's API."""
    click.echo(f"perdure {metadata.version('perdure')}")
    try:
        click.echo(f"TrainingJob API of the cluster: {', '.join(Cluster.connect(where).served_versions())}")
    except CliError as error:
        click.echo(f"Cluster: {error}", err=True)


def _show_changes(cluster: Cluster, job: Job) -> Job | None:
    """Shows a job until it is finished.

    Returns:
        The finished job; None when it was deleted.
    """
    console = Console()
    if console.is_terminal:
        with Live(bar.LiveView(job), console=console, refresh_per_second=8, transient=True) as live:
            return _until_finished(cluster, job, lambda changed: live.update(bar.LiveView(changed)))
    shown: list[str] = []

    def show(changed: Job) -> None:
        line = bar.plain_line(changed)
        if shown[-1:] != [line]:
            click.echo(line)
            shown.append(line)

    return _until_finished(cluster, job, show)


def _until_finished(cluster: Cluster, job: Job, show: Callable[[Job], None]) -> Job | None:
    for changed in _changes(cluster, job):
        if changed is None or changed.succeeded is not None:
            return changed
        show(changed)
    raise AssertionError("changes never end")


def _changes(cluster: Cluster, job: Job) -> Iterator[Job | None]:
    """Every change for ever, whatever becomes of the connection; None once the job is gone."""
    while True:
        try:
            for changed in cluster.changes(job):
                if changed is None or changed.uid != job.uid:
                    yield None
                    return
                yield changed
        except NotThere:
            yield None
            return
        except NoCluster as error:
            click.echo(f"{error} Trying again.", err=True)
            time.sleep(_POLL_SECONDS)


def _follow_logs(cluster: Cluster, job: Job) -> None:
    """Prints what the pods of a job write until the job is finished."""
    read: set[str] = set()
    said = ""
    while True:
        pods = [pod for pod in attempts.in_order(cluster.pods(job)) if pod.name not in read]
        job = cluster.job(job.name)
        pod = pods[0] if pods else None
        if pod is not None and (pod.began or pod.ended):
            _follow_attempt(cluster, job, pod)
            read.add(pod.name)
        elif job.succeeded is not None:
            click.echo(f"── {bar.last_line(job)}", err=True)
            return
        else:
            waits = attempts.waits(job, pod)
            if waits != said:
                click.echo(waits, err=True)
                said = waits
            time.sleep(_POLL_SECONDS)


def _follow_attempt(cluster: Cluster, job: Job, pod: Pod) -> None:
    click.echo(attempts.begins(pod), err=True)
    since = ""
    while True:
        since = _print_log(cluster, job, pod, follow=True, since=since)
        still_there = next((each for each in cluster.pods(job) if each.name == pod.name), None)
        if still_there is None or still_there.ended:
            break
        time.sleep(_POLL_SECONDS)  # the connection broke, or the log was silent for long
    click.echo(_how_it_ended(cluster, job, pod), err=True)


def _how_it_ended(cluster: Cluster, job: Job, pod: Pod) -> str:
    """What the status says of an attempt; it comes a moment after the end of the log."""
    deadline = time.monotonic() + _ENDING_SECONDS
    while time.monotonic() < deadline:
        job = cluster.job(job.name)
        if any(each.number == pod.attempt and each.end_time for each in job.status.attempts):
            break
        time.sleep(_POLL_SECONDS)
    return attempts.ends(job, pod.attempt)


def _print_log(cluster: Cluster, job: Job, pod: Pod, *, follow: bool, since: str = "") -> str:
    """Prints the lines of a log after a time stamp.

    Returns:
        The stamp of the last line (of fixed length, so that it sorts). The kubelet knows `since` in whole seconds
        only, and tells some lines again.
    """
    newest = since
    for line in cluster.log(job, pod, CONTAINER_NAME, follow=follow, since=since or None):
        stamp, text = attempts.split_stamp(line)
        if stamp > since:
            click.echo(text)
            newest = stamp
    return newest


def main() -> None:
    """Runs the command that the command line says."""
    as_plugin = Path(sys.argv[0]).name.startswith("kubectl-")
    try:
        perdure.main(prog_name="kubectl perdure" if as_plugin else "perdure")
    except SystemExit as end:
        if "temporalio" in sys.modules:
            _leave_at_once(end.code if isinstance(end.code, int) else EXIT_FAILED)
        raise


def _leave_at_once(status: int) -> NoReturn:
    """Ends the process without taking Python down first.

    Threads of Temporal's client may still call into it then, which aborts the process (status 134) after all is done.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads any more
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
