"""The attempts of a run, by the folders that they left in its store."""

from __future__ import annotations

from perdure_api.uri import StoreUri
from perdure_data.stores import Stores


def newest_attempt(stores: Stores, run_uri: StoreUri) -> int:
    """The number of the newest attempt that has left any trace; 0 when none has."""
    _, folders = stores.children(run_uri.child("attempts"))
    names = (folder.path.rstrip("/").rpartition("/")[2] for folder in folders)
    return max((int(name) for name in names if name.isdigit()), default=0)
