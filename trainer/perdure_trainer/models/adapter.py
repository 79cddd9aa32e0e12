"""A fresh LoRA adapter on a model's linear layers."""

from __future__ import annotations

from typing import Any, Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from perdure_api.spec import LoraSpec
from perdure_trainer.failures import ConfigError
from perdure_trainer.models.fused_lora import FusedLoraLinear

Layers = dict[str, nn.Linear | Conv1D]
"""Linear layers by their names in the model."""

_MODULES_SHOWN: Final = 20


def adapted(
    base: Any, layers: Layers, lora: LoraSpec, seed: int, *, task: str | None = None, without: str | None = None
) -> PeftModel:
    """A model with a fresh adapter on those of its layers that the spec names, or on all of them.

    Args:
        base: the model, which is changed.
        layers: where an adapter may be put.
        lora: the adapter.
        seed: of its initialisation.
        task: peft's name for what the model does, where it has one.
        without: a regular expression for other layers whose last names are those of layers with an adapter.

    Raises:
        ConfigError: it has no such layers, or the rank is too large for one.
    """
    chosen = _chosen(layers, lora.target_modules)
    for name, module in chosen.items():
        if lora.rank > min(module.weight.shape):
            raise ConfigError(
                f"lora.rank is {lora.rank}, but layer {name} is {' x '.join(map(str, module.weight.shape))}: its "
                f"update would be larger than itself. Use a rank of at most {_largest_rank(chosen)}"
            )
    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=int(lora.alpha) if lora.alpha.is_integer() else lora.alpha,  # type: ignore[arg-type] # any number
        lora_dropout=lora.dropout,
        target_modules=sorted({_last_name(name) for name in chosen}),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in chosen.values()),
        exclude_modules=without,
        task_type=task,
    )
    config._register_custom_module({nn.Linear: FusedLoraLinear})  # noqa: SLF001 - peft's documentation calls it so
    return get_peft_model(base, config)


def adaptable_layers(base: Any) -> Layers:
    """Every linear layer by its name, but for the output head and what shares its last name."""
    head = base.get_output_embeddings()
    linear = {name: module for name, module in base.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    heads = {_last_name(name) for name, module in linear.items() if module is head}
    return {name: module for name, module in linear.items() if _last_name(name) not in heads}


def _chosen(adaptable: Layers, wanted: list[str]) -> Layers:
    names = sorted({_last_name(name) for name in adaptable})
    if unknown := sorted(set(wanted) - set(names)):
        raise ConfigError(
            f"lora.targetModules names {', '.join(unknown)}, which this model does not have; it has "
            f"{', '.join(names[:_MODULES_SHOWN]) or 'no linear layers'}"
        )
    chosen = {name: module for name, module in adaptable.items() if not wanted or _last_name(name) in wanted}
    if not chosen:
        raise ConfigError("the model has no linear layers that an adapter could be put on; use another model")
    return chosen


def _last_name(name: str) -> str:
    return name.rpartition(".")[2]


def _largest_rank(chosen: Layers) -> int:
    return min(min(module.weight.shape) for module in chosen.values())
