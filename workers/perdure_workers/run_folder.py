"""What lies in the folder of a run, and which of it only serves to go on from. Pure: what is there is passed in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from perdure_api import names
from perdure_api.uri import StoreUri

_RESUMABLE: Final = re.compile(rf"attempts/\d+/{names.CHECKPOINTS_FOLDER}/.|{names.TOKENS_FOLDER}/.")
_RESULT: Final = re.compile(r"attempts/\d+/result\.json")
_ATTEMPT: Final = re.compile(r"attempts/(\d+)/")
_MANIFESTS: Final = frozenset({names.CHECKPOINT_MANIFEST, names.TOKENS_MANIFEST})


@dataclass(frozen=True)
class RunFolder:
    """Every object below the folder of a run, as it was listed."""

    uri: StoreUri
    objects: tuple[StoreUri, ...]

    @property
    def results(self) -> list[StoreUri]:
        """The result documents of its attempts."""
        return [uri for uri in self.objects if _RESULT.fullmatch(self._inside(uri))]

    def resumables(self, kept: Iterable[StoreUri] = ()) -> list[StoreUri]:
        """What only serves to go on from, in the order in which it is deleted.

        Manifests come first: half a checkpoint must not look whole.

        Args:
            kept: Folders of what was made, wherever a trainer has put them.
        """
        made = list(kept)
        found = [
            uri
            for uri in self.objects
            if _RESUMABLE.match(self._inside(uri)) and not any(_is_in(uri, folder) for folder in made)
        ]
        return sorted(found, key=lambda uri: uri.path.rpartition("/")[2] not in _MANIFESTS)

    @property
    def missing_fence(self) -> StoreUri | None:
        """What is to be written so that a pod of the newest attempt, should one still run somewhere, ends.

        None: nothing was ever written here, the newest attempt is done, or it stands already.
        """
        there = {self._inside(uri) for uri in self.objects}
        newest = max((int(match[1]) for path in there if (match := _ATTEMPT.match(path))), default=0)
        if newest == 0 or {f"attempts/{newest}/result.json", f"attempts/{newest}/{names.FENCE}"} & there:
            return None
        return self.uri.child("attempts", str(newest + 1), names.FENCE)

    def _inside(self, uri: StoreUri) -> str:
        return uri.path.removeprefix(f"{self.uri.path.rstrip('/')}/")


def _is_in(uri: StoreUri, folder: StoreUri) -> bool:
    return uri.root == folder.root and f"{uri.path}/".startswith(f"{folder.path.rstrip('/')}/")
