"""Every kind of model that can be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure_data.models import ModelReport
    from perdure_trainer.models.contract import TrainableModel


def kind_of(report: ModelReport) -> type[TrainableModel]:
    """The class for a model, imported only when it is needed: each brings large libraries."""
    if report.of_speech:
        from perdure_trainer.models.csm import Csm  # noqa: PLC0415 - see above

        return Csm
    from perdure_trainer.models.causal_lm import CausalLm  # noqa: PLC0415 - see above

    return CausalLm
