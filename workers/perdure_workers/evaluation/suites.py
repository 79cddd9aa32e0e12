"""A suite as somebody wrote it: YAML or JSON with `cases`, or JSONL with a case in each line."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any, Final

import yaml
from pydantic import ValidationError

from perdure_api.evals import CASES_LIMIT, Case, Suite
from perdure_workers.messages import SuitePage

SIZE_LIMIT_BYTES: Final = 4 << 20
"""It passes through Temporal, page by page. Python takes seconds to read a megabyte of YAML."""
PAGE_CASES: Final = 200
_PAGE_BYTES: Final = 400_000
_ANSWERS_BYTES: Final = 1_500_000
"""Of one page: Temporal takes 2 MiB."""
_TOKEN_BYTES: Final = 8
_ALIAS_LIMIT: Final = 100


class SuiteBroken(Exception):
    """A suite cannot be used; the message says where, what was found and expected."""


def read_suite(name: str, content: bytes) -> Suite:
    """The suite of a file.

    Raises:
        SuiteBroken: it is none.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SuiteBroken(f"{name}: byte {error.start} is no UTF-8; save it as UTF-8") from error
    document = _lines(name, text) if name.endswith(".jsonl") else _yaml(name, text)
    if not isinstance(document, dict):
        raise SuiteBroken(f"{name} holds a {type(document).__name__}; expected a mapping with the field cases")
    try:
        suite = Suite.model_validate(document, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "as a whole"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise SuiteBroken(f"{name}, {where}: {first['msg'].removeprefix('Value error, ')}{more}") from error
    return suite


def with_ids(suite: Suite) -> list[tuple[str, Case]]:
    """Its cases by their ids.

    Raises:
        SuiteBroken: two have the same.
    """
    named = [(case.id or str(number), case) for number, case in enumerate(suite.cases, 1)]
    twice = [id_ for id_, count in Counter(id_ for id_, _ in named).items() if count > 1]
    if twice:
        raise SuiteBroken(f"two cases have the id {twice[0]}; expected each once: a case without id has its number")
    return named


def suite_hash(suite: Suite) -> str:
    """`sha256:…` of what a suite says, however it is written; what equals its default is left out."""
    said = suite.model_dump(mode="json", exclude_defaults=True)
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def page(suite: Suite, first: int) -> SuitePage:
    """Cases from the one of a number on: as many as fit into a message with their answers.

    Raises:
        SuiteBroken: two cases have one id.
    """
    named = with_ids(suite)
    most = max(1, min(PAGE_CASES, _ANSWERS_BYTES // (suite.max_new_tokens * _TOKEN_BYTES)))
    cases: list[tuple[str, Case]] = []
    size = 0
    for id_, case in named[first : first + most]:
        size += len(case.model_dump_json())
        if cases and size > _PAGE_BYTES:
            break
        cases.append((id_, case))
    return SuitePage(
        suite_hash=suite_hash(suite),
        total=len(named),
        cases=cases,
        system=suite.system,
        chat=suite.chat,
        max_new_tokens=suite.max_new_tokens,
    )


def _lines(name: str, text: str) -> dict[str, Any]:
    cases: list[object] = []
    # Other characters that Python takes for ends of lines may stand in JSON's strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            cases.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise SuiteBroken(f"{name}, line {number}: {error}; expected one JSON object, a case") from error
        if len(cases) > CASES_LIMIT:
            raise SuiteBroken(f"{name} has more than {CASES_LIMIT} cases; cut it into several")
    return {"cases": cases}


def _yaml(name: str, text: str) -> object:
    if name.endswith(".json"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SuiteBroken(f"{name} is no JSON: {error}") from error
    try:
        # A few lines of aliases to aliases unfold to gigabytes; nobody writes so many by hand.
        aliases = sum(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader))
        if aliases > _ALIAS_LIMIT:
            raise SuiteBroken(f"{name} has {aliases} YAML aliases; expected at most {_ALIAS_LIMIT}: write them out")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SuiteBroken(f"{name} is neither YAML nor JSON: {' '.join(str(error).split())}") from error
