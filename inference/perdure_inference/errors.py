"""What can go wrong when a model is asked; each message is a sentence for the person who asked.

InferenceError
├── InvalidRequest
│   ├── TooManyTokens
│   └── TooMuchToAnswer   without files
├── ModelUnfit            its files are in order, and it cannot do this
├── OutOfMemory
└── Interrupted           nothing is wrong: who asked wants no answer any more
"""

from __future__ import annotations


class InferenceError(Exception):
    """A model gave no answer."""


class InvalidRequest(InferenceError):
    """The request contradicts itself, or the model."""


class TooManyTokens(InvalidRequest):
    """A prompt is longer than the model reads, or than was allowed."""


class TooMuchToAnswer(InvalidRequest):
    """The answer would be larger than what carries it."""


class ModelUnfit(InferenceError):
    """A model that cannot do what it was asked for."""


class OutOfMemory(InferenceError):
    """The model, or what it was to compute, does not fit."""


class Interrupted(InferenceError):
    """Given up, since nobody waits for the answer any more."""
