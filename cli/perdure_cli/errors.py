"""What can go wrong, each with a sentence that says what was found and what to do.

CliError
├── NoCluster       no kubeconfig, no such context, no answer, credentials refused
├── NotInstalled    the cluster knows no TrainingJobs
├── NotThere        no object of this name
├── NotAllowed      RBAC
├── NotUnderstood   what was asked for makes no sense: an input, a name
└── NoTemporal      no answer from Temporal, or none to us
"""

from __future__ import annotations

from typing import Final

EXIT_SUCCEEDED: Final = 0
EXIT_FAILED: Final = 1
"""The training job failed."""
EXIT_UNKNOWN: Final = 3
"""It could not be found out."""
EXIT_USAGE: Final = 2
"""The command was not understood; click's own."""


class CliError(Exception):
    """Something that ends a command; its text is the sentence to show."""

    exit_status = EXIT_UNKNOWN


class NoCluster(CliError):
    """No cluster can be asked."""


class NotInstalled(CliError):
    """The cluster knows no TrainingJobs."""


class NotThere(CliError):
    """There is no object of this name."""


class NotAllowed(CliError):
    """The cluster does not let this user."""


class NotUnderstood(CliError):
    """What was asked for makes no sense."""

    exit_status = EXIT_USAGE


class NoTemporal(CliError):
    """No Temporal can be asked."""
