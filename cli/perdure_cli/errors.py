"""What can go wrong, each with a sentence that says what was found and what to do.

CliError
├── NoCluster       no kubeconfig, no such context, no answer, credentials refused
├── NotInstalled    the cluster knows no TrainingJobs
├── NotThere        no object of this name
└── NotAllowed      RBAC
"""

from __future__ import annotations

from typing import Final

EXIT_SUCCEEDED: Final = 0
EXIT_FAILED: Final = 1
"""The training job failed."""
EXIT_UNKNOWN: Final = 3
"""It could not be found out. 2 is click's, for a command that was not understood."""


class CliError(Exception):
    """Something that ends a command; its text is the sentence to show."""


class NoCluster(CliError):
    """No cluster can be asked."""


class NotInstalled(CliError):
    """The cluster knows no TrainingJobs."""


class NotThere(CliError):
    """There is no object of this name."""


class NotAllowed(CliError):
    """The cluster does not let this user."""
