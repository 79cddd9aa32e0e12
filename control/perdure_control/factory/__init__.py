"""The workflow factory: workflows by name, their inputs checked before anything starts, their ids derived from these.

    entry      what is to be said of a workflow: its class, its models, its queue, its id
    breaker    when its activities are held back
    inputs     an input as somebody wrote it, read into the model or refused field by field
    registry   all workflows that are installed, those of other packages too
    builtin    those that Perdure brings
    start      one is started, or the one that is there already is joined
    letters    those that failed for good: listed, tried again, dropped

A platform's own package needs `WorkflowEntry` (and `Duplicates`, `Breaker`); who starts workflows needs
`load_registry` and `start_workflow`.
"""

from perdure_control.factory.breaker import Breaker
from perdure_control.factory.entry import Duplicates, WorkflowEntry
from perdure_control.factory.registry import Registry, load_registry
from perdure_control.factory.start import Started, start_workflow

__all__ = ["Breaker", "Duplicates", "Registry", "Started", "WorkflowEntry", "load_registry", "start_workflow"]
