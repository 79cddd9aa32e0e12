"""Chunks of documents by what they mean: `search`."""

from __future__ import annotations

import asyncio
import json

from temporalio.client import WorkflowFailureError

from perdure_api.documents import Hit, SearchResult
from perdure_cli import runs
from perdure_cli.errors import CliError
from perdure_cli.temporal import Temporal, connect
from perdure_control.factory import start_workflow
from perdure_control.factory.inputs import read_input


class NotFound(CliError):
    """The search did not come to an end."""

    exit_status = 1


def search(where: Temporal, text: str, store: str, count: int, timeout_seconds: int) -> SearchResult:
    """What was found, the nearest first.

    Raises:
        CliError: nothing could be.
    """
    with runs.refusals():
        return asyncio.run(_search(where, text, store, count, timeout_seconds))


def as_json(found: SearchResult) -> str:
    """For programs."""
    return json.dumps(found.to_wire(), indent=2, ensure_ascii=False)


def as_text(found: SearchResult) -> str:
    """For people: a line of where, and the chunk below it."""
    if not found.hits:
        return "Nothing was found: the store is empty."
    return "\n\n".join(f"{_place(hit)}\n{_indented(hit.text)}" for hit in found.hits)


def _place(hit: Hit) -> str:
    page = f", page {hit.page}" if hit.page is not None else ""
    headings = f"  {' > '.join(hit.headings)}" if hit.headings else ""
    return f"{hit.score:.3f}  {hit.document}  {hit.start}-{hit.end}{page}{headings}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


async def _search(where: Temporal, text: str, store: str, count: int, timeout_seconds: int) -> SearchResult:
    known = runs.registry()
    wish = read_input(known.entry("search"), {"text": text, "store": store, "count": count})
    client = await connect(where)
    started = await start_workflow(client, "search", wish, registry=known)
    try:
        async with asyncio.timeout(timeout_seconds):
            found: SearchResult = await runs.result_of(started)
    except TimeoutError as error:
        await started.handle.cancel()
        raise NotFound(
            f"the search has no answer within {timeout_seconds} s; the GPU pool makes it: look whether that is there "
            f"(gpuWorker.enabled), or give it more --timeout while it loads the model"
        ) from error
    except WorkflowFailureError as error:
        raise NotFound(f"the search {runs.why(error.cause)}") from error
    return found
