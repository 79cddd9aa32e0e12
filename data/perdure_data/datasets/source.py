"""One dataset of a spec, and how it is to be read."""

from __future__ import annotations

from dataclasses import dataclass

from perdure_api.spec import DatasetFormat, DatasetSpec, RecordFields
from perdure_api.uri import StoreUri, parse_uri
from perdure_data.datasets.errors import DatasetBroken


@dataclass(frozen=True)
class Source:
    """A file, or all files below a folder, and how they are to be read."""

    uri: StoreUri
    format: DatasetFormat = DatasetFormat.AUTO
    text_field: str = "text"
    records: RecordFields = RecordFields.AUTO

    @classmethod
    def training(cls, spec: DatasetSpec) -> Source:
        """The training data of a spec."""
        return cls(parse_uri(spec.uri), spec.format, spec.text_field, spec.records)

    @classmethod
    def held_out(cls, spec: DatasetSpec) -> Source | None:
        """The evaluation data of a spec, when it names any.

        Raises:
            DatasetBroken: it is a part of the training data, or holds them.
        """
        if spec.eval_uri is None:
            return None
        for folder, inside in ((spec.uri, spec.eval_uri), (spec.eval_uri, spec.uri)):
            if folder.endswith("/") and inside.startswith(folder):
                raise DatasetBroken(
                    f"dataset {inside} lies below {folder}, so that what is trained on would be measured with; "
                    "give spec.dataset.uri and spec.dataset.evalUri folders beside each other"
                )
        return cls(parse_uri(spec.eval_uri), spec.format, spec.text_field, spec.records)

    @property
    def is_folder(self) -> bool:
        """Whether all files below the URI are meant."""
        return self.uri.path.endswith("/")
