"""The workflow `prepare_and_infer`: a prompt is validated, prepared, and answered by a language model."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from perdure_api import names
    from perdure_api.inference import Generate, PrepareAndInferInput, PrepareAndInferResult, Problem, text_problem
    from perdure_workers.workflows import gpu_calls


@workflow.defn(name=names.PREPARE_AND_INFER_WORKFLOW_TYPE)
class PrepareAndInferWorkflow:
    """Whatever can be found wrong without the model is found before a GPU is asked; the token limit is the model's."""

    @workflow.run
    async def run(self, wish: PrepareAndInferInput) -> PrepareAndInferResult:
        """The answer.

        Raises:
            ApplicationError: it is refused; its type is a Problem.
        """
        prompt = prepared(wish.prompt)
        if problem := text_problem(prompt):
            raise ApplicationError(f"the prompt {problem}", type=Problem.INVALID_TEXT, non_retryable=True)
        answered = await gpu_calls.generate(
            Generate(
                model=wish.model,
                adapter=wish.adapter,
                prompts=[prompt],
                system=prepared(wish.system),
                chat=wish.chat,
                max_new_tokens=wish.max_new_tokens,
                max_prompt_tokens=wish.max_prompt_tokens,
                temperature=wish.temperature,
                top_p=wish.top_p,
                seed=wish.seed,
            )
        )
        (answer,) = answered.texts
        return PrepareAndInferResult(
            text=answer.text,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            finish_reason=answer.finish_reason,
            seconds=answered.seconds,
        )


def prepared(text: str) -> str:
    """A text with line ends and edges as models have learnt them: what an editor adds changes no answer."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").strip()
