"""What the workflow `eval` takes and returns, and how a suite is written.

These documents lie in Temporal's histories and in the store: fields may be added with a default, never renamed or
removed.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from perdure_api.inference import Text, Uri
from perdure_api.model import TolerantModel

CASES_LIMIT: Final = 10_000
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


class EvalProblem(StrEnum):
    """Why an evaluation is refused: the type of an error that is not tried again."""

    SUITE_NOT_FOUND = "SuiteNotFound"
    SUITE_BROKEN = "SuiteBroken"
    BASELINE_UNFIT = "BaselineUnfit"
    ACCESS_DENIED = "AccessDenied"
    INVALID_REQUEST = "InvalidRequest"
    GATE_NOT_PASSED = "GateNotPassed"
    """Only where the gate says that it must be."""


def _checked_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"it is no regular expression: {error}") from error
    return pattern


class Check(TolerantModel):
    """One thing that an answer is to fulfil."""

    contains: str | None = Field(default=None, min_length=1, description="It has this in it.")
    equals: str | None = Field(default=None, description="It is this, but for white space around it.")
    regex: Annotated[str, AfterValidator(_checked_pattern)] | None = Field(
        default=None, min_length=1, max_length=10_000, description="This is found in it."
    )
    json_: bool | None = Field(default=None, alias="json", description="true: it is JSON, in a code block or not.")
    ignore_case: bool = Field(default=False, description="Capital letters are as good as small ones.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [self.contains, self.equals, self.regex, self.json_]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("expected exactly one of contains, equals, regex and json in each check")
        return self


class Case(TolerantModel):
    """A prompt, and what its answer is to be like. Its score is the mean of its checks and of its likeness."""

    id: str | None = Field(default=None, pattern=_NAME, description="Left out: its number in the suite, from 1.")
    prompt: Text = Field(description="What the model is asked.")
    checks: list[Check] = Field(default=[], max_length=100, description="Each counts 1 where it is fulfilled, 0 else.")
    reference: Text | None = Field(
        default=None, description="A good answer: the answer counts by the words that they have in common (F1)."
    )

    @model_validator(mode="after")
    def _some_measure(self) -> Self:
        if not self.checks and self.reference is None:
            raise ValueError("found neither checks nor a reference; expected one of them at least")
        return self


class Suite(TolerantModel):
    """Cases that belong together, and how the model is asked."""

    cases: list[Case] = Field(min_length=1, max_length=CASES_LIMIT)
    system: str = Field(default="", max_length=1_000_000, description="What a conversation begins with.")
    chat: bool | None = Field(default=None, description="Use the model's chat template. Left out: where it has one.")
    max_new_tokens: int = Field(default=256, ge=1, le=32_768, description="Answers are cut there.")


class Gate(TolerantModel):
    """When an evaluation has passed."""

    min_score: float | None = Field(default=None, ge=0, le=1, description="The mean score is so high at least.")
    max_loss: float | None = Field(
        default=None, ge=0, le=1, description="It is surely not worse than the baseline by more than this."
    )
    must_pass: bool = Field(default=False, description="true: the workflow itself fails when the gate is not passed.")


class EvalTerms(TolerantModel):
    """What is evaluated, and how it is judged."""

    model: Uri = Field(description="URI of a causal language model: a Hugging Face folder, or one GGUF file.")
    adapter: Uri | None = Field(default=None, description="URI of a LoRA adapter's folder.")
    results: Uri | None = Field(default=None, description="Folder for results and answers.")
    name: str | None = Field(default=None, pattern=_NAME, description="Under which the result is kept there.")
    baseline: str | None = Field(default=None, pattern=_NAME, description="Name of a result to compare with.")
    gate: Gate = Field(default=Gate(), description="When it has passed. Left out: always.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of intervals.")
    resamples: int = Field(default=10_000, ge=100, le=1_000_000, description="Of the bootstrap.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Of the bootstrap.")

    @model_validator(mode="after")
    def _can_compare(self) -> Self:
        for field, given in (("name", self.name), ("baseline", self.baseline)):
            if given is not None and self.results is None:
                raise ValueError(f"{field} needs results, a folder in the object store, such as s3://bucket/results")
        if self.gate.max_loss is not None and self.baseline is None:
            raise ValueError("gate.maxLoss needs baseline, the name of a result to compare with")
        return self


class EvalInput(EvalTerms):
    """A suite against a model, or an adapter of it."""

    suite_uri: Uri | None = Field(default=None, description="URI of a suite, as YAML, JSON or JSONL.")
    suite: Suite | None = Field(default=None, description="The suite itself, instead.")

    @model_validator(mode="after")
    def _one_suite(self) -> Self:
        if (self.suite is None) == (self.suite_uri is None):
            found = "neither" if self.suite is None else "both"
            raise ValueError(f"found {found} of suite and suiteUri; expected one of them")
        return self


class Interval(TolerantModel):
    """Where a mean lies, as far as so many cases tell."""

    low: float
    high: float
    confidence: float


class Compared(TolerantModel):
    """With the baseline, case by case."""

    name: str
    score: float
    difference: float
    """Of the mean scores: above 0, this one is the better."""
    interval: Interval
    """Of the difference."""
    better: int
    worse: int
    """Cases; the others are alike."""


class CaseResult(TolerantModel):
    """What became of a case."""

    id: str
    score: float
    problem: str | None = None
    """What was not fulfilled, the first thing."""


class Verdict(TolerantModel):
    """The outcome, for people and for stages that come after: `passed` is what these ask."""

    passed: bool
    reasons: list[str]
    """Why, a sentence for each condition of the gate."""
    n: int
    """Cases."""
    score: float
    """The mean of the cases' scores, from 0 to 1."""
    interval: Interval
    """Of the score."""
    suite_hash: str
    """`sha256:…` of the suite as it was read."""
    compared: Compared | None = None
    model: str
    adapter: str | None = None
    model_fingerprint: str
    answers_cut: int = 0
    """At maxNewTokens."""
    seconds: float
    """That the model took."""
    failed: list[CaseResult] = []
    """The first that did not fulfil everything."""
    uri: str | None = None
    """Of the whole result in the store: this, and the score and the answer of each case."""


class Answered(CaseResult):
    """A case in the store, with what the model said."""

    answer: str


class EvalDocument(TolerantModel):
    """A result in the store: what later evaluations are compared with."""

    verdict: Verdict
    cases: list[Answered]
