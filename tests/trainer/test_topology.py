from __future__ import annotations

import socket

import pytest

from perdure_trainer.failures import UsageError
from perdure_trainer.topology import Topology, topology

TWO = {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "job-0.job", "PET_MASTER_PORT": "29501"}


def test_a_process_is_alone_unless_told_otherwise() -> None:
    assert topology({}) == topology({**TWO, "PET_NNODES": "1"}) == Topology()
    assert topology({"JOB_COMPLETION_INDEX": "3"}).leads


def test_torchruns_variables_say_which_one_it_is() -> None:
    assert topology(TWO) == Topology(1, 2, "job-0.job", 29501, socket.gethostname())


def test_kubernetes_number_of_the_pod_will_do() -> None:
    place = topology({**TWO, "PET_NODE_RANK": "", "JOB_COMPLETION_INDEX": "0", "PET_MASTER_PORT": ""})
    assert (place.rank, place.leads, place.port) == (0, True, 29500)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"PET_NNODES": "two"}, "PET_NNODES is 'two'; expected a whole number from 1"),
        ({"PET_NNODES": "0"}, "PET_NNODES is '0'; expected a whole number from 1"),
        ({"PET_NODE_RANK": "2"}, "PET_NODE_RANK is 2; with PET_NNODES=2 it is a number from 0 to 1"),
        ({"PET_NODE_RANK": ""}, "PET_NODE_RANK is not set; with PET_NNODES above 1 each process has one, from 0"),
        ({"PET_MASTER_ADDR": ""}, "PET_MASTER_ADDR is not set; with PET_NNODES=2 it is the host of rank 0"),
        ({"PET_MASTER_PORT": "x"}, "PET_MASTER_PORT is 'x'; expected a whole number"),
        ({"PET_NPROC_PER_NODE": "8"}, "PET_NPROC_PER_NODE is 8; the built-in trainer is one process a node"),
    ],
)
def test_what_does_not_fit_is_said(change: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        topology({**TWO, **change})
    assert str(caught.value).startswith(sentence)
