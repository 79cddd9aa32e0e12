"""What is said of a workflow → what is wrong with it; its input → its id."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel, Field

from perdure_control.factory import WorkflowEntry
from perdure_control.factory.builtin import DOCUMENT_INGEST
from perdure_control.factory.entry import activity_type, digest
from perdure_control.factory.errors import EntryError
from tests.control.factory.workflows import GREET, ONCE, Greeting, GreetWorkflow, greet

RIGHT: dict[str, Any] = {"name": "greet", "description": "Says hello.", "workflow": GreetWorkflow, "input": Greeting}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": "Greet"}, 'a workflow is named "Greet"; expected at most 63 lower-case letters'),
        ({"name": "g" * 64}, "expected at most 63"),
        ({"description": ""}, "its description is ''; expected one line"),
        ({"description": "a\nb"}, "expected one line"),
        ({"input": dict}, "its input is <class 'dict'>; expected a pydantic model"),
        ({"workflow": Greeting}, "is no workflow; put @workflow.defn on the class"),
        ({"activities": (len,)}, "is no activity; put @activity.defn on it"),
        ({"queue": ""}, "its queue is '' (0 characters); expected 1 to 1000"),
        ({"queue": "q" * 1001}, "(1001 characters); expected 1 to 1000"),
        ({"queue": "a\nb"}, "characters that can be printed"),
        ({"queue": "/_sys/perdure"}, 'does not begin with "/_sys/", which Temporal keeps for itself'),
    ],
    ids=[
        "a capital", "too long a name", "no description", "two lines", "no model", "no workflow", "no activity",
        "no queue", "too long a queue", "a queue of two lines", "Temporal's queue",
    ],
)  # fmt: skip
def test_an_entry_that_contradicts_itself_says_how(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(EntryError) as raised:
        WorkflowEntry(**{**RIGHT, **wrong})

    assert says in str(raised.value)


def test_types_are_what_the_decorators_say() -> None:
    assert (GREET.type, ONCE.type, activity_type(greet)) == ("GreetWorkflow", "GreetWorkflow", "greet")


class TestIds:
    def test_an_id_is_the_name_and_a_digest_of_the_input(self) -> None:
        name, _, tail = GREET.derived_id(Greeting(who="Ada")).partition("-")

        assert (name, len(tail)) == ("greet", 16)

    def test_other_inputs_have_other_ids(self) -> None:
        assert GREET.derived_id(Greeting(who="Ada")) != GREET.derived_id(Greeting(who="Bob"))

    def test_a_default_that_is_written_out_changes_no_id(self) -> None:
        assert GREET.derived_id(Greeting(who="Ada", times=1)) == GREET.derived_id(Greeting(who="Ada"))

    def test_a_field_that_a_later_release_adds_changes_no_id(self) -> None:
        class Later(Greeting):
            language: str = "en"

        assert digest(Later(who="Ada")) == digest(Greeting(who="Ada"))

    def test_the_order_of_keys_changes_no_id(self) -> None:
        class Table(BaseModel):
            rows: dict[int, int] = Field(default={})

        assert digest(Table(rows={1: 2, 3: 4})) == digest(Table(rows={3: 4, 1: 2}))

    @pytest.mark.parametrize("seed", ["1", "2"])
    def test_a_set_has_the_same_id_in_every_process(self, seed: str) -> None:
        """Python orders sets of texts anew in each."""
        program = (
            "from tests.control.factory.workflows import GREET, Greeting; "
            "print(GREET.derived_id(Greeting(who='Ada', tags=set('abcd'))))"
        )
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed}

        said = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )

        assert said.stdout.strip() == GREET.derived_id(Greeting(who="Ada", tags=set("dcba"))), said.stderr

    def test_an_entry_can_derive_its_ids_itself(self) -> None:
        assert ONCE.derived_id(Greeting(who="Ada", times=3)) == "greet_once-Ada"


def test_the_id_of_an_ingestion_is_that_of_its_input() -> None:
    wish = DOCUMENT_INGEST.input(source="s3://b/docs", store="s3://b/vectors", model="s3://b/m")

    assert DOCUMENT_INGEST.derived_id(wish).startswith("ingest-")
    assert DOCUMENT_INGEST.derived_id(wish) == DOCUMENT_INGEST.derived_id(wish.model_copy(update={"chunk_size": 1000}))
