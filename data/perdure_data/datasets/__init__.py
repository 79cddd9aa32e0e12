"""Datasets: found, read as a stream, and checked before anything is spent on them."""

from perdure_data.datasets.check import DatasetReport, Extent, check_dataset
from perdure_data.datasets.errors import (
    DatasetBroken,
    DatasetDenied,
    DatasetEmpty,
    DatasetError,
    DatasetNotFound,
)
from perdure_data.datasets.plan import ReadingPlan
from perdure_data.datasets.reading import DatasetReader
from perdure_data.datasets.records import Completion, Conversation, Message, Passage, Record, Utterance
from perdure_data.datasets.source import Source

__all__ = [
    "Completion",
    "Conversation",
    "DatasetBroken",
    "DatasetDenied",
    "DatasetEmpty",
    "DatasetError",
    "DatasetNotFound",
    "DatasetReader",
    "DatasetReport",
    "Extent",
    "Message",
    "Passage",
    "ReadingPlan",
    "Record",
    "Source",
    "Utterance",
    "check_dataset",
]
