"""What is to be said of a workflow, so that everybody can start it by its name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from perdure_api import names
from perdure_control.factory.breaker import Breaker
from perdure_control.factory.errors import EntryError

Input = TypeVar("Input", bound=BaseModel)

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DIGEST_CHARACTERS: Final = 16
_QUEUE_CHARACTERS: Final = 1000
"""Temporal's (limit.maxIDLength)."""
_RESERVED_QUEUES: Final = "/_sys/"


class Duplicates(StrEnum):
    """What becomes of a start where there is a workflow of the same id already. One that failed is begun anew."""

    JOIN = "join"
    """It is as good: whoever starts it gets its result."""
    REJECT = "reject"
    """It is an error."""
    REPEAT = "repeat"
    """While it runs it is joined; once it has ended it is begun again, since the world may have changed."""


@dataclass(frozen=True, kw_only=True)
class WorkflowEntry(Generic[Input]):
    """A workflow as the factory knows it.

    Raises:
        EntryError: it contradicts itself.
    """

    name: str
    """By which people start it: `perdure run NAME`. Lower-case letters, digits and underscores."""
    description: str
    """One line."""
    workflow: type[Any] | str
    """Its class; or the name of its type, where the workers have the class from elsewhere."""
    input: type[Input]
    """What its run takes: one pydantic model."""
    result: type[BaseModel] | None = None
    """What its run returns; None: whatever JSON it is."""
    activities: tuple[Callable[..., Any], ...] = ()
    """Those that it calls, for the workers of its queue."""
    breaker: Breaker | None = None
    """Each type of these activities gets a circuit breaker of this kind in Perdure's workers; None: none."""
    queue: str = names.TASK_QUEUE_CPU
    """Workers of Perdure serve the default one; any other is for workers of your own."""
    timeout: timedelta | None = None
    """From start to end, retries of the whole workflow included; None: as long as it takes."""
    retry: RetryPolicy | None = None
    """Of the workflow as a whole; None: a failure is one. Its activities have their own."""
    id: Callable[[Input], str] | None = None
    """The workflow's id by its input; None: its name and a digest of the input."""
    duplicates: Duplicates = Duplicates.JOIN
    """What becomes of a second start with the same id."""

    def __post_init__(self) -> None:
        """Finds what would else fail in a worker."""
        if not _NAME.fullmatch(self.name):
            raise EntryError(
                f'a workflow is named "{self.name}"; expected at most 63 lower-case letters, digits and underscores, '
                f"a letter first, such as nightly_report"
            )
        if not self.description.strip() or "\n" in self.description:
            raise EntryError(f"{self.name}: its description is {self.description!r}; expected one line")
        if not (isinstance(self.input, type) and issubclass(self.input, BaseModel)):
            raise EntryError(f"{self.name}: its input is {self.input!r}; expected a pydantic model")
        if not isinstance(self.workflow, str) and _definition(self.workflow) is None:
            raise EntryError(f"{self.name}: {self.workflow!r} is no workflow; put @workflow.defn on the class")
        if not 0 < len(self.queue) <= _QUEUE_CHARACTERS or not self.queue.isprintable() or self.queue.isspace():
            raise EntryError(
                f"{self.name}: its queue is {self.queue[:80]!r} ({len(self.queue)} characters); expected 1 to "
                f"{_QUEUE_CHARACTERS} characters that can be printed"
            )
        if self.queue.startswith(_RESERVED_QUEUES):
            raise EntryError(
                f'{self.name}: its queue is {self.queue!r}; expected one that does not begin with "{_RESERVED_QUEUES}"'
                f", which Temporal keeps for itself"
            )
        for each in self.activities:
            activity_type(each)

    @property
    def type(self) -> str:
        """Temporal's name of it.

        Raises:
            EntryError: its class takes any type.
        """
        if isinstance(self.workflow, str):
            return self.workflow
        definition = _definition(self.workflow)
        if definition is None or not definition.name:
            raise EntryError(f"{self.name}: {self.workflow!r} takes any type of workflow; expected one with a name")
        name: str = definition.name
        return name

    def derived_id(self, given: Input) -> str:
        """The id of the workflow of an input. Equal inputs have equal ids, on any machine and in any release."""
        return self.id(given) if self.id else f"{self.name}-{digest(given)[:_DIGEST_CHARACTERS]}"


def digest(given: BaseModel) -> str:
    """SHA-256 of an input's canonical JSON, in hexadecimal.

    What equals its default is left out: a field that a later release adds changes no id of what was started before.
    """
    canonical = json.dumps(_canonical(given.model_dump(exclude_defaults=True)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def activity_type(function: Callable[..., Any]) -> str:
    """Temporal's name of an activity.

    Raises:
        EntryError: it is none, or takes any type.
    """
    # Nothing public tells the names that decorators gave; the SDK's own worker reads them here too.
    definition = activity._Definition.from_callable(function)  # noqa: SLF001
    if definition is None or not definition.name:
        raise EntryError(f"{function!r} is no activity; put @activity.defn on it")
    name: str = definition.name
    return name


def _definition(class_: type[Any]) -> Any:
    return workflow._Definition.from_class(class_)  # noqa: SLF001 - as above


def _canonical(value: Any) -> Any:
    """JSON in which the order of a set, which differs from process to process, is none."""
    if isinstance(value, Mapping):
        return {str(to_jsonable_python(key)): _canonical(each) for key, each in value.items()}
    if isinstance(value, AbstractSet):
        return sorted((_canonical(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    if isinstance(value, list | tuple):
        return [_canonical(each) for each in value]
    return to_jsonable_python(value)
