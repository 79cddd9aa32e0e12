"""docs/guides/documents.md and docs/guides/evaluate.md, followed as they are written, with a real store and Temporal.

The models are stand-ins: a sentence encoder to which texts are their words, and a language model that has its answers
by heart.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from tests.docs.markdown import blocks
from tests.workers.data.standing_in import Models, all_workers

DOCUMENTS = "docs/guides/documents.md"
EVALUATE = "docs/guides/evaluate.md"
GENESIS = (
    "# Genesis\n\n## The beginning\n\nIn the beginning God created the heaven and the earth.\n\n"
    "## The garden\n\nAnd the LORD God planted a garden eastward.\n"
)
ANSWERS = {
    "What is the capital of France?": "It is Paris.",
    "Name three rivers of Germany as a JSON list.": '["Elbe"]',
    "What is the equator?": "An imaginary line around the middle of the Earth",
}

pytestmark = [
    pytest.mark.temporal,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lance.*"),
]


def page(name: str, language: str) -> list[str]:
    return [each.text for each in blocks(language) if each.page == name]


@dataclass(frozen=True)
class Reader:
    """Somebody who types what a page says, in a folder of their own."""

    folder: Path
    environment: dict[str, str]

    async def types(self, shell: str) -> tuple[int, str]:
        """Its exit status, and what it prints on standard output, or else on standard error."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", shell, cwd=self.folder, env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return process.returncode or 0, (out or err).decode()


@pytest.fixture
async def reader(tmp_path: Path, s3_environment: dict[str, str]) -> AsyncIterator[Reader]:
    async with all_workers(Models(answers=ANSWERS)) as client:
        yield Reader(
            tmp_path,
            {
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join(sys.path),
                "TEMPORAL_ADDRESS": client.service_client.config.target_host,
                # The environment may have no script of its own yet.
                "BASH_FUNC_perdure%%": f'() {{ "{sys.executable}" -m perdure_cli "$@"; }}',
            },
        )


def put(uri: str, content: str) -> None:
    Stores().put(parse_uri(uri), content.encode())


def fields(document: Any) -> Any:
    """What a document is made of, without its values."""
    if isinstance(document, dict):
        return {name: fields(value) for name, value in document.items()}
    return [fields(each) for each in document[:1]] if isinstance(document, list) else type(document)


async def test_documents_md_is_followed_from_ingestion_to_search(reader: Reader) -> None:
    put("s3://perdure/documents/genesis.md", GENESIS)
    put("s3://perdure/documents/john/11.txt", "Jesus wept.")
    (wish, _), (ingest, search, _) = page(DOCUMENTS, "yaml"), page(DOCUMENTS, "sh")
    (reader.folder / "documents.yaml").write_text(wish)

    status, ingested = await reader.types(ingest)
    again = json.loads((await reader.types(ingest))[1])
    found = (await reader.types(search))[1]

    shown = json.loads(page(DOCUMENTS, "json")[0])
    assert (status, {**json.loads(ingested), "tokens": 41}) == (0, shown)
    assert (again["unchanged"], again["written"]) == (2, 0)
    # The scores are the stand-in's.
    without_scores = [re.sub(r"(?m)^\d\.\d{3}", "", text) for text in (found, page(DOCUMENTS, "text")[0])]
    assert without_scores[0] == without_scores[1]


async def test_documents_md_says_all_that_is_different_with_postgresql(reader: Reader, pgvector: str) -> None:
    put("s3://perdure/documents/genesis.md", GENESIS)
    put("s3://perdure/documents/john/11.txt", "Jesus wept.")
    (first, wish), (ingest, search, secret) = page(DOCUMENTS, "yaml"), page(DOCUMENTS, "sh")
    (folder,), (table,) = (re.findall("(?m)^store: (.*)$", each) for each in (first, wish))
    assert first.replace(folder, table) == wish
    (reader.folder / "documents.yaml").write_text(wish.replace(table, pgvector))

    status, ingested = await reader.types(ingest)
    found = (await reader.types(search.replace(folder, f"'{pgvector}'")))[1]
    listed = [str(info.uri) for info in Stores().list_objects(parse_uri("s3://perdure/documents"))]

    assert (status, {**json.loads(ingested), "tokens": 41}) == (0, json.loads(page(DOCUMENTS, "json")[0]))
    without_scores = [re.sub(r"(?m)^\d\.\d{3}", "", text) for text in (found, page(DOCUMENTS, "text")[0])]
    assert without_scores[0] == without_scores[1]
    assert sorted(listed) == ["s3://perdure/documents/genesis.md", "s3://perdure/documents/john/11.txt"]
    # The Secret has what the environment of this test has, and the host of the URI.
    assert set(re.findall(r"(PG\w+)=", secret)) == {"PGHOST", "PGUSER", "PGPASSWORD"}
    assert re.findall(r"PGHOST=(\S+)", secret)[0] in table


async def test_evaluate_md_is_followed_from_suite_to_gate(reader: Reader) -> None:
    suite, base, adapter = page(EVALUATE, "yaml")
    run, compare = page(EVALUATE, "sh")
    put("s3://perdure/suites/geography.yaml", suite)
    (reader.folder / "eval.yaml").write_text(base)
    (reader.folder / "adapter.yaml").write_text(adapter)

    status, said = await reader.types(run)
    verdict, shown = json.loads(said), json.loads(page(EVALUATE, "json")[0])

    assert status == 0, said
    assert fields(verdict) == fields(shown)
    assert [each["problem"] for each in verdict["failed"]] == [each["problem"] for each in shown["failed"]]
    assert verdict["uri"] == shown["uri"]

    status, said = await reader.types(compare)

    assert status == 0, said
    assert json.loads(said)["compared"]["name"] == "base"
    (reader.folder / "adapter.yaml").write_text(adapter.replace("minScore: 0.7", "minScore: 0.95"))
    status, said = await reader.types(compare)
    assert (status, "the gate is not passed: the score is 0.8333; expected at least 0.95" in said) == (1, True)
