"""All workflows that are installed: Perdure's own, and those that other packages bring through entry points."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final

from perdure_api import names
from perdure_control.factory.builtin import BUILTIN
from perdure_control.factory.entry import WorkflowEntry
from perdure_control.factory.errors import EntryError, FactoryError, RegistryError, UnknownWorkflow

ENTRY_POINTS: Final = "perdure.workflows"
"""The group in which a package names its entries: `nightly_report = "acme.reports:NIGHTLY_REPORT"`."""
PERDURE: Final = "Perdure"
_RESERVED_TYPES: Final = frozenset({names.WORKFLOW_TYPE, names.PURGE_WORKFLOW_TYPE, names.DEAD_LETTER_WORKFLOW_TYPE})
"""Started by operator and workers only."""


@dataclass(frozen=True)
class Registry:
    """Workflows by name."""

    entries: Mapping[str, WorkflowEntry[Any]]
    origins: Mapping[str, str] = field(default_factory=dict)
    """By name: who brings it."""
    problems: tuple[str, ...] = ()
    """Entry points that were passed over, each with the reason."""

    def entry(self, name: str) -> WorkflowEntry[Any]:
        """The workflow of a name.

        Raises:
            UnknownWorkflow: there is none; says which there are, the nearest first, and what was passed over.
        """
        if found := self.entries.get(name):
            return found
        near = difflib.get_close_matches(name, self.entries, n=1, cutoff=0.5)
        hint = f'did you mean "{near[0]}"? ' if near else ""
        passed_over = f". Passed over: {'; '.join(self.problems)}" if self.problems else ""
        raise UnknownWorkflow(
            f'no workflow is named "{name}"; {hint}expected one of {", ".join(sorted(self.entries))}{passed_over}'
        )

    def brought(self) -> list[WorkflowEntry[Any]]:
        """The workflows of other packages, by name."""
        return [self.entries[name] for name in sorted(self.entries) if self.origins.get(name, PERDURE) != PERDURE]


def load_registry(found: Iterable[metadata.EntryPoint] | None = None) -> Registry:
    """Perdure's workflows, and those of entry points that can be used; the others are told, and passed over.

    Args:
        found: The entry points; None: those of all packages that are installed.

    Raises:
        RegistryError: two workflows have one name, or one type.
    """
    entries = {entry.name: entry for entry in BUILTIN}
    origins = dict.fromkeys(entries, PERDURE)
    problems: list[str] = []
    points = metadata.entry_points(group=ENTRY_POINTS) if found is None else found
    for point in sorted(points, key=lambda point: (point.name, _origin(point))):
        origin = _origin(point)
        try:
            entry = _loaded(point)
        except FactoryError as error:
            problems.append(f"{origin}: {error}")
            continue
        _refuse_twins(entry, origin, entries, origins)
        entries[entry.name], origins[entry.name] = entry, origin
    return Registry(entries, origins, tuple(problems))


def _loaded(point: metadata.EntryPoint) -> WorkflowEntry[Any]:
    try:
        entry = point.load()
    except FactoryError:
        raise
    except (Exception, SystemExit) as error:
        # Code of others: whatever it does, the rest goes on.
        raise EntryError(f"it cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(entry, WorkflowEntry):
        raise EntryError(f"it is {type(entry).__name__}; expected a WorkflowEntry")
    if isinstance(entry.workflow, str) and entry.queue == names.TASK_QUEUE_CPU:
        raise EntryError(f"{entry.name}: its workflow is only named; expected the class, which our workers need")
    if entry.type in _RESERVED_TYPES:
        raise EntryError(f"{entry.name}: workflows of type {entry.type} are started by Perdure only; rename it")
    return entry


def _refuse_twins(
    entry: WorkflowEntry[Any], origin: str, entries: Mapping[str, WorkflowEntry[Any]], origins: Mapping[str, str]
) -> None:
    """Which one is meant would depend on the order of packages."""
    for other in entries.values():
        for what, found, taken in (("name", entry.name, other.name), ("type", entry.type, other.type)):
            if found == taken:
                raise RegistryError(
                    f"two workflows have the {what} {found}: one of {origins[other.name]}, one of {origin}; rename one "
                    f"or remove its package"
                )


def _origin(point: metadata.EntryPoint) -> str:
    package = f" of {point.dist.name}" if point.dist else ""
    return f"{point.value}{package}"
