"""`prepare_and_infer` and `batch_embed` through the factory, on a real Temporal, by real workers and tiny models."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from perdure_api.inference import BatchEmbedResult, PrepareAndInferResult
from perdure_control.factory import start_workflow
from perdure_control.factory.errors import InputTooLarge, InvalidInput
from perdure_data.stores import Stores
from perdure_inference.generator import Sampling
from perdure_inference.models import Models
from tests.inference.tiny import DIMENSION, write_encoder, write_generator
from tests.trainer.tiny import documents
from tests.workers.gpu import running_gpu_worker, server_with_workflows

pytestmark = [pytest.mark.temporal, pytest.mark.asyncio(loop_scope="module")]

MIXED = ["a lazy dog", "Übergrößenträger", "日本語の文", "שלום עולם", "😀 fox", "line\nbreak", "\u00a0edges\t"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_encoder(folder / "encoder")
    write_generator(folder / "generator")
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(folder: Path) -> AsyncIterator[Client]:
    async with server_with_workflows() as client, running_gpu_worker(client, folder / "scratch", slots=2):
        yield client


async def run(client: Client, name: str, given: dict[str, Any]) -> Any:
    started = await start_workflow(client, name, given, f"{name}-{uuid.uuid4()}")
    return await started.handle.result()


async def refusal(client: Client, name: str, given: dict[str, Any]) -> tuple[str | None, str]:
    with pytest.raises(WorkflowFailureError) as raised:
        await run(client, name, given)
    error = raised.value.cause
    assert isinstance(error, ApplicationError)
    return error.type, error.message


def expected(folder: Path, texts: list[str]) -> Any:
    models = Models(Stores(), folder / "scratch", keep=1)
    return models.encoder(f"file://{folder}/encoder").embed(texts, normalize=True).rows


async def test_few_vectors_come_in_the_result(client: Client, folder: Path) -> None:
    result: BatchEmbedResult = await run(client, "batch_embed", {"model": f"file://{folder}/encoder", "texts": MIXED})

    assert (result.count, result.dimension, result.uri, result.files) == (len(MIXED), DIMENSION, None, 0)
    assert np.array_equal(np.array(result.vectors, dtype=np.float32), expected(folder, MIXED))


@pytest.mark.parametrize("kind", ["jsonl", "txt"])
async def test_texts_of_the_store_become_files_in_it(client: Client, folder: Path, tmp_path: Path, kind: str) -> None:
    texts = documents(100)
    lines = texts if kind == "txt" else [json.dumps({"body": text}) for text in texts]
    (tmp_path / f"texts.{kind}").write_text("\n".join([*lines[:50], "", *lines[50:]]) + "\n")
    source = {"uri": f"file://{tmp_path}/texts.{kind}"} | ({} if kind == "txt" else {"field": "body"})

    result: BatchEmbedResult = await run(
        client,
        "batch_embed",
        {
            "model": f"file://{folder}/encoder",
            "source": source,
            "output": f"file://{tmp_path}/out/",
            "rowsPerFile": 5,
        },
    )

    assert (result.count, result.files, result.vectors) == (100, 20, [])
    assert result.uri
    table = pq.read_table(result.uri.removeprefix("file://"))
    assert table.column("row").to_pylist() == list(range(100))
    assert table.column("text").to_pylist() == texts
    # Files are batches of their own: what is computed together differs in the last bits.
    np.testing.assert_allclose(table.column("vector").to_pylist(), expected(folder, texts), atol=1e-6)


async def test_a_payload_over_temporals_limit_goes_through_the_store(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    """3 MB of texts in, and vectors of 2100 out: neither would pass as an input or a result."""
    texts = [f"{number} {'fox ' * 360}" for number in range(2100)]
    model = f"file://{folder}/encoder"
    with pytest.raises(InputTooLarge, match="Put what is large into the object store, and its URI into the input"):
        await run(client, "batch_embed", {"model": model, "texts": texts})
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    source = {"uri": f"file://{tmp_path}/texts.txt"}

    type_, said = await refusal(client, "batch_embed", {"model": model, "source": source})
    assert type_ == "OutputMissing"
    assert said.startswith("found 2100 texts and no output; expected at most 2048 without one. Set output to a folder")
    result = await run(client, "batch_embed", {"model": model, "source": source, "output": f"file://{tmp_path}/out"})

    assert (result.count, result.truncated) == (2100, 2100)
    assert pq.read_table(result.uri.removeprefix("file://")).num_rows == 2100


async def test_a_prompt_is_prepared_and_answered(client: Client, folder: Path) -> None:
    given = {"model": f"file://{folder}/generator", "prompt": "\ufeff the quick\r\nbrown \n", "maxNewTokens": 8}

    result: PrepareAndInferResult = await run(client, "prepare_and_infer", given)

    model = Models(Stores(), folder / "scratch", keep=1).generator(f"file://{folder}/generator", None)
    tokens = model.tokens("the quick\nbrown", "", None)
    (answer,) = model.generate([tokens], Sampling(8))
    assert (result.text, result.prompt_tokens, result.completion_tokens) == (answer.text, len(tokens), 8)
    assert result.finish_reason == "length"
    assert result.seconds > 0


async def test_a_prompt_over_the_token_limit_is_refused_before_anything_is_computed(
    client: Client, folder: Path
) -> None:
    given = {"model": f"file://{folder}/generator", "prompt": "fox " * 20, "maxPromptTokens": 10, "maxNewTokens": 8}

    type_, said = await refusal(client, "prepare_and_infer", given)

    assert type_ == "TooManyTokens"
    assert said.endswith("expected at most 10 (maxPromptTokens). Shorten it")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty; leave it out"),
        (" \n\t", "is empty; leave it out"),
        ("a\0b", "has a NUL byte at character 1, so it is binary data; expected text"),
        ("x" * 10_000_000, "has 10000000 characters; expected at most 1000000: cut it into pieces"),
        ("half \ud83d", r"has half a character \(a lone surrogate\) at character 5; expected Unicode"),
    ],
    ids=["empty", "blank", "NUL", "10 MB", "half a character"],
)
async def test_a_text_that_is_none_starts_nothing(client: Client, text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=f"the input of prepare_and_infer: prompt: it {says}"):
        await run(client, "prepare_and_infer", {"model": "s3://b/model", "prompt": text})
    with pytest.raises(InvalidInput, match=rf"the input of batch_embed: texts\.1: it {says}"):
        await run(client, "batch_embed", {"model": "s3://b/model", "texts": ["a", text]})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"texts": ["a"] * 100_001}, "texts: found 100001 texts; expected at most 100000 inline. Put them into a file"),
        ({}, "found neither of texts and source"),
        ({"texts": ["a"], "source": {"uri": "s3://b/t.txt"}}, "found both of texts and source"),
        ({"texts": ["a"], "output": "vectors"}, 'output: "vectors" starts with no scheme'),
        ({"text": ["a"]}, r'there is no field text; did you mean "texts"\?'),
    ],
    ids=["100,001 texts", "no texts", "texts twice", "no place", "a typo"],
)
async def test_an_input_that_contradicts_itself_starts_nothing(
    client: Client, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        await run(client, "batch_embed", {"model": "s3://b/model", **given})


@pytest.mark.parametrize(
    ("line", "type_", "says"),
    [
        ('{"text": ""}', "InvalidText", "line 2: the text is empty; leave it out"),
        ('{"txt": "a"}', "InvalidText", 'line 2: field "text" is no text (found "txt"); set source.field to the one'),
        ("no JSON", "InvalidText", "line 2: found no JSON"),
    ],
    ids=["empty", "another field", "no JSON"],
)
async def test_a_line_that_is_no_text_is_told_before_a_gpu_is_asked(
    client: Client, folder: Path, tmp_path: Path, line: str, type_: str, says: str
) -> None:
    (tmp_path / "texts.jsonl").write_text(f'{{"text": "a"}}\n{line}\n')
    given = {"model": f"file://{folder}/encoder", "source": {"uri": f"file://{tmp_path}/texts.jsonl"}}

    found, said = await refusal(client, "batch_embed", given)

    assert found == type_
    assert says in said


async def test_what_is_not_there_is_told_with_its_uri(client: Client, folder: Path, tmp_path: Path) -> None:
    missing = f"file://{tmp_path}/none"

    embedded = await refusal(client, "batch_embed", {"model": missing, "texts": ["a"]})
    answered = await refusal(client, "prepare_and_infer", {"model": missing, "prompt": "a"})
    adapted = await refusal(
        client, "prepare_and_infer", {"model": f"file://{folder}/generator", "adapter": missing, "prompt": "a"}
    )
    unread = await refusal(
        client, "batch_embed", {"model": f"file://{folder}/encoder", "source": {"uri": f"{missing}.txt"}}
    )

    assert [type_ for type_, _ in (embedded, answered, adapted, unread)] == [*["ModelNotFound"] * 3, "TextsNotFound"]
    assert all(missing in said for _, said in (embedded, answered, adapted, unread))


async def test_a_model_of_the_other_kind_is_refused(client: Client, folder: Path) -> None:
    encoder, generator = (f"file://{folder}/{kind}" for kind in ("encoder", "generator"))

    assert (await refusal(client, "batch_embed", {"model": generator, "texts": ["a"]}))[0] == "ModelBroken"
    assert (await refusal(client, "prepare_and_infer", {"model": encoder, "prompt": "a"}))[0] == "ModelBroken"


async def test_an_output_that_cannot_be_written_is_told(client: Client, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    given = {"model": f"file://{folder}/encoder", "texts": ["a"], "output": f"file://{tmp_path}/taken"}

    assert (await refusal(client, "batch_embed", given))[0] == "OutputNotWritable"
