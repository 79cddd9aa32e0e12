"""The model card of an adapter: README.md in its folder, in the form that the Hugging Face Hub reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perdure_api.pod import ResultDocument
    from perdure_trainer.models.contract import Usage
    from perdure_trainer.settings import Settings


@dataclass(frozen=True)
class Card:
    """What is told of an adapter."""

    settings: Settings
    result: ResultDocument
    usage: Usage
    picture: str | None
    """Name of the file with the loss, beside the card."""

    def markdown(self) -> str:
        """The whole card."""
        return f"---\n{yaml.safe_dump(self._front_matter, sort_keys=False, allow_unicode=True)}---\n\n{self._body}"

    @property
    def _front_matter(self) -> dict[str, Any]:
        # Without `base_model`: the hub takes nothing but names of its own there, and refuses the whole card for a URI.
        return {
            "library_name": "peft",
            "pipeline_tag": self.usage.pipeline_tag,
            "tags": ["lora", "perdure"],
            "model-index": [{"name": self.settings.job_name, "results": [self._measurement]}],
        }

    @property
    def _measurement(self) -> dict[str, Any]:
        return {
            "task": {"type": self.usage.pipeline_tag},
            "dataset": {"name": self._held_out, "type": "held-out"},
            "metrics": [
                {"type": name, "value": value}
                for name, value in self.result.metrics.items()
                if name in self.result.base_metrics and math.isfinite(value)
            ],
        }

    @property
    def _held_out(self) -> str:
        dataset = self.settings.dataset
        return dataset.eval_uri or f"the last {dataset.eval_fraction:g} of {dataset.uri}"

    @property
    def _body(self) -> str:
        settings, result = self.settings, self.result
        picture = f"![The training loss]({self.picture})\n\n" if self.picture else ""
        lora = {name: value for name, value in settings.lora.to_wire().items() if value != []}
        return (
            f"# {settings.job_name}\n\n"
            f"A LoRA adapter for `{settings.model.uri}`, trained for {result.step} steps.\n\n"
            f"{_table(('measured on held-out data', 'base model', 'with the adapter'), self._measurements())}\n"
            f"Measured on {_counted({'samples': result.eval_samples or 0, **result.eval_counts})}.\n\n"
            f"{picture}"
            f"## Use\n\n```python\n{self.usage.program}```\n\n"
            f"## Data and model\n\n{_table(('', 'where', 'fingerprint'), self._inputs())}\n"
            f"## Parameters\n\n{_table(('', ''), _rows({'lora': lora, 'training': settings.training.to_wire()}))}"
        )

    def _measurements(self) -> Iterator[tuple[str, ...]]:
        for name, before in self.result.base_metrics.items():
            after = self.result.metrics.get(name)
            yield f"`{name}`", f"{before:.4g}", "" if after is None else f"{after:.4g}"

    def _inputs(self) -> Iterator[tuple[str, ...]]:
        places = {"model": self.settings.model.uri, "dataset": self.settings.dataset.uri, "held_out": self._held_out}
        for name in {**places, **self.result.fingerprints}:
            fingerprint = self.result.fingerprints.get(name)
            place = places.get(name)
            yield name.replace("_", " "), f"`{place}`" if place else "", f"`{fingerprint}`" if fingerprint else ""


def _rows(groups: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for group, values in groups.items():
        for name, value in values.items():
            yield f"{group}.{name}", f"`{value}`"


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def _counted(counts: Mapping[str, int]) -> str:
    *most, last = (f"{count:,} {name}" for name, count in counts.items())
    return f"{', '.join(most)} and {last}" if most else last
