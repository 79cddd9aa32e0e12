"""Datasets: found, read as a stream, and checked before anything is spent on them."""

from perdure_data.datasets.check import DatasetReport, ReadingPlan, check_dataset
from perdure_data.datasets.errors import (
    DatasetBroken,
    DatasetDenied,
    DatasetEmpty,
    DatasetError,
    DatasetNotFound,
)
from perdure_data.datasets.passages import Passage, Source
from perdure_data.datasets.reading import DatasetReader

__all__ = [
    "DatasetBroken",
    "DatasetDenied",
    "DatasetEmpty",
    "DatasetError",
    "DatasetNotFound",
    "DatasetReader",
    "DatasetReport",
    "Passage",
    "ReadingPlan",
    "Source",
    "check_dataset",
]
