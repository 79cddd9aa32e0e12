"""What is said of a program that hung."""

from __future__ import annotations

import subprocess
import sys

import pytest

from perdure_api.conditions import Reason
from perdure_api.pod import TerminationMessage
from perdure_workers.attempts.outcome import Outcome, of_hung
from perdure_workers.attempts.stacks import whereabouts

PROGRAM = """
import faulthandler, sys, threading
def waits(): threading.Event().wait()
def hangs():
    faulthandler.dump_traceback(sys.stdout, all_threads=True)
def trains(): hangs()
def runs(): trains()
def main(): runs()
threading.Thread(target=waits, daemon=True).start()
main()
"""
WHY = "no progress for 60 s, so it was ended"


@pytest.fixture(scope="module")
def dump() -> str:
    """As this Python writes it."""
    return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout


def test_the_innermost_frames_of_the_main_thread_say_where_it_was(dump: str) -> None:
    assert "waits" in dump
    assert whereabouts(dump) == "hangs (<string>:5), called by trains (<string>:6), called by runs (<string>:7)"
    assert whereabouts("") == ""


def test_stacks_alone_are_no_message(dump: str) -> None:
    words = TerminationMessage.decode(dump)

    assert (words.stacks, words.message) == (dump, "")


@pytest.mark.parametrize("length", [10, 5000, 100_000])
def test_stacks_leave_room_for_what_else_is_said(dump: str, length: int) -> None:
    words = TerminationMessage(message="stopped by SIGTERM", step=7, stacks="x\n" * length + dump)

    told = TerminationMessage.decode(words.encode())

    assert len(words.encode().encode()) <= 4096
    assert (told.message, told.step) == ("stopped by SIGTERM", 7)
    assert told.stacks
    assert whereabouts(told.stacks) == whereabouts(dump)


def hung(**parts: object) -> Outcome:
    return Outcome(reason=Reason.DISRUPTED, message="pod p was deleted", exit_code=143).model_copy(update=parts)


def test_whatever_ends_a_hung_attempt_it_hung(dump: str) -> None:
    outcome = of_hung(hung(words=TerminationMessage(stacks=dump, step=7)), WHY)

    assert (outcome.reason, outcome.exit_code, outcome.words.step) == (Reason.HUNG, 143, 7)
    assert outcome.message == f"{WHY}; it was in {whereabouts(dump)}"
    assert of_hung(hung(), WHY).message == WHY
    assert of_hung(None, WHY).pod_remains


def test_one_that_left_its_result_after_all_has_finished() -> None:
    done = Outcome(reason=Reason.COMPLETED, message="done", words=TerminationMessage(result_uri="s3://b/r"))

    assert of_hung(done, WHY) is done
    assert of_hung(Outcome(reason=Reason.COMPLETED, message="done"), WHY).reason is Reason.HUNG
