"""What is there already under the name of something of ours: ours from before, or somebody else's."""

from __future__ import annotations

from perdure_api import names
from perdure_api.workflow import JobRef
from perdure_control.cluster import JOBS, Cluster, ClusterUnavailable, NotFound


class NotUsable(Exception):
    """A Job of that name is there that cannot be used, now or ever; the message says why."""


async def adopted(cluster: Cluster, job: JobRef, name: str, attempt: int) -> str:
    """The uid of the Job that was there when an attempt's was to be created.

    Raises:
        NotUsable: it is not the attempt's, or is being deleted.
        ClusterUnavailable: it is gone again: it may be created now.
    """
    try:
        found = await cluster.get(JOBS.path(job.namespace, name))
    except NotFound as error:
        raise ClusterUnavailable(f"Job {name} was there a moment ago and is gone: try again") from error
    metadata = found["metadata"]
    owners = {owner["uid"] for owner in metadata.get("ownerReferences") or []}
    if job.uid not in owners or metadata.get("labels", {}).get(names.LABEL_ATTEMPT) != str(attempt):
        raise NotUsable(f"a Job {name} that is not ours exists in namespace {job.namespace}; delete or rename it")
    if "deletionTimestamp" in metadata:
        raise NotUsable(f"Job {name} is being deleted; waiting until it is gone")
    uid: str = metadata["uid"]
    return uid
