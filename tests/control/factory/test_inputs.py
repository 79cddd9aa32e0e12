"""An input as somebody wrote it → the model, or every field with what was found and expected."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict

from perdure_api.fine_tune import FineTuneInput
from perdure_control.factory import WorkflowEntry
from perdure_control.factory.builtin import FINE_TUNE
from perdure_control.factory.errors import InvalidInput
from perdure_control.factory.inputs import read_input
from tests.control.factory.workflows import GREET, Greeting, GreetWorkflow

SPEC = {"trainer": {"image": "i", "command": ["true"]}}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "the input of greet is nothing; expected a mapping with the fields who, times, tags, fails, waits"),
        (["Ada"], "the input of greet is ['Ada']; expected a mapping"),
        ({}, "the input of greet: who is missing"),
        ({"who": 7}, "who: Input should be a valid string (found 7)"),
        ({"who": "Ada", "time": 2}, 'there is no field time; did you mean "times"?'),
        ({"who": "Ada", "x": 2}, "there is no field x; expected one of who, times, tags, fails, waits"),
        ({"times": "x"}, "who is missing; times: Input should be a valid integer, unable to parse"),
        ({"who": 7 * [10_000_000_000_000]}, "(found [10000000000000"),
    ],
    ids=["nothing", "a list", "empty", "a number", "a typo", "far off", "two at once", "long"],
)
def test_what_is_wrong_is_told_field_by_field(given: object, says: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read_input(GREET, given)

    assert says in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_typo_deep_inside_is_told_with_its_path_and_what_it_may_have_meant() -> None:
    wish = {"namespace": "a", "name": "b", "spec": {**SPEC, "resources": {"alternatives": [{"nodeSelectr": {}}]}}}

    with pytest.raises(InvalidInput, match=r"no field spec\.resources\.alternatives\.0\.nodeSelectr; did you mean"):
        read_input(FINE_TUNE, wish)


@pytest.mark.parametrize("name", ["Bible", "-a", "a/b", "", "a" * 254])
def test_a_name_that_no_object_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="the input of fine_tune: name: String should"):
        read_input(FINE_TUNE, {"namespace": "a", "name": name, "spec": SPEC})


def test_a_mapping_that_fits_becomes_the_model() -> None:
    read = read_input(FINE_TUNE, {"namespace": "a", "name": "b", "spec": SPEC})

    assert isinstance(read, FineTuneInput)
    assert read.spec.to_wire()["trainer"]["image"] == "i"


def test_a_model_is_taken_as_it_is() -> None:
    given = Greeting(who="Ada")

    assert read_input(GREET, given) is given


def test_a_model_that_takes_any_field_does() -> None:
    class Free(BaseModel):
        model_config = ConfigDict(extra="allow")

    entry = WorkflowEntry(name="free", description="Takes anything.", workflow=GreetWorkflow, input=Free)

    assert read_input(entry, {"x": 1}).model_extra == {"x": 1}
