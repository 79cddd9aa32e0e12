"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def temporal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which Temporal: `address` and `temporal_namespace`, each None where it is left out."""
    for option in (
        click.option("--temporal-namespace", help="Temporal's namespace; left out: TEMPORAL_NAMESPACE, or default."),
        click.option("--address", help="Temporal's host:port; left out: TEMPORAL_ADDRESS, or localhost:7233."),
    ):
        command = option(command)
    return command
