"""The workflow `fine_tune`: a TrainingJob through the factory, followed to its end."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from perdure_api import names
    from perdure_api.fine_tune import FineTuneInput, FineTuneResult
    from perdure_workers.messages import CancelTrainingJob, FollowTrainingJob, SubmitTrainingJob
    from perdure_workers.workflows import calls


@workflow.defn(name=names.FINE_TUNE_WORKFLOW_TYPE)
class FineTuneWorkflow:
    """Makes a TrainingJob and waits for its end; the operator and the job's own workflow do the rest.

    The object is the user's to see: `kubectl` and `perdure` show, suspend and cancel it like any other.
    """

    @workflow.run
    async def run(self, wish: FineTuneInput) -> FineTuneResult:
        """What came out of it.

        Raises:
            ApplicationError: it did not succeed. The type is the job's reason, the message its sentence.
        """
        try:
            return await self._train(wish)
        except calls.Refused as error:
            raise ApplicationError(error.message, type=str(error.reason), non_retryable=True) from error
        except (asyncio.CancelledError, FailureError) as error:
            if is_cancelled_exception(error):
                await asyncio.shield(calls.cancel_training_job(_cancellation(wish)))
            raise

    async def _train(self, wish: FineTuneInput) -> FineTuneResult:
        made_by = workflow.info().workflow_id
        request = SubmitTrainingJob(namespace=wish.namespace, name=wish.name, spec=wish.spec, made_by=made_by)
        job = await calls.submit_training_job(request)
        result = await calls.follow_training_job(FollowTrainingJob(job=job))
        return FineTuneResult(namespace=job.namespace, name=job.name, uid=job.uid, result=result)


def _cancellation(wish: FineTuneInput) -> CancelTrainingJob:
    return CancelTrainingJob(namespace=wish.namespace, name=wish.name, made_by=workflow.info().workflow_id)
