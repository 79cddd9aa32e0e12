"""When a volume is made, for whom, and when it goes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from perdure_devcluster import volumes
from perdure_devcluster.objects import PROVISIONER

CLAIM: dict[str, Any] = {
    "metadata": {
        "namespace": "default",
        "name": "data-db-0",
        "uid": "1234",
        "annotations": {
            "volume.kubernetes.io/storage-provisioner": PROVISIONER,
            "volume.kubernetes.io/selected-node": "n2",
        },
    },
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "local",
    },
}


def test_a_claim_gets_its_volume_on_the_node_that_the_scheduler_chose() -> None:
    assert volumes.node_to_provision_on(CLAIM) == "n2"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        pytest.param("spec", "volumeName", "pv-1", id="bound"),
        pytest.param("metadata", "deletionTimestamp", "2026-01-01T00:00:00Z", id="being deleted"),
        pytest.param("metadata", "annotations", {}, id="nobody's"),
        pytest.param(
            "metadata",
            "annotations",
            {"volume.kubernetes.io/storage-provisioner": PROVISIONER},
            id="no node chosen yet",
        ),
        pytest.param(
            "metadata",
            "annotations",
            {
                "volume.kubernetes.io/storage-provisioner": "somebody/else",
                "volume.kubernetes.io/selected-node": "n2",
            },
            id="another driver's",
        ),
    ],
)
def test_other_claims_get_none(section: str, key: str, value: object) -> None:
    claim = copy.deepcopy(CLAIM)
    claim[section][key] = value
    assert volumes.node_to_provision_on(claim) is None


def test_a_volume_belongs_to_one_claim_and_one_node() -> None:
    volume = volumes.volume_for(CLAIM, "n2", Path("/state/nodes/n2/volumes/pvc-1234"))
    assert volume["metadata"]["name"] == "pvc-1234"
    assert volume["spec"]["claimRef"]["uid"] == "1234"
    assert volume["spec"]["capacity"] == {"storage": "1Gi"}
    assert "n2" in str(volume["spec"]["nodeAffinity"])


@pytest.mark.parametrize(
    ("phase", "policy", "owner", "expected"),
    [
        ("Released", "Delete", PROVISIONER, True),
        ("Failed", "Delete", PROVISIONER, True),
        ("Bound", "Delete", PROVISIONER, False),
        ("Released", "Retain", PROVISIONER, False),
        ("Released", "Delete", "somebody/else", False),
    ],
)
def test_a_volume_goes_only_when_it_is_ours_and_released(
    phase: str, policy: str, owner: str, *, expected: bool
) -> None:
    volume = {
        "metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": owner}},
        "spec": {"persistentVolumeReclaimPolicy": policy},
        "status": {"phase": phase},
    }
    assert volumes.is_to_delete(volume) is expected
