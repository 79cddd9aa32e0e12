from __future__ import annotations

import pytest

from perdure_trainer.losses import POINTS_LIMIT, Losses, Point


def told(losses: Losses, first: int, last: int) -> Losses:
    for step in range(first, last + 1):
        losses.add(step, 1 / step)
    return losses


def test_of_a_short_run_every_step_is_kept() -> None:
    assert told(Losses(), 1, 3).points == (Point(1, 1.0), Point(2, 0.5), Point(3, 1 / 3))


@pytest.mark.parametrize("steps", [POINTS_LIMIT, POINTS_LIMIT + 1, 2 * POINTS_LIMIT + 2, 50_000])
def test_a_long_run_has_a_bounded_number_of_points_at_even_distances_to_its_end(steps: int) -> None:
    points = told(Losses(), 1, steps).points
    distance = points[1].step - points[0].step
    assert POINTS_LIMIT // 2 <= len(points) <= POINTS_LIMIT
    assert [point.step for point in points] == [distance * number for number in range(1, len(points) + 1)]
    assert steps - points[-1].step < distance


@pytest.mark.parametrize("steps", [20, 1100, 5000])
@pytest.mark.parametrize("ends", [[0], [1], [7], [2, 3, 19], [1001, 1002, 4000]])
def test_what_is_kept_does_not_depend_on_where_attempts_ended(steps: int, ends: list[int]) -> None:
    losses, done = Losses(), 0
    for end in [*(end for end in ends if end < steps), steps]:
        losses = told(Losses(losses.points), done + 1, end)
        done = end
    assert losses.points == told(Losses(), 1, steps).points


def test_a_run_whose_beginning_was_not_kept_is_kept_from_there_on() -> None:
    points = told(Losses(), 501, 4000).points
    assert len(points) <= POINTS_LIMIT
    assert 4000 - points[-1].step < points[1].step - points[0].step
