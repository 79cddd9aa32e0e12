"""What was tried and what came of it, as a table: pure."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from tests.chaos.history import Deserved, Sight, ends, steps_lost
from tests.chaos.kinds import EVERY_SECONDS, EVERY_STEPS, KINDS, kind_of
from tests.chaos.verdict import Verdict


def jobs_table(
    deserved: Mapping[str, Deserved],
    sights: Mapping[str, Sequence[Sight]],
    gone: Collection[str],
    touched: Mapping[str, Collection[int]],
) -> Iterator[str]:
    """One line for each kind of job."""
    yield f"{'jobs':18}{'asked':>7}{'as deserved':>13}{'attempts':>10}{'hit':>6}{'steps lost (median, most)':>29}"
    for kind, what in KINDS.items():
        names = [name for name in deserved if kind_of(name) == kind]
        right = sum(_is_right(deserved[name], sights.get(name, ()), name in gone) for name in names)
        attempts = sum(sights[name][-1].started for name in names if sights.get(name))
        hit = sum(len(touched.get(name, ())) for name in names)
        lost = _steps(each for name in names for each in steps_lost(ends(sights.get(name, ()))))
        shown = f"{lost if what.built_in else '':>29}"
        yield f"{kind:18}{len(names):>7}{right:>13}{attempts:>10}{hit:>6}{shown}".rstrip()
    yield f"a checkpoint is asked for every {EVERY_STEPS} steps and every {EVERY_SECONDS} s"


def _is_right(deserved: Deserved, sights: Sequence[Sight], gone: bool) -> bool:  # noqa: FBT001
    if deserved.gone:
        return gone
    return bool(sights) and (sights[-1].phase, sights[-1].reason) == (deserved.phase, deserved.reason)


def _steps(lost: Iterable[int]) -> str:
    steps = sorted(lost)
    return f"{statistics.median(steps):.0f}, {steps[-1]} of {len(steps)}" if steps else "-"


def faults_table(order: Iterable[str], times: Mapping[str, int]) -> Iterator[str]:
    """One line for each kind of fault."""
    yield f"{'faults':32}{'times':>6}"
    for fault in order:
        yield f"{fault:32}{times.get(fault, 0):>6}"


def recoveries(seconds: Iterable[float]) -> Iterator[str]:
    """How long after a trainer was killed the next attempt's process was seen."""
    known = sorted(seconds)
    if len(known) > 1:
        p95 = statistics.quantiles(known, n=20)[-1]
        yield (
            f"from a trainer's death to the next attempt's process: median {statistics.median(known):.1f} s, "
            f"95 % within {p95:.1f} s, longest {known[-1]:.1f} s ({len(known)} times, among all the other faults)"
        )


def last_lines(seed: str, verdict: Verdict, faults: int, least: int) -> Iterator[str]:
    """A sentence for each problem, then the verdict."""
    for problem in verdict.problems:
        yield f"  {problem}"
    if faults < least:
        yield f"  {faults} faults could be made, at least {least} were expected; is the cluster well?"
    yield f"seed {seed}: {verdict.line(faults)}"


def exit_status(verdict: Verdict, faults: int, least: int) -> int:
    """0 when nothing was wrong, and enough was done to show it."""
    return 0 if verdict.clean and faults >= least else 1
