"""What is left when a run has finished: the adapter, and the document that speaks of it, written last."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perdure_api.pod import ResultDocument

if TYPE_CHECKING:
    from perdure_api.uri import StoreUri
    from perdure_data.stores import Stores
    from perdure_trainer.evaluation import Evaluation
    from perdure_trainer.settings import Settings
    from perdure_trainer.state import Position


def result_document(
    settings: Settings,
    position: Position,
    fingerprints: dict[str, str],
    adapted: Evaluation,
    base: Evaluation,
) -> ResultDocument:
    """The document of a finished attempt."""
    train_loss = {} if position.train_loss is None else {"train_loss": position.train_loss}
    return ResultDocument(
        job_uid=settings.job_uid,
        attempt=settings.attempt,
        step=position.step,
        adapter_uri=str(adapter_uri(settings)),
        metrics={
            **adapted.metrics,
            **train_loss,
            "tokens": float(position.labels),
            "train_seconds": position.seconds,
        },
        base_metrics=base.metrics,
        eval_samples=adapted.samples,
        eval_counts=adapted.counts,
        fingerprints=fingerprints,
    )


def adapter_uri(settings: Settings) -> StoreUri:
    """Where the adapter of an attempt is."""
    return settings.attempt_uri.child("adapter")


def result_uri(settings: Settings) -> StoreUri:
    """Where the result document of an attempt is."""
    return settings.attempt_uri.child("result.json")


def upload_folder(stores: Stores, folder: Path, target: StoreUri) -> None:
    """Writes every file of a local folder below a URI.

    Raises:
        StoreError: a file could not be written; writing all of them again does no harm.
    """
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        stores.put(target.child(*path.relative_to(folder).parts), path.read_bytes())


def write_result(stores: Stores, settings: Settings, document: ResultDocument) -> None:
    """Writes the result document: whoever finds it finds the adapter too."""
    stores.put(result_uri(settings), document.model_dump_json(by_alias=True, exclude_none=True, indent=2).encode())
