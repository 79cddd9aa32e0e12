"""What goes wrong with a benchmark, in sentences."""

from __future__ import annotations


class BenchError(Exception):
    """A sentence for the person at the terminal: found, expected, what to do."""
