"""What is kept of measured recoveries, and shown of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.recovery import KINDS, PARTS, Recovery, Results, load, main, table

FIRST = {part: float(number) for number, part in enumerate(PARTS, start=1)}
SECOND = {part: number + 1 for part, number in FIRST.items()}


def results() -> Results:
    kinds = [kind.name for kind in KINDS]
    return Results("2 CPUs", [4.0, 4.0], {name: [Recovery(FIRST), Recovery(SECOND)] for name in kinds})


def test_what_is_kept_is_what_was_measured_and_says_how_much_is_left(tmp_path: Path) -> None:
    path = tmp_path / "folder/results.json"
    results().save(path)

    assert load(path) == results()
    assert load(path).rounds == 2


def test_a_turn_that_was_not_measured_to_its_end_counts_for_nothing() -> None:
    cut = results()
    cut.recoveries[KINDS[-1].name].pop()

    assert cut.rounds == 1
    assert Results("2 CPUs", []).rounds == 0


def test_the_table_has_the_median_and_what_almost_all_are_within_and_of_ours_what_is_beyond_the_imports() -> None:
    lines = list(table(results()))

    own = next(line for line in lines if line.startswith(KINDS[0].name))
    assert "   5.5 /" in own
    beyond = [line for line in lines if line.endswith("beyond the imports")]
    assert len(beyond) == sum(kind.built_in for kind in KINDS)
    assert all("   1.5 /" in line for line in beyond)


@pytest.mark.parametrize("text", [None, "{}", "no JSON"])
def test_a_file_without_results_is_told_in_a_sentence(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    if text is not None:
        path.write_text(text)

    assert main(["--show", "--results", str(path)]) == 1
    assert "run it without --go-on and --show" in capsys.readouterr().err
