"""What was seen of the pool, as tables and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from bench.cluster import goals
from bench.cluster.figures import markdown, quantile, rounded
from bench.cluster.goals import Goal
from bench.cluster.lines import Line, Panel, drawn
from bench.cluster.tasks import Course
from bench.pools.results import NAMES, PERDURE, Drop, Results

RAISED_SECONDS: Final = 30
"""More replicas must be wanted by then."""


def conditions(results: Results) -> str:
    """What the figures depend on, in a few sentences."""
    told, load, sizes = results.conditions, results.conditions["load"], results.conditions["sizes"]
    small, large = (
        f"{texts['count']} texts of {texts['words']} words" for texts in (load["texts"], load["large_texts"])
    )
    return (
        f"{told['cpus']} CPUs of an {told['cpu']}, load {told['load_before']} before; Kubernetes {told['kubernetes']}, "
        f"Perdure {told['perdure']}; {told['time']}. {load['tasks']} times batch_embed with all-MiniLM-L6-v2 on CPUs: "
        f"{small} each, of the last {load['large']} {large}. Workers of one slot, {sizes['least']} to {sizes['most']}; "
        f"gpuWorker.autoscaling.scaleDownSeconds {sizes['scale_down_seconds']} (default 600), "
        "and the autoscaler looks every 5 s (default 15)."
    )


def story(results: Results) -> str:
    """What the picture shows of our own autoscaler, in a sentence; nothing where it was not measured."""
    ours = [drop for drop in results.drops if drop.autoscaler == PERDURE]
    return "\n".join(
        f"{len(drop.tasks)} tasks dropped on an idle pool: more workers were wanted after {rounded(drop.raised)} s, "
        f"the last task was done after {rounded(drop.last_done)} s, and after {rounded(drop.back)} s there was one "
        "worker again. [Benchmarks](benchmarks.md#a-pool-that-grows-and-shrinks) say under which conditions."
        for drop in ours
    )


def tables(results: Results) -> Iterator[tuple[str, str]]:
    """Title and Markdown of each."""
    yield "Goals", goals.table(list(_goals(results)))
    if results.drops:
        yield "In seconds since the drop, and in tasks", _compared(results)


def _goals(results: Results) -> Iterator[list[str]]:
    ours = [drop for drop in results.drops if drop.autoscaler == PERDURE]
    raised = Goal("until more replicas are wanted", RAISED_SECONDS, unit="s")
    yield raised.row([drop.raised for drop in ours if drop.raised is not None])
    lost = Goal("tasks that were cut off, or are not done", 0)
    yield lost.row([drop.count(Course.BEGUN_AGAIN) + drop.count(Course.NOT_DONE) for drop in ours])
    twice = Goal("tasks that were begun more than once", 0)
    yield twice.row([sum(task.attempts > 1 for task in drop.tasks) for drop in ours])
    stopped = Goal("tasks in hand when their worker was told to stop", 0)
    yield stopped.row([drop.in_hand_at_a_stop for drop in ours])


def _compared(results: Results) -> str:
    def seconds_of_a_task(share: float) -> Callable[[Drop], str]:
        return lambda drop: rounded(quantile([task.ended - task.started for task in drop.tasks], share))

    rows: dict[str, Callable[[Drop], str]] = {
        "until all tasks were there": lambda drop: rounded(drop.dropping_seconds),
        "until more replicas were wanted": lambda drop: rounded(drop.raised),
        "until all of them were ready": lambda drop: rounded(drop.all_ready),
        "until the last task was done": lambda drop: rounded(drop.last_done),
        "until as few replicas were wanted as before": lambda drop: rounded(drop.back),
        "most replicas": lambda drop: str(drop.most),
        "seconds of a task p50": seconds_of_a_task(0.5),
        "seconds of a task p95": seconds_of_a_task(0.95),
        **{f"tasks {course}": _counted(course) for course in Course},
        "tasks begun, all attempts": lambda drop: str(drop.begun),
        "tasks in hand when their worker was told to stop": lambda drop: str(drop.in_hand_at_a_stop),
        "workers told to stop": lambda drop: str(len(drop.stops)),
    }
    return markdown(
        ["", *(NAMES[drop.autoscaler] for drop in results.drops)],
        [[name, *(told(drop) for drop in results.drops)] for name, told in rows.items()],
    )


def _counted(course: Course) -> Callable[[Drop], str]:
    return lambda drop: str(drop.count(course))


def picture(results: Results) -> bytes | None:
    """Backlog, demand, replicas and busy slots over time; None where nothing was measured."""
    panels = [panel for drop in results.drops for panel in _panels(drop)]
    return drawn(panels) if panels else None


def _panels(drop: Drop) -> Iterator[Panel]:
    who, samples = NAMES[drop.autoscaler], drop.samples
    told = [(sample.seconds, sample.told) for sample in samples if sample.told is not None]
    yield Panel(
        f"{who}: tasks",
        [Line("backlog", [(each.seconds, each.backlog) for each in samples]), Line("demand, as told", told)],
        [0.0],
    )
    yield Panel(
        f"{who}: workers of one slot",
        [
            Line("replicas wanted", [(each.seconds, each.wanted) for each in samples]),
            Line("replicas ready", [(each.seconds, each.ready) for each in samples]),
            Line("busy slots", [(each.seconds, each.busy) for each in samples]),
        ],
        [0.0],
    )
