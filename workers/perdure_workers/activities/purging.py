"""Deleting the checkpoints of a run whose TrainingJob is deleted."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.pod import ResultDocument
from perdure_api.uri import StoreUri, UriError, parse_uri
from perdure_data.errors import AccessDenied, BucketNotFound, NotFound, StoreError, TooLarge, Unavailable
from perdure_data.stores import Stores
from perdure_workers.activities.heartbeats import beating
from perdure_workers.messages import ActivityName, DeleteCheckpoints
from perdure_workers.run_folder import RunFolder

_LOOKS: Final = 3
_RESULT_LIMIT_BYTES: Final = 1 << 20
_FENCE: Final = b'{"message": "its TrainingJob was deleted: whatever of it still runs ends when it sees this"}\n'

log = structlog.get_logger(__name__)


class PurgingActivities:
    """Deletes from object stores."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    @activity.defn(name=ActivityName.DELETE_CHECKPOINTS)
    async def delete_checkpoints(self, request: DeleteCheckpoints) -> None:
        """Deletes what a run keeps only to go on from, until a listing shows nothing of it. Repeated it does no harm.

        What a result document calls the adapter stays, wherever it is. Where there is no bucket there is nothing to do.

        Raises:
            ApplicationError: its type is the Reason: StoreUnavailable, or AccessDenied, which somebody may put right.
                Both are to be tried again.
        """
        try:
            await beating(self._purge(parse_uri(names.run_uri(request.output_uri, request.job.uid))))
        except (BucketNotFound, UriError) as error:
            log.info("no_checkpoints_to_delete", because=str(error))
        except StoreError as error:
            reason = Reason.ACCESS_DENIED if isinstance(error, AccessDenied) else Reason.STORE_UNAVAILABLE
            # Without its causes: the operator reads it off Temporal, which cuts what has more than 4 KiB to pieces.
            raise ApplicationError(str(error), type=str(reason)) from None

    async def _purge(self, run: StoreUri) -> None:
        for _ in range(_LOOKS):
            folder = await self._look(run)
            if fence := folder.missing_fence:
                await asyncio.to_thread(self._stores.put, fence, _FENCE)
            adapters = [await self._adapter(result) for result in folder.results]
            doomed = folder.resumables(kept=[adapter for adapter in adapters if adapter])
            if not doomed:
                return
            for uri in doomed:
                await asyncio.to_thread(self._stores.delete, uri)
            log.info("checkpoints_deleted", run=str(run), objects=len(doomed))
        raise Unavailable(f"{run}: checkpoints are still there after they were deleted; something writes them")

    async def _look(self, run: StoreUri) -> RunFolder:
        return RunFolder(run, tuple(info.uri for info in await self._stores.list_objects_async(run)))

    async def _adapter(self, result: StoreUri) -> StoreUri | None:
        """The folder that a result document calls the adapter; None where it names none that can be."""
        try:
            content = await self._stores.read_async(result, limit_bytes=_RESULT_LIMIT_BYTES)
            adapter_uri = ResultDocument.model_validate_json(content).adapter_uri
            return parse_uri(adapter_uri) if adapter_uri else None
        except (NotFound, TooLarge, ValidationError, UriError):
            return None
