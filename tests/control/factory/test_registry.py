"""What packages bring → what can be started, what was passed over, what is an error."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from perdure_control.factory import Registry, load_registry
from perdure_control.factory.builtin import BUILTIN
from perdure_control.factory.errors import RegistryError, UnknownWorkflow
from perdure_control.factory.registry import ENTRY_POINTS
from tests.control.factory.workflows import GREET

HERE = "tests.control.factory.workflows"
OURS = {entry.name for entry in BUILTIN}


def loaded(*values: str) -> Registry:
    return load_registry([EntryPoint(value, value, ENTRY_POINTS) for value in values])


def test_perdures_own_are_always_there() -> None:
    registry = loaded()

    assert set(registry.entries) == OURS >= {"fine_tune", "batch_embed", "prepare_and_infer"}
    assert registry.brought() == []


def test_another_packages_stands_beside_them_with_its_origin() -> None:
    registry = loaded(f"{HERE}:GREET")

    assert registry.entry("greet") is GREET
    assert registry.origins == {**dict.fromkeys(OURS, "Perdure"), "greet": f"{HERE}:GREET"}
    assert registry.brought() == [GREET]
    assert registry.problems == ()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("no_such_package:X", "it cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        (f"{HERE}:NO_SUCH_NAME", "it cannot be imported: AttributeError"),
        (f"{HERE}:NOT_AN_ENTRY", "it is str; expected a WorkflowEntry"),
        (f"{HERE}:NAMED_ONLY", "named_only: its workflow is only named; expected the class"),
        (
            f"{HERE}:IMPOSTOR",
            "impostor: workflows of type TrainingWorkflow are started by Perdure only; rename it",
        ),
    ],
    ids=["no package", "no name", "something else", "no class", "the operator's"],
)
def test_a_broken_one_is_told_and_the_others_are_there(value: str, says: str) -> None:
    registry = loaded(value, f"{HERE}:GREET")

    assert set(registry.entries) == {*OURS, "greet"}
    (problem,) = registry.problems
    assert problem.startswith(f"{value}: {says}")


def test_two_of_one_name_are_an_error_that_says_whose() -> None:
    points = [EntryPoint(name, f"{HERE}:GREET", ENTRY_POINTS) for name in ("a", "b")]

    with pytest.raises(RegistryError, match=f"two workflows have the name greet: one of {HERE}:GREET, one of {HERE}"):
        load_registry(points)


def test_two_of_one_type_are_an_error_too() -> None:
    with pytest.raises(RegistryError, match="two workflows have the type GreetWorkflow"):
        loaded(f"{HERE}:GREET", f"{HERE}:ONCE")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gret", 'no workflow is named "gret"; did you mean "greet"? expected one of '),
        ("ask_all", 'no workflow is named "ask_all"; expected one of '),
    ],
    ids=["near", "far"],
)
def test_an_unknown_name_is_told_with_those_that_there_are(name: str, says: str) -> None:
    with pytest.raises(UnknownWorkflow) as raised:
        loaded(f"{HERE}:GREET").entry(name)

    assert str(raised.value) == says + ", ".join(sorted({*OURS, "greet"}))


def test_an_unknown_name_may_be_one_that_was_passed_over() -> None:
    with pytest.raises(
        UnknownWorkflow, match=rf"expected one of {', '.join(sorted(OURS))}\. Passed over: no_such_package:X: it cannot"
    ):
        loaded("no_such_package:X").entry("x")
