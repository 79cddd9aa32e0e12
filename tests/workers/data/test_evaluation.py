"""Evaluations on a real Temporal: scores, baselines, verdicts, and what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from perdure_api.evals import EvalDocument, Verdict
from perdure_control.factory import start_workflow
from perdure_control.factory.errors import InvalidInput
from perdure_workers.evaluation import suites
from tests.workers.data.standing_in import Models, all_workers

pytestmark = [pytest.mark.temporal, pytest.mark.asyncio(loop_scope="module")]

MODELS = Models()
QUESTIONS = [f"What is {number} and {number}?" for number in range(30)]
Run = Callable[..., Awaitable[Verdict]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    async with all_workers(MODELS) as client:
        yield client


@pytest.fixture
def evaluate(client: Client, tmp_path: Path) -> Run:
    """Asks 30 questions, of which the model knows the first ones."""
    cases = [{"prompt": text, "checks": [{"equals": str(2 * n)}]} for n, text in enumerate(QUESTIONS)]
    (tmp_path / "suite.jsonl").write_text("\n".join(json.dumps(case) for case in cases))

    async def run(knows: int = 30, **given: Any) -> Verdict:
        MODELS.answers = {text: str(2 * n) for n, text in enumerate(QUESTIONS[:knows])}
        base = {"model": "file:///m", "results": (tmp_path / "results").as_uri()}
        suite = {} if "suite" in given else {"suiteUri": (tmp_path / "suite.jsonl").as_uri()}
        return await (await start_workflow(client, "eval", base | suite | given)).handle.result()

    return run


async def refusal(running: Awaitable[Any]) -> tuple[str | None, str]:
    with pytest.raises(WorkflowFailureError) as raised:
        await running
    assert isinstance(raised.value.cause, ApplicationError)
    return raised.value.cause.type, raised.value.cause.message


async def test_a_suite_is_scored_and_the_gate_decides(evaluate: Run) -> None:
    verdict = await evaluate(24, gate={"minScore": 0.8})

    assert (verdict.passed, verdict.n, verdict.score, verdict.answers_cut) == (True, 30, 0.8, 6)
    assert verdict.interval.low < 0.8 < verdict.interval.high
    assert verdict.reasons == ["passed: the score is 0.8000; expected at least 0.8"]
    assert [each.id for each in verdict.failed] == ["25", "26", "27", "28", "29", "30"]
    assert verdict.failed[0].problem == 'is "?"; expected "48"'
    assert not (await evaluate(23, gate={"minScore": 0.8})).passed


async def test_a_result_is_kept_under_its_name_with_every_answer(evaluate: Run, tmp_path: Path) -> None:
    verdict = await evaluate(29, name="base")

    document = EvalDocument.model_validate_json((tmp_path / "results" / "base.json").read_bytes())
    assert verdict.uri == (tmp_path / "results" / "base.json").as_uri()
    assert document.verdict == verdict
    assert [case.answer for case in document.cases] == [*(str(2 * n) for n in range(29)), "?"]


async def test_an_adapter_is_compared_with_a_named_baseline(evaluate: Run) -> None:
    await evaluate(15, name="base")

    better = await evaluate(21, adapter="file:///a", baseline="base", gate={"maxLoss": 0.05})
    worse = await evaluate(12, adapter="file:///a", baseline="base", gate={"maxLoss": 0.05})

    assert better.compared is not None
    assert (better.passed, better.compared.better, better.compared.worse) == (True, 6, 0)
    assert better.compared.difference == pytest.approx(0.2)
    assert 0 < better.compared.interval.low < 0.2 < better.compared.interval.high
    assert (worse.passed, worse.adapter) == (False, "file:///a")


async def test_the_same_evaluation_gives_the_same_verdict_but_for_its_seconds(evaluate: Run) -> None:
    assert await evaluate(20) == await evaluate(20)


async def test_nothing_that_is_asked_beside_a_case_changes_its_answer(evaluate: Run) -> None:
    MODELS.asked.clear()
    await evaluate()

    assert MODELS.asked
    assert all(request.exact and not request.temperature for request in MODELS.asked)


async def test_a_large_suite_goes_page_by_page(evaluate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "PAGE_CASES", 7)

    verdict = await evaluate(10, name="paged")

    assert (verdict.n, verdict.score) == (30, pytest.approx(1 / 3))


async def test_a_suite_can_stand_in_the_input(evaluate: Run) -> None:
    suite = {"cases": [{"id": "a", "prompt": QUESTIONS[1], "reference": "It is 2"}]}

    verdict = await evaluate(30, suite=suite)

    assert (verdict.n, verdict.score) == (1, 0.5)


async def test_a_gate_that_must_be_passed_fails_the_workflow(evaluate: Run) -> None:
    assert await refusal(evaluate(3, gate={"minScore": 0.5, "mustPass": True})) == (
        "GateNotPassed",
        "the gate is not passed: the score is 0.1000; expected at least 0.5",
    )


async def test_what_cannot_be_evaluated_is_refused_in_one_sentence(evaluate: Run, tmp_path: Path) -> None:
    await evaluate(name="base")
    (tmp_path / "broken.yaml").write_text("cases: 3")

    missing = await refusal(evaluate(baseline="other"))
    broken = await refusal(evaluate(suiteUri=(tmp_path / "broken.yaml").as_uri()))
    nowhere = await refusal(evaluate(suiteUri=(tmp_path / "none.yaml").as_uri()))
    (tmp_path / "suite.jsonl").write_text('{"prompt": "new", "reference": "suite"}')
    another = await refusal(evaluate(baseline="base"))

    assert (missing[0], "there is no result other in" in missing[1], "found base: " in missing[1]) == (
        "BaselineUnfit",
        True,
        True,
    )
    assert (broken[0], "broken.yaml, cases: Input should be a valid list" in broken[1]) == ("SuiteBroken", True)
    assert (nowhere[0], "none.yaml was not found" in nowhere[1]) == ("SuiteNotFound", True)
    assert (another[0], "the baseline base is of the suite sha256:" in another[1]) == ("BaselineUnfit", True)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"gate": {"maxLoss": 0.1}}, "gate.maxLoss needs baseline"),
        ({"baseline": "x", "results": None}, "baseline needs results"),
        ({"name": "../x"}, "String should match pattern"),
        ({"suite": {"cases": []}}, "at least 1 item"),
        ({"gate": {"minimum": 1}}, "there is no field gate.minimum"),
    ],
    ids=["no baseline", "no folder", "name", "no case", "typo"],
)
async def test_what_makes_no_sense_starts_nothing(evaluate: Run, given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        await evaluate(**given)
