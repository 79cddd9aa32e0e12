"""TrainingJobs of one namespace as kubectl's watch shows them: seen without anything of ours."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from tests.chaos.history import Event, Sight, sight_of

Document = dict[str, Any]


class Objects:
    """Each change of them that the watch shows; it may skip states."""

    def __init__(self) -> None:
        self.sights: dict[str, list[Sight]] = defaultdict(list)
        self.uids: dict[str, str] = {}
        self.gone: set[str] = set()
        """Those that were deleted on their way, and are no more."""
        self.stale = 0
        """How often something older was shown than had been before: by a list after a watch that broke off."""

    def take(self, event: Document) -> None:
        document = event["object"]
        if document.get("kind") != "TrainingJob" or event["type"] == "DELETED":
            return
        metadata = document["metadata"]
        name = metadata["name"]
        self.uids[name] = metadata["uid"]
        if "deletionTimestamp" in metadata:
            return
        sight, seen = sight_of(document, time.monotonic()), self.sights[name]
        if seen and sight.version < seen[-1].version:
            self.stale += 1
        elif not seen or seen[-1].status != sight.status:
            seen.append(sight)

    def forget(self, name: str) -> None:
        """It was deleted on its way, and the API server says that it is no more."""
        self.gone.add(name)

    def checkpoints(self) -> list[str]:
        """URIs of the newest checkpoints of those that are not finished."""
        return [uri for name in self.unfinished if (uri := self.sights[name][-1].checkpoint)]

    @property
    def unfinished(self) -> list[str]:
        return [
            name
            for name, sights in list(self.sights.items())
            if name not in self.gone and sights and not sights[-1].terminal
        ]

    def newest(self, name: str) -> Sight | None:
        """As it was last seen."""
        sights = self.sights.get(name)
        return sights[-1] if sights else None

    def job_of(self, uid: str) -> str | None:
        """The name of a TrainingJob of this run; None: it is none."""
        return next((name for name, each in list(self.uids.items()) if each == uid), None)


def events_by_job(documents: list[Document], uids: dict[str, str]) -> dict[str, list[Event]]:
    """Events by the TrainingJobs that they are about."""
    names = {uid: name for name, uid in uids.items()}
    found: dict[str, list[Event]] = defaultdict(list)
    for each in documents:
        name = names.get(each["involvedObject"].get("uid", ""))
        if name:
            found[name].append(Event(each.get("type", ""), each.get("reason", ""), each.get("message", "")))
    return dict(found)
