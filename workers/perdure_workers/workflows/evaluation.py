"""The workflow `eval`: a suite against a model or an adapter, and a verdict that later stages can gate on."""

from __future__ import annotations

from typing import Final

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from perdure_api import names
    from perdure_api.evals import EvalInput, EvalProblem, Verdict
    from perdure_api.inference import Generate
    from perdure_workers.evaluation.suites import SuiteBroken, page
    from perdure_workers.messages import ActivityName, Judge, PageScored, ReadSuite, ScoreAnswers, SuitePage
    from perdure_workers.workflows import gpu_calls
    from perdure_workers.workflows.data_calls import call

ANSWERS: Final = "answers"
"""Folder below that of the results: the answers of a run, page by page."""


@workflow.defn(name=names.EVAL_WORKFLOW_TYPE)
class EvalWorkflow:
    """Cases are answered and scored page by page; of all scores one verdict is made."""

    @workflow.run
    async def run(self, wish: EvalInput) -> Verdict:
        """The verdict.

        Raises:
            ApplicationError: it is refused, or the gate, which must be passed, is not; its type is an EvalProblem, or a
                Problem of the model.
        """
        scored: list[PageScored] = []
        done, cut, seconds = 0, 0, 0.0
        fingerprint = suite_hash = None
        while True:
            some = await self._page(wish, done, suite_hash)
            suite_hash = some.suite_hash
            said = await gpu_calls.generate(
                Generate(
                    model=wish.model,
                    adapter=wish.adapter,
                    prompts=[case.prompt for _, case in some.cases],
                    system=some.system,
                    chat=some.chat,
                    max_new_tokens=some.max_new_tokens,
                    # What is answered together differs in the last bits, and now and then in a word.
                    exact=True,
                )
            )
            if fingerprint not in {None, said.model_fingerprint}:
                raise _refusal(
                    EvalProblem.INVALID_REQUEST, f"{wish.model} has changed while it was evaluated; try again"
                )
            fingerprint = said.model_fingerprint
            cut += sum(each.finish_reason == "length" for each in said.texts)
            seconds += said.seconds
            scored.append(
                await call(
                    ActivityName.SCORE_ANSWERS,
                    ScoreAnswers(
                        cases=some.cases,
                        answers=[each.text for each in said.texts],
                        keep_at=_keep_at(wish, len(scored)),
                    ),
                    PageScored,
                )
            )
            done += len(some.cases)
            if done >= some.total:
                break
        verdict = await call(
            ActivityName.JUDGE,
            Judge(
                wish=wish,
                suite_hash=suite_hash,
                pages=scored,
                model_fingerprint=fingerprint,
                answers_cut=cut,
                seconds=round(seconds, 6),
            ),
            Verdict,
        )
        if wish.gate.must_pass and not verdict.passed:
            failed = [reason.removeprefix("failed: ") for reason in verdict.reasons if reason.startswith("failed: ")]
            raise _refusal(EvalProblem.GATE_NOT_PASSED, f"the gate is not passed: {'; '.join(failed)}")
        return verdict

    @staticmethod
    async def _page(wish: EvalInput, first: int, suite_hash: str | None) -> SuitePage:
        if wish.suite_uri is not None:
            request = ReadSuite(uri=wish.suite_uri, first=first, suite_hash=suite_hash)
            return await call(ActivityName.READ_SUITE, request, SuitePage)
        assert wish.suite is not None  # noqa: S101 - the input has one of them
        try:
            return page(wish.suite, first)
        except SuiteBroken as error:
            raise _refusal(EvalProblem.SUITE_BROKEN, str(error)) from error


def _keep_at(wish: EvalInput, number: int) -> str | None:
    """Where the answers of a page go; None: nobody wants to see them."""
    if wish.results is None:
        return None
    return f"{wish.results.rstrip('/')}/{ANSWERS}/{workflow.info().run_id}/{number:05}.jsonl"


def _refusal(kind: EvalProblem, message: str) -> ApplicationError:
    return ApplicationError(message, type=str(kind), non_retryable=True)
