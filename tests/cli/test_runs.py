"""`perdure run` and `perdure workflows`, with a real Temporal, a worker, and a package that brings a workflow."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client

from perdure_cli import runs
from perdure_cli.errors import NotUnderstood
from perdure_control.factory.builtin import BUILTIN
from tests.cli.typed import Perdure, Said
from tests.control.factory.workflows import GREET, Greeting, GreetWorkflow, greet
from tests.temporal_server import cpu_worker, dev_server

ROOT = Path(__file__).parents[2]
module_loop = pytest.mark.asyncio(loop_scope="module")
_people = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    async with dev_server() as client, cpu_worker(client, [GreetWorkflow], [greet]):
        yield client


@pytest.fixture
def address(client: Client) -> str:
    return client.service_client.config.target_host


@pytest.fixture
def who() -> str:
    return f"person-{next(_people)}"


@pytest.mark.temporal
@module_loop
class TestRun:
    async def test_starts_it_and_says_which_then_joins_it(self, perdure: Perdure, address: str, who: str) -> None:
        id_ = GREET.derived_id(Greeting(who=who, waits=True))
        given = json.dumps({"who": who, "waits": True})

        first = await perdure("run", "greet", "-f", "-", "--address", address, given=given)
        second = await perdure("run", "greet", "-f", "-", given=given, TEMPORAL_ADDRESS=address)

        assert first == Said(0, f"{id_} has started.\n", "")
        assert second == Said(0, f"{id_} was there already, and is joined.\n", "")

    async def test_with_wait_prints_the_result_alone_on_standard_output(
        self, perdure: Perdure, address: str, who: str, tmp_path: Path
    ) -> None:
        (tmp_path / "input.yaml").write_text(f"who: {who}\ntimes: 2\n")

        said = await perdure(
            "run", "greet", "-f", str(tmp_path / "input.yaml"), "--wait", "--id", who, "--address", address
        )

        assert said == Said(
            0,
            json.dumps({"text": f"Hello {who}, Hello {who}"}, indent=2) + "\n",
            f"{who} has started; waiting for its end ...\n",
        )

    async def test_with_wait_a_workflow_that_fails_is_told_in_a_sentence(
        self, perdure: Perdure, address: str, who: str
    ) -> None:
        given = f"who: {who}\nfails: true\n"

        said = await perdure("run", "greet", "-f", "-", "--wait", "--address", address, "--id", who, given=given)

        assert (said.status, said.out) == (1, "")
        assert said.err.splitlines()[-1] == f"{who} failed: {who} is not at home"

    async def test_an_id_of_another_input_is_not_joined(self, perdure: Perdure, address: str, who: str) -> None:
        await perdure("run", "greet", "-f", "-", "--id", who, "--address", address, given=f"who: {who}")

        said = await perdure("run", "greet", "-f", "-", "--id", who, "--address", address, given="who: another")

        assert (said.status, said.out) == (3, "")
        assert said.err == f"Error: {who} was started already, with another input; give another id, or none\n"

    async def test_a_namespace_that_is_not_there_is_said(self, perdure: Perdure, address: str, who: str) -> None:
        said = await perdure(
            "run", "greet", "-f", "-", "--address", address, "--temporal-namespace", "nowhere", given=f"who: {who}"
        )

        assert said.status == 3
        assert "namespace nowhere: not_found" in said.err


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "given", "says"),
        [
            ("gret", "who: Ada", 'Error: no workflow is named "gret"; did you mean "greet"?'),
            ("greet", "whom: Ada", 'there is no field whom; did you mean "who"?'),
            ("greet", "", "Error: the input of greet is nothing; expected a mapping with the fields who, "),
            ("greet", "who: [", "Error: the input is neither YAML nor JSON: "),
        ],
        ids=["an unknown name", "a typo", "nothing", "no YAML"],
    )
    async def test_what_makes_no_sense_is_told_without_asking_temporal(
        self, perdure: Perdure, name: str, given: str, says: str
    ) -> None:
        said = await perdure("run", name, "-f", "-", "--address", "127.0.0.1:1", given=given)

        assert (said.status, said.out) == (2, "")
        assert says in said.err
        assert len(said.err.splitlines()) == 1

    async def test_a_file_that_is_not_there_is_told(self, perdure: Perdure) -> None:
        said = await perdure("run", "greet", "-f", "none.yaml")

        assert said.status == 2
        assert said.err.startswith("Error: the input none.yaml cannot be read: No such file or directory; ")

    async def test_a_temporal_that_is_not_there_is_told_with_what_to_set(self, perdure: Perdure) -> None:
        said = await perdure("run", "greet", "-f", "-", given="who: Ada", TEMPORAL_ADDRESS="127.0.0.1:1")

        assert said == Said(
            3,
            "",
            "Error: Temporal at 127.0.0.1:1 cannot be reached (Connection refused); "
            "give --address, or set TEMPORAL_ADDRESS\n",
        )

    @pytest.mark.parametrize("content", [b"\x00", b"\xff\xfe\x00", b"a: &a [*a", b"!!python/object:os.system {}"])
    def test_bytes_that_are_no_document_are_not_understood(self, content: bytes) -> None:
        with pytest.raises(NotUnderstood, match="neither YAML nor JSON"):
            runs.read_document(content)


class TestWorkflows:
    async def test_a_table_tells_what_there_is_and_from_whom(self, perdure: Perdure) -> None:
        said = await perdure("workflows")

        assert said.status == 0
        names_shown = sorted([*(entry.name for entry in BUILTIN), "greet"])
        assert [line.split()[0] for line in said.out.splitlines()] == ["NAME", *names_shown]
        assert "namespace, name, spec" in said.out
        assert "tests.control.factory.workflows:GREET of greetings" in said.out

    async def test_a_broken_one_is_told_beside_it(self, perdure: Perdure) -> None:
        said = await perdure("workflows")

        assert said.err.startswith("Passed over: no_such_package:X of greetings: it cannot be imported: ")

    async def test_programs_get_json_with_the_schema_of_each_input(self, perdure: Perdure) -> None:
        documents = {each["name"]: each for each in json.loads((await perdure("workflows", "-o", "json")).out)}

        assert documents.keys() == {*(entry.name for entry in BUILTIN), "greet"}
        assert documents["greet"]["input"]["required"] == ["who"]
        assert (documents["greet"]["queue"], documents["greet"]["duplicates"]) == ("perdure-cpu", "join")

    async def test_the_other_commands_do_not_import_temporals_client(self) -> None:
        """It takes longer than they do."""
        program = "import sys, perdure_cli.main; print('temporalio' in sys.modules)"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip

        assert (await process.communicate())[0] == b"False\n"
