"""Local volumes, made when a pod needs one and emptied when its claim is gone.

Run as a daemon beside the control plane. It does what a storage driver's
provisioner does: the scheduler chooses a node for a waiting claim, and the
volume is a folder on that node's disk.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from perdure_devcluster.api import Api, Json
from perdure_devcluster.credentials import Credentials
from perdure_devcluster.errors import Unreachable
from perdure_devcluster.objects import PROVISIONER
from perdure_devcluster.paths import Paths, paths_from_environment

_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_RETRY_SECONDS = 1.0


def node_to_provision_on(claim: Json) -> str | None:
    """The node that a claim waits for a volume of ours on; None when it does not wait."""
    annotations = claim["metadata"].get("annotations", {})
    if "deletionTimestamp" in claim["metadata"] or claim["spec"].get("volumeName"):
        return None
    if annotations.get(_STORAGE_PROVISIONER) != PROVISIONER:
        return None
    node: str | None = annotations.get(_SELECTED_NODE)
    return node


def is_to_delete(volume: Json) -> bool:
    """Whether a volume is ours and its claim is gone."""
    return (
        volume["metadata"].get("annotations", {}).get(_PROVISIONED_BY) == PROVISIONER
        and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        and volume.get("status", {}).get("phase") in ("Released", "Failed")
        and "deletionTimestamp" not in volume["metadata"]
    )


def volume_name(claim: Json) -> str:
    """Derived from the claim's uid, so that a second try finds the first one's work."""
    return f"pvc-{claim['metadata']['uid']}"


def volume_for(claim: Json, node: str, folder: Path) -> Json:
    """The PersistentVolume for a claim: ``folder``, on ``node``, for this claim alone."""
    metadata, spec = claim["metadata"], claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": volume_name(claim),
            "annotations": {_PROVISIONED_BY: PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": spec["storageClassName"],
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "local": {"path": str(folder)},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {
                                    "key": "kubernetes.io/hostname",
                                    "operator": "In",
                                    "values": [node],
                                }
                            ]
                        }
                    ]
                }
            },
        },
    }


class Provisioner:
    """Watches claims and volumes."""

    def __init__(self, api: Api, paths: Paths) -> None:
        """Act through ``api`` on the node folders of ``paths``."""
        self._api = api
        self._paths = paths

    def provision(self, claim: Json) -> None:
        """Make the volume that a claim waits for."""
        node = node_to_provision_on(claim)
        if node is None or not self._paths.node(node).is_dir():
            return
        name = volume_name(claim)
        folder = self._paths.node_volumes(node) / name
        folder.mkdir(parents=True, exist_ok=True)
        # Any user of any pod, as long as the pod asks for no fsGroup of its own.
        folder.chmod(0o777)
        if self._api.find(f"{_VOLUMES}/{name}") is None:
            self._api.create(_VOLUMES, volume_for(claim, node, folder))
            print(f"made {name} on {node}", flush=True)

    def reclaim(self, volume: Json) -> None:
        """Delete a volume that nobody claims any more, and its content."""
        if not is_to_delete(volume):
            return
        folder = Path(volume["spec"]["local"]["path"])
        if folder.is_relative_to(self._paths.state / "nodes"):
            shutil.rmtree(folder, ignore_errors=True)
        self._api.delete(f"{_VOLUMES}/{volume['metadata']['name']}")
        print(f"deleted {volume['metadata']['name']}", flush=True)

    def run(self) -> None:
        """Never returns."""
        reclaimer = threading.Thread(target=self._follow, args=(_VOLUMES, self.reclaim), daemon=True)
        reclaimer.start()
        self._follow(_CLAIMS, self.provision)

    def _follow(self, path: str, act: Callable[[Json], None]) -> None:
        while True:
            try:
                for manifest in self._api.list_and_watch(path):
                    act(manifest)
            except Unreachable as error:
                # The API server is away, or an object has changed under us: begin again.
                print(f"{path}: {error}", flush=True)
                time.sleep(_RETRY_SECONDS)


def main() -> None:
    """``python3 -m perdure_devcluster.volumes``: where things lie is in the environment."""
    paths = paths_from_environment(os.environ)
    credentials = Credentials(paths.credentials)
    Provisioner(Api(credentials.file("ca.crt"), credentials.token("volumes")), paths).run()


if __name__ == "__main__":
    main()
