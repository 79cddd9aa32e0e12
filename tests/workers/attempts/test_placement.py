"""Where the next attempt is tried."""

from __future__ import annotations

import pytest

from perdure_api.conditions import Reason
from perdure_api.spec import AlternativeSpec, ResourcesSpec
from perdure_api.status import AttemptStatus
from perdure_api.workflow import Placement
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.attempts.placement import fall_back, missing, on_how_many, placed, recalled, regrown, sentence

OTHER = AlternativeSpec(node_selector={"gpu": "a100"}, gpus_per_node=1)
SAME = AlternativeSpec(cpu="8", node_selector={"gpu": "h100"})
THIRD = AlternativeSpec(cpu="2")


def resources(nodes: int = 4, min_nodes: int | None = None, *alternatives: AlternativeSpec) -> ResourcesSpec:
    return ResourcesSpec(
        nodes=nodes,
        min_nodes=min_nodes,
        alternatives=list(alternatives),
        gpus_per_node=2,
        cpu="8",
        node_selector={"gpu": "h100"},
    )


def unplaced(nodes: int | None, reason: Reason = Reason.NO_CAPACITY) -> Outcome:
    return Outcome(reason=reason, message="no node", pod_remains=True, placed_nodes=nodes)


@pytest.mark.parametrize(
    ("asked", "at", "outcome", "expected"),
    [
        (resources(1), Placement(), unplaced(0), None),
        (resources(4), Placement(), unplaced(3), None),
        (resources(4, 2), Placement(), unplaced(3), Placement(nodes=3, room=(3,))),
        (resources(4, 2), Placement(), unplaced(1), None),
        (resources(4, 4), Placement(), unplaced(3), None),
        (resources(4, 1), Placement(), unplaced(0), None),
        (resources(4, 1), Placement(nodes=3, room=(3,)), unplaced(2), Placement(nodes=2, room=(3,))),
        (resources(4, 2), Placement(nodes=3, room=(3,)), unplaced(1), None),
        (resources(4, 1, OTHER), Placement(), unplaced(3), Placement(alternative=1, room=(3,))),
        (
            resources(4, 1, OTHER, THIRD),
            Placement(alternative=1, room=(3,)),
            unplaced(1),
            Placement(alternative=2, room=(3, 1)),
        ),
        (
            resources(4, 1, OTHER),
            Placement(alternative=1, room=(3,)),
            unplaced(2),
            Placement(alternative=0, nodes=3, room=(3, 2)),
        ),
        (
            resources(4, 1, OTHER),
            Placement(alternative=1, room=(2,)),
            unplaced(3),
            Placement(alternative=1, nodes=3, room=(2, 3)),
        ),
        (resources(4, 4, OTHER), Placement(alternative=1, room=(3,)), unplaced(2), None),
        (
            resources(4, 1, SAME, OTHER, OTHER, THIRD),
            Placement(),
            unplaced(3),
            Placement(alternative=2, room=(3, 0)),
        ),
        (
            resources(4, 1, SAME, OTHER, OTHER, THIRD),
            Placement(alternative=2, room=(3, 0)),
            unplaced(2),
            Placement(alternative=4, room=(3, 0, 2, 0)),
        ),
        (
            resources(4, 1, SAME, OTHER, OTHER),
            Placement(alternative=2, room=(3, 0)),
            unplaced(2),
            Placement(nodes=3, room=(3, 0, 2, 0)),
        ),
        (resources(1, None, SAME), Placement(), unplaced(0), None),
        (
            resources(1, None, OTHER),
            Placement(),
            unplaced(None, Reason.IMAGE_PULL_FAILED),
            Placement(alternative=1, room=(0,)),
        ),
        (resources(4, 1), Placement(), unplaced(None, Reason.IMAGE_PULL_FAILED), None),
        (resources(4, 1, OTHER), Placement(), unplaced(3, Reason.FAILED), None),
        (resources(4, 1, OTHER), Placement(), unplaced(3, Reason.CANNOT_START), None),
    ],
    ids=[
        "there is nothing else",
        "all nodes are needed",
        "fewer are enough",
        "too few",
        "as many as are asked for are needed",
        "none at all",
        "fewer still",
        "fewer still, too few",
        "alternatives come first",
        "the next alternative",
        "the first had most room",
        "the alternative had most room",
        "nowhere enough",
        "what asks for the same as the first is passed over",
        "what asks for the same as another too",
        "the first had most room, and what was passed over has none",
        "there is nothing else but the same",
        "another image may be there",
        "fewer nodes bring no image",
        "it failed by itself",
        "it can start nowhere",
    ],
)
def test_fall_back(asked: ResourcesSpec, at: Placement, outcome: Outcome, expected: Placement | None) -> None:
    assert fall_back(asked, at, outcome) == expected


def test_an_alternative_changes_what_it_names_and_leaves_the_rest() -> None:
    asked = resources(4, 1, OTHER)

    got = placed(asked, Placement(alternative=1, nodes=3))

    assert (got.node_selector, got.gpus_per_node, got.cpu, got.nodes) == ({"gpu": "a100"}, 1, "8", 3)
    assert placed(asked, Placement()) == asked


def test_an_alternative_that_has_been_through_a_history_changes_nothing_else() -> None:
    asked = ResourcesSpec.model_validate_json(resources(4, 1, THIRD).model_dump_json(by_alias=True))

    got = placed(asked, Placement(alternative=1))

    assert (got.node_selector, got.gpus_per_node, got.cpu) == ({"gpu": "h100"}, 2, "2")


@pytest.mark.parametrize(
    ("asked", "at", "says"),
    [
        (resources(1), Placement(), ""),
        (resources(4), Placement(), "on 4 nodes"),
        (resources(4, 1), Placement(nodes=3, room=(3,)), "on 3 of 4 nodes"),
        (
            resources(4, 1).model_copy(update={"regrow": True}),
            Placement(nodes=3, room=(3,)),
            "on 3 of 4 nodes, and asks for 1 more meanwhile",
        ),
    ],
    ids=["one is all", "all", "fewer", "fewer, for a while"],
)
def test_on_how_many_nodes_it_begins_is_said(asked: ResourcesSpec, at: Placement, says: str) -> None:
    assert on_how_many(asked, at) == says


def test_where_it_goes_is_a_sentence() -> None:
    asked = resources(4, 1, OTHER)

    assert sentence(asked, Placement(alternative=1)) == "the next attempt asks for resources.alternatives[0]"
    assert (
        sentence(asked, Placement(nodes=3)) == "the next attempt asks for the first resources on 3 instead of 4 nodes"
    )


@pytest.mark.parametrize(("regrow", "nodes", "lacks"), [(True, 1, 3), (True, 4, 0), (True, None, 0), (False, 1, 0)])
def test_only_whoever_wants_it_and_lacks_nodes_asks_for_them(*, regrow: bool, nodes: int | None, lacks: int) -> None:
    asked = resources(4, 1).model_copy(update={"regrow": regrow})

    assert missing(asked, Placement(nodes=nodes)) == lacks


def test_a_job_that_has_grown_again_is_tried_further_as_if_it_had_never_shrunk() -> None:
    asked = resources(4, 1, OTHER, THIRD)
    grown = regrown(Placement(alternative=1, nodes=3, room=(2, 3, 1)))

    assert grown == Placement(alternative=1, room=(2,))
    assert fall_back(asked, grown, unplaced(0)) == Placement(alternative=2, room=(2, 0))


def attempt(nodes: int | None, alternative: int | None = None, reason: Reason | None = None) -> AttemptStatus:
    return AttemptStatus(
        number=1, job="tj-1", start_time="2026-01-01T00:00:00Z", nodes=nodes, alternative=alternative, reason=reason
    )


@pytest.mark.parametrize(
    ("asked", "newest", "expected"),
    [
        (resources(1), attempt(None), Placement()),
        (resources(4), attempt(4), Placement()),
        (resources(4, 1), attempt(2), Placement(nodes=2)),
        (resources(4, 1), attempt(None), Placement(nodes=1)),
        (resources(4, 1, OTHER), attempt(4, 0), Placement(alternative=1, room=(0,))),
        (resources(4, 1, OTHER), attempt(3, 0), Placement(alternative=1, nodes=3, room=(0,))),
        (resources(4, 1, OTHER), attempt(3, 5), Placement(nodes=3)),
        (resources(4, 1, OTHER), attempt(3, 0, Reason.FAILED), Placement(alternative=1, nodes=3, room=(0,))),
        (resources(4, 1, OTHER), attempt(3, 0, Reason.REGROWN), Placement(alternative=1, room=(0,))),
        (resources(4, 1, OTHER), attempt(4, None, Reason.NO_CAPACITY), Placement(alternative=1, room=(0,))),
        (resources(4, 1, OTHER), attempt(4, 0, Reason.NO_CAPACITY), Placement(alternative=1, room=(0,))),
        (resources(4, 1), attempt(3, None, Reason.IMAGE_PULL_FAILED), Placement(nodes=3)),
        (resources(1), attempt(None, None, Reason.NO_CAPACITY), Placement()),
    ],
    ids=[
        "one node",
        "all nodes",
        "fewer",
        "one of several",
        "an alternative",
        "fewer of an alternative",
        "an alternative that there is not",
        "it failed",
        "it is to have all again",
        "it found no place, and there is an alternative",
        "it found no place in the last one",
        "it found no place for fewer",
        "it found no place, and there is no other",
    ],
)
def test_without_a_history_it_goes_on_where_the_newest_attempt_was(
    asked: ResourcesSpec, newest: AttemptStatus, expected: Placement
) -> None:
    assert recalled(asked, newest) == expected
