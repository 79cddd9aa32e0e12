"""The workflow `search`: the chunks of a vector store that are nearest to a text."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from perdure_api import names
    from perdure_api.documents import SearchInput, SearchResult
    from perdure_api.inference import EmbedTexts
    from perdure_workers.messages import ActivityName, DescribeVectors, SearchVectors, VectorsDescribed, VectorsFound
    from perdure_workers.workflows import gpu_calls
    from perdure_workers.workflows.data_calls import call


@workflow.defn(name=names.SEARCH_WORKFLOW_TYPE)
class SearchWorkflow:
    """The store says which model it was written with; that makes a vector of the text too."""

    @workflow.run
    async def run(self, wish: SearchInput) -> SearchResult:
        """What was found.

        Raises:
            ApplicationError: it is refused; its type is a DocumentProblem, or a Problem of the model.
        """
        store = await call(ActivityName.DESCRIBE_VECTORS, DescribeVectors(store=wish.store), VectorsDescribed)
        embedded = await gpu_calls.embed_texts(EmbedTexts(model=store.model, texts=[wish.text]))
        found = await call(
            ActivityName.SEARCH_VECTORS,
            SearchVectors(
                store=wish.store,
                vector=embedded.rows()[0],
                model_fingerprint=embedded.model_fingerprint,
                count=wish.count,
            ),
            VectorsFound,
        )
        return SearchResult(hits=found.hits, model=store.model)
