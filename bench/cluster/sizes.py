"""How many jobs, as a person writes it."""

from __future__ import annotations

import argparse
from typing import Final

MOST: Final = 10_000
"""What KWOK's nodes have addresses for, with some to spare."""


def sizes(text: str) -> tuple[int, ...]:
    """Numbers with commas between them.

    Raises:
        argparse.ArgumentTypeError: they are none.
    """
    try:
        found = tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'found "{text}", expected numbers such as 100,300,1000') from error
    if not all(0 < size <= MOST for size in found):
        raise argparse.ArgumentTypeError(f'found "{text}", expected numbers from 1 to {MOST}')
    return found
