"""What a process is told by its environment: read in one way, and refused in the same words, in all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from perdure_control.credentials import CredentialFiles, CredentialsError
from perdure_control.logs import LEVELS

PORTS: Final = range(1, 65536)
ANY_PORT: Final = range(65536)
"""With 0: a free one."""


class SettingsError(ValueError):
    """An environment that a process cannot run in; the message says what was found, expected, and what to do."""


@dataclass(frozen=True)
class Environment:
    """Variables. One that is empty is one that is not set, since a chart writes empty values out.

    Every method raises SettingsError where a variable is missing or is not what it must be.
    """

    variables: Mapping[str, str]
    deployment: str
    """Whose, as messages name it: where variables are set."""

    def required(self, name: str, meaning: str) -> str:
        """A text that there has to be."""
        value = self.text(name)
        if not value:
            raise SettingsError(f"{name} is not set, expected {meaning}; set it in the {self.deployment}'s Deployment")
        return value

    def text(self, name: str, default: str = "") -> str:
        """A text, or what stands for it."""
        return self.variables.get(name) or default

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """One of a few words, in small letters."""
        found = self.text(name, default)
        if found.lower() not in allowed:
            raise SettingsError(f'{name} is "{found}", expected one of {", ".join(allowed)}; set it to one of these')
        return found.lower()

    def whole_number(self, name: str, default: int, allowed: range) -> int:
        """A number of a range."""
        found = self.text(name, str(default))
        if not is_count(found) or int(found) not in allowed:
            expected = f"a whole number from {allowed.start} to {allowed.stop - 1}"
            raise SettingsError(f'{name} is "{found}", expected {expected}; set it to one')
        return int(found)

    def names(self, name: str) -> tuple[str, ...]:
        """What stands between commas, each once, in the order given."""
        parts = (part.strip() for part in self.text(name).split(","))
        return tuple(dict.fromkeys(part for part in parts if part))

    def document(self, name: str, expected: str) -> Any:
        """What a JSON text says."""
        try:
            return json.loads(self.text(name))
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"{name} is no JSON ({error}), expected {expected}; correct it") from error

    def log_level(self) -> str:
        """From which level on events are written."""
        return self.choice("PERDURE_LOG_LEVEL", "info", LEVELS)

    def temporal_credentials(self) -> CredentialFiles:
        """Where the credentials for Temporal are."""
        try:
            return CredentialFiles.from_environment(self.variables)
        except CredentialsError as error:
            raise SettingsError(str(error)) from error


def is_count(text: str) -> bool:
    """Whether a text is digits and nothing else."""
    return text.isascii() and text.isdigit()
