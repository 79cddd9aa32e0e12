"""Since when an attempt has told nothing new."""

from __future__ import annotations

import pytest

from perdure_api.status import ProgressStatus
from perdure_workers.activities.hanging import silent_since

AT_100 = ProgressStatus(step=1, last_updated="1970-01-01T00:01:40Z")
AT_200 = ProgressStatus(step=2, last_updated="1970-01-01T00:03:20Z")


@pytest.mark.parametrize(
    ("began", "told", "since"),
    [
        ((50.0, 10.0, None), (None, None), 50.0),
        ((50.0, 10.0, None), (AT_100, None), 100.0),
        ((50.0, 10.0, None), (AT_100, AT_200), 200.0),
        ((50.0, 10.0, None), (ProgressStatus(), None), 50.0),
        ((50.0, 300.0, None), (AT_200, None), 300.0),
        ((50.0, 10.0, 400.0), (AT_200, AT_100), 400.0),
    ],
    ids=["told nothing", "told here", "told elsewhere", "told no time", "nobody listened", "nobody could be asked"],
)
def test_silence_begins_with_the_last_word_or_when_it_could_first_be_heard(
    began: tuple[float | None, ...], told: tuple[ProgressStatus | None, ...], since: float
) -> None:
    assert silent_since(began, told) == since
