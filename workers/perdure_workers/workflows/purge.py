"""The workflow that a TrainingJob leaves behind when its checkpoints go with it."""

from __future__ import annotations

from temporalio import workflow
from temporalio.common import VersioningBehavior

with workflow.unsafe.imports_passed_through():
    from perdure_api import names
    from perdure_api.workflow import PurgeInput
    from perdure_workers.messages import CleanUp, DeleteCheckpoints
    from perdure_workers.workflows import calls


@workflow.defn(name=names.PURGE_WORKFLOW_TYPE)
class PurgeWorkflow:
    """Ends what may still write checkpoints of a run, then deletes them, however long the store is away."""

    @workflow.run
    async def run(self, wish: PurgeInput) -> None:
        """Returns when nothing is left of them. The job's own workflow may be lost, so pods are looked for here too."""
        await calls.clean_up(CleanUp(job=wish.job))
        await calls.delete_checkpoints(DeleteCheckpoints(job=wish.job, output_uri=wish.output_uri))


@workflow.defn(name=names.PURGE_WORKFLOW_TYPE, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class MovingPurgeWorkflow(PurgeWorkflow):
    """The same where workers have versions: carried on by whichever is current.

    Two calls in a row are easily the same in every version, and a store that is away for a month would else keep old
    workers for a month. A class of its own, because Temporal takes no behaviour from workers without versions.
    """

    @workflow.run
    async def run(self, wish: PurgeInput) -> None:
        """As ever."""
        await super().run(wish)
