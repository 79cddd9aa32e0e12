"""An answer against what is expected of it."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Final

from perdure_api.evals import Case, Check

_REGEX_SECONDS: Final = 1.0
"""Some patterns take ages on some texts."""
_SHOWN_CHARACTERS: Final = 60
_FENCED: Final = re.compile(r"\A\s*```[a-zA-Z]*\n(.*?)\n?```\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Scored:
    """How good an answer is."""

    score: float
    """From 0 to 1."""
    problem: str | None
    """What is not fulfilled, the first thing; None: everything is."""


def score(case: Case, answer: str) -> Scored:
    """The mean of a case's checks and of its likeness to the reference."""
    problems = [check_problem(check, answer) for check in case.checks]
    parts = [0.0 if problem else 1.0 for problem in problems]
    if case.reference is not None:
        parts.append(likeness := common_words(answer, case.reference))
        problems.append(None if likeness == 1 else f"likeness to the reference is {likeness:.2f}")
    return Scored(sum(parts) / len(parts), next(filter(None, problems), None))


def check_problem(check: Check, answer: str) -> str | None:
    """What an answer lacks; None: nothing."""
    if check.contains is not None:
        found = _folded(check.contains, check) in _folded(answer, check)
        return None if found else f'does not contain "{_short(check.contains)}"'
    if check.equals is not None:
        same = _folded(check.equals, check).strip() == _folded(answer, check).strip()
        return None if same else f'is "{_short(answer)}"; expected "{_short(check.equals)}"'
    if check.regex is not None:
        return _regex_problem(check, check.regex, answer)
    wanted = bool(check.json_)
    return None if _is_json(answer) == wanted else "is no JSON" if wanted else "is JSON"


def common_words(answer: str, reference: str) -> float:
    """F1 of the words that two texts have in common, however often each has them (as SQuAD counts it).

    Case and punctuation do not count. 1: the same words; 0: none.
    """
    ours, theirs = Counter(_words(answer)), Counter(_words(reference))
    common = sum((ours & theirs).values())
    if not common:
        return float(not ours and not theirs)
    return 2 * common / (sum(ours.values()) + sum(theirs.values()))


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.findall(r"[^\W_]+", folded)


def _regex_problem(check: Check, pattern: str, answer: str) -> str | None:
    import regex  # noqa: PLC0415 - Python's own cannot be told to stop

    flags = regex.IGNORECASE if check.ignore_case else 0
    try:
        found = regex.search(pattern, answer, flags | regex.VERSION0, timeout=_REGEX_SECONDS)
    except TimeoutError:
        return f"the pattern {_short(pattern)} finds no end within {_REGEX_SECONDS:g} s; make it simpler"
    except regex.error as error:
        return f"the pattern {_short(pattern)} cannot be used: {error}"
    return None if found else f"does not match {_short(pattern)}"


def _is_json(answer: str) -> bool:
    fenced = _FENCED.match(answer)
    try:
        json.loads(fenced[1] if fenced else answer)
    except (ValueError, RecursionError):
        return False
    return True


def _folded(text: str, check: Check) -> str:
    return text.casefold() if check.ignore_case else text


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= _SHOWN_CHARACTERS else f"{one_line[:_SHOWN_CHARACTERS]}…"
