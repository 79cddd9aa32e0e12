"""What can be wrong with a dataset. None of it heals by trying again.

DatasetError
├── DatasetNotFound
├── DatasetDenied
├── DatasetEmpty
└── DatasetBroken
"""

from __future__ import annotations

from typing import ClassVar

from perdure_api.conditions import Reason


class DatasetError(Exception):
    """A dataset cannot be trained on; the message says where, what was found and expected, and what to do."""

    reason: ClassVar[Reason] = Reason.DATASET_BROKEN


class DatasetNotFound(DatasetError):
    """There is no such object, or no such bucket."""

    reason = Reason.DATASET_NOT_FOUND


class DatasetDenied(DatasetError):
    """It may not be read with the credentials at hand."""

    reason = Reason.ACCESS_DENIED


class DatasetEmpty(DatasetError):
    """There is nothing in it to learn from."""

    reason = Reason.DATASET_EMPTY


class DatasetBroken(DatasetError):
    """It is not what its format promises."""
