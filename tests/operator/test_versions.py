"""What is to be done about versions of the workers, as a table of how they can stand."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from perdure_operator.versions import (
    Deployed,
    Fleet,
    Known,
    Make,
    MakeCurrent,
    Remove,
    Standing,
    Step,
    TakeOver,
    plan,
    waits_for,
)


def at(build: str, ready: int = 2, made_from: str = "digest") -> Deployed:
    return Deployed(build=build, name=f"worker-{build}", uid=f"uid-{build}", made_from=made_from, ready=ready)


def fleet(
    *deployed: Deployed,
    wanted: str = "b",
    current: str = "",
    polling: str = "",
    away: bool = False,
    **standings: Standing,
) -> Fleet:
    """Versions have one letter; `polling` names them one after the other."""
    known = Known(current=current, standings=standings, polling=frozenset(polling))
    by_build: Mapping[str, Deployed] = {each.build: each for each in deployed}
    return Fleet(wanted=wanted, wanted_from="digest", deployed=by_build, known=None if away else known)


CURRENT, DRAINING, DRAINED = Standing.CURRENT, Standing.DRAINING, Standing.DRAINED
INACTIVE, RAMPING = Standing.INACTIVE, Standing.RAMPING
A, B, C = at("a"), at("b"), at("c")

CASES: dict[str, tuple[Fleet, list[Step]]] = {
    "a new installation": (fleet(), [Make("b")]),
    "a new installation, Temporal away": (fleet(away=True), [Make("b")]),
    "made, not ready": (fleet(at("b", ready=0)), []),
    "ready, not heard of": (fleet(B), []),
    "heard of, not ready: polls of workers that are gone": (fleet(at("b", ready=0), polling="b", b=INACTIVE), []),
    "ready and heard of": (fleet(B, polling="b", b=INACTIVE), [MakeCurrent("b")]),
    "all is as it should be": (fleet(B, current="b", polling="b", b=CURRENT), []),
    "other settings of the same version": (
        fleet(at("b", made_from="older"), current="b", polling="b", b=CURRENT),
        [Make("b")],
    ),
    "its Deployment was deleted by hand": (fleet(current="b", polling="b", b=CURRENT), [Make("b")]),
    "an upgrade begins": (fleet(A, current="a", polling="a", a=CURRENT), [Make("b")]),
    "an upgrade that never polls leaves the older one current": (
        fleet(A, at("b", ready=0), current="a", polling="a", a=CURRENT),
        [],
    ),
    "an upgrade becomes current, and the older one stays": (
        fleet(A, B, current="a", polling="ab", a=CURRENT, b=INACTIVE),
        [MakeCurrent("b")],
    ),
    "the older one has jobs": (fleet(A, B, current="b", polling="ab", a=DRAINING, b=CURRENT), []),
    "the older one has none": (fleet(A, B, current="b", polling="ab", a=DRAINED, b=CURRENT), [Remove(A)]),
    "several older ones": (
        fleet(A, C, B, current="b", polling="abc", a=DRAINED, b=CURRENT, c=DRAINED),
        [Remove(A), Remove(C)],
    ),
    "one that was given up before it was heard of": (fleet(B, C, current="b", polling="b", b=CURRENT), [Remove(C)]),
    "one that was given up before it was current": (
        fleet(B, C, current="b", polling="bc", b=CURRENT, c=INACTIVE),
        [Remove(C)],
    ),
    "a rollback to one that still has jobs": (
        fleet(A, B, wanted="a", current="b", polling="ab", a=DRAINING, b=CURRENT),
        [MakeCurrent("a")],
    ),
    "a rollback to one that was removed": (
        fleet(B, wanted="a", current="b", polling="b", a=DRAINED, b=CURRENT),
        [Make("a")],
    ),
    "a rollback to a drained one that is there again": (
        fleet(A, B, wanted="a", current="b", polling="ab", a=DRAINED, b=CURRENT),
        [MakeCurrent("a")],
    ),
    "somebody has made an older one current": (
        fleet(A, B, current="a", polling="ab", a=CURRENT, b=DRAINING),
        [MakeCurrent("b")],
    ),
    "the current one is kept, whatever else Temporal says of it yet": (
        fleet(A, at("b", ready=0), current="a", polling="a", a=INACTIVE),
        [],
    ),
    "somebody ramps": (fleet(A, B, current="b", polling="ab", a=RAMPING, b=CURRENT), []),
    "Temporal away: nothing is taken away": (fleet(A, B, away=True), []),
    "Temporal has lost everything": (fleet(A, B, polling="b", b=INACTIVE), [MakeCurrent("b"), Remove(A)]),
    "jobs without workers are taken over": (fleet(B, current="b", polling="b", a=DRAINING, b=CURRENT), [TakeOver("a")]),
    "jobs without workers wait until the installed version is current": (
        fleet(B, current="c", polling="b", a=DRAINING, b=INACTIVE, c=CURRENT),
        [MakeCurrent("b")],
    ),
    "jobs whose workers poll from elsewhere are left alone": (
        fleet(B, current="b", polling="ab", a=DRAINING, b=CURRENT),
        [],
    ),
    "jobs whose workers cannot start wait for them": (
        fleet(at("a", ready=0), B, current="b", polling="b", a=DRAINING, b=CURRENT),
        [],
    ),
}


@pytest.mark.parametrize(("seen", "steps"), CASES.values(), ids=CASES)
def test_what_is_to_be_done(seen: Fleet, steps: list[Step]) -> None:
    assert plan(seen) == steps


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        pytest.param(fleet(), "no workers of version b are ready yet, and what is new waits", id="first"),
        pytest.param(
            fleet(A, at("b", ready=0), current="a", polling="a", a=CURRENT),
            "no workers of version b are ready yet, and version a stays current; if that lasts, see what becomes of "
            "the pods with the label perdure.dev/build=b",
            id="not ready",
        ),
        pytest.param(fleet(B), "no workers of version b poll Temporal yet", id="not heard of"),
    ],
)
def test_a_version_that_does_not_become_current_is_told_with_what_to_look_at(seen: Fleet, says: str) -> None:
    assert says in str(waits_for(seen))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(fleet(B, current="b", polling="b", b=CURRENT), id="current"),
        pytest.param(fleet(B, polling="b", b=INACTIVE), id="about to be"),
        pytest.param(fleet(away=True), id="unknown"),
    ],
)
def test_nothing_is_told_where_there_is_nothing_to_do_for_people(seen: Fleet) -> None:
    assert waits_for(seen) is None
