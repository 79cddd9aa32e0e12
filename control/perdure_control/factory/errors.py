"""What can go wrong before a workflow runs, each with a sentence that says what was found and what to do.

FactoryError
├── EntryError         what is said of a workflow contradicts itself
├── RegistryError      two workflows of one name: nobody could say which is meant
├── UnknownWorkflow    there is none of this name
├── InvalidInput       it does not fit the model; every field is told
├── InputTooLarge      Temporal would not take it
├── InvalidId          no workflow can have this id
├── AlreadyStarted     there is one of this id, and it is not to be joined
├── NoDeadLetter       there is none of this id
└── TemporalAway       no answer, or none to us
"""

from __future__ import annotations


class FactoryError(Exception):
    """Something that keeps a workflow from being started."""


class EntryError(FactoryError):
    """What is said of a workflow contradicts itself."""


class RegistryError(FactoryError):
    """Two workflows of one name."""


class UnknownWorkflow(FactoryError):
    """There is no workflow of this name."""


class InvalidInput(FactoryError):
    """The input does not fit the model."""


class InputTooLarge(FactoryError):
    """The input is larger than Temporal takes."""


class InvalidId(FactoryError):
    """No workflow of the factory can have this id."""


class AlreadyStarted(FactoryError):
    """There is a workflow of this id, and it is not to be joined."""


class NoDeadLetter(FactoryError):
    """There is no dead letter of this id."""


class TemporalAway(FactoryError):
    """Temporal gave no answer, or none to us."""
