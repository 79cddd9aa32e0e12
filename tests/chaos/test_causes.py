"""What a fault explains, and what it does not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.chaos.causes import (
    COMES_TO_LIGHT_SECONDS,
    ZOMBIE_SECONDS,
    Faults,
    Overlap,
    Spell,
    explained,
    may_overlap,
    parted,
)
from tests.chaos.history import Deserved, Sight

OWN = Deserved("Succeeded", "Completed")
BUILT_IN = replace(OWN, built_in=True)
PAIR = replace(OWN, nodes=2)


def sight(at: float, started: int, ended: int) -> Sight:
    attempts = [{"number": n, **({"endTime": "then"} if n <= ended else {})} for n in range(1, started + 1)]
    return Sight({"attempts": attempts, "attemptCounters": {"started": started}}, at=at)


# Attempt 1 from 100 to 200, attempt 2 from 200 to 300.
SIGHTS = [sight(100, 1, 0), sight(200, 1, 1), sight(205, 2, 1), sight(300, 2, 2)]
N1, N2 = {1: {"n1"}, 2: {"n1"}}, {1: {"n2"}, 2: {"n2"}}
DURING_FIRST = Spell("n1", 120, 130)


@pytest.mark.parametrize(
    ("deserved", "nodes", "faults", "expected"),
    [
        (OWN, N1, Faults({}), set()),
        (OWN, N1, Faults({"j": {2}}), {2}),
        (OWN, N1, Faults({"other": {1}}), set()),
        (OWN, N1, Faults({}, [DURING_FIRST]), {1}),
        (OWN, N2, Faults({}, [DURING_FIRST]), set()),
        (OWN, {}, Faults({}, [DURING_FIRST]), {1}),
        (OWN, N2, Faults({}, [replace(DURING_FIRST, where="")]), {1}),
        (PAIR, N2, Faults({}, [DURING_FIRST]), {1}),
        (BUILT_IN, N2, Faults({}, [DURING_FIRST]), {1}),
        (OWN, N1, Faults({}, [], [DURING_FIRST]), set()),
        (BUILT_IN, N1, Faults({}, [], [DURING_FIRST]), {1}),
        (OWN, N1, Faults({}, [Spell("n1", 50, 100 - COMES_TO_LIGHT_SECONDS)]), {1}),
        (OWN, N1, Faults({}, [Spell("n1", 50, 90 - COMES_TO_LIGHT_SECONDS)]), set()),
        (OWN, N1, Faults({}, [Spell("n1", 301, 310)]), set()),
        (OWN, N1, Faults({}, [Spell("n1", 250, math.inf)]), {2}),
    ],
    ids=[
        "nothing happened",
        "killed",
        "another job's",
        "its node",
        "the other node",
        "its node is not known",
        "the fault's node is not known",
        "one of two nodes",
        "the store may be on the other node",
        "the store is not its own",
        "the store",
        "right before",
        "long before",
        "later",
        "never mended",
    ],
)
def test_an_attempt_is_explained_by_what_met_it(
    deserved: Deserved, nodes: dict[int, set[str]], faults: Faults, expected: set[int]
) -> None:
    assert explained("j", deserved, SIGHTS, nodes, faults) == expected


def test_a_job_that_was_never_seen_is_explained_by_nothing() -> None:
    assert explained("j", OWN, [], {}, Faults({}, [DURING_FIRST])) == set()


BOTH = Overlap("j", (1, 2), seconds=10, began=200, nodes=(frozenset({"n1"}), frozenset({"n2"})))


@pytest.mark.parametrize(
    ("overlap", "spells", "built_in", "allowed"),
    [
        (BOTH, [Spell("n1", 150, 190)], True, True),
        (BOTH, [Spell("n1", 150, 190)], False, False),
        (BOTH, [], True, False),
        (BOTH, [Spell("n2", 150, 190)], True, False),
        (BOTH, [Spell("n1", 100, 199 - ZOMBIE_SECONDS)], True, False),
        (BOTH, [Spell("n1", 215, 220)], True, False),
        (replace(BOTH, nodes=(frozenset({"n1"}), frozenset({"n1"}))), [Spell("n2", 150, 190)], True, False),
        (replace(BOTH, nodes=(frozenset(), frozenset({"n2"}))), [Spell("n2", 150, 190)], True, True),
        (
            Overlap("j", (1, 2, 3), 10, 200, (frozenset({"n1"}), frozenset({"n2"}), frozenset({"n2"}))),
            [Spell("n1", 150, 190)],
            True,
            False,
        ),
    ],
    ids=[
        "beside one on a lost node",
        "a trainer of one's own",
        "no fault",
        "the newer one's node was lost",
        "mended long ago",
        "lost only later",
        "on one node, and another was lost",
        "where the older one ran is not known",
        "beside two, one of them on a node that was well",
    ],
)
def test_only_the_built_in_trainer_may_run_beside_what_is_on_a_lost_node(
    overlap: Overlap, spells: list[Spell], *, built_in: bool, allowed: bool
) -> None:
    assert may_overlap(overlap, spells, built_in=built_in) is allowed


def test_what_may_have_run_on_is_what_was_on_a_lost_node() -> None:
    assert parted(BUILT_IN, SIGHTS, N1, [DURING_FIRST]) == {1}
    assert parted(BUILT_IN, SIGHTS, N2, [DURING_FIRST]) == set()
