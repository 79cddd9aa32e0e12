from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perdure_trainer.data.documents import Documents, DocumentWriter, stored, tokens_of


def documents(length: int, *ends: int) -> Documents:
    return Documents(np.arange(length, dtype=np.int32), np.asarray(ends, np.int64))


def test_what_was_written_is_there_to_be_read(tmp_path: Path) -> None:
    with DocumentWriter(tmp_path / "new") as writer:
        writer.add(stored([5, 0], learnt=False))
        writer.add(stored([7], learnt=True))
        writer.end_document()
        writer.add(stored([8], learnt=True))
        found = writer.finish()
    assert tokens_of(found.stored).tolist() == [5, 0, 7, 8]
    assert (found.stored >= 0).tolist() == [False, False, True, True]
    assert found.ends.tolist() == [3, 4]


def test_documents_are_read_from_files_and_not_held_in_memory(tmp_path: Path) -> None:
    with DocumentWriter(tmp_path) as writer:
        writer.add(stored([1], learnt=True))
        found = writer.finish()
    assert isinstance(found.stored, np.memmap)


def test_no_documents_are_no_tokens(tmp_path: Path) -> None:
    with DocumentWriter(tmp_path) as writer:
        found = writer.finish()
    assert (found.stored.tolist(), found.ends.tolist()) == ([], [])
    assert [part.stored.tolist() for part in found.split(0.1)] == [[], []]


@pytest.mark.parametrize(
    ("whole", "fraction", "lengths"),
    [
        pytest.param(documents(100, 30, 60, 88, 100), 0.1, (88, 12), id="the nearest document"),
        pytest.param(documents(100, 95, 100), 0.5, (95, 5), id="the only border"),
        pytest.param(documents(100, 100), 0.1, (90, 10), id="one document is cut"),
        pytest.param(documents(3, 3), 0.01, (3, 0), id="too little to hold out"),
    ],
)
def test_holds_out_the_last_documents(whole: Documents, fraction: float, lengths: tuple[int, int]) -> None:
    kept, held_out = whole.split(fraction)
    assert (len(kept.stored), len(held_out.stored)) == lengths
    assert [*kept.stored, *held_out.stored] == list(range(len(whole.stored)))
    assert [*kept.ends, *(held_out.ends + lengths[0])] == sorted({*whole.ends.tolist(), lengths[0]})


def test_one_sample_is_not_cut_to_hold_out_half_an_answer() -> None:
    sample = Documents(np.concatenate([stored([1, 2], learnt=False), stored([3, 4], learnt=True)]), np.asarray([4]))
    kept, held_out = sample.split(0.5)
    assert (len(kept.stored), len(held_out.stored)) == (4, 0)
