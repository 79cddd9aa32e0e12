"""A linear layer and its LoRA adapter as one operation, with a gradient that is written out."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn


class FusedLoraLinear(Linear):
    """peft's layer, which adds the adapter to the base layer's output in place where nothing forbids it.

    peft makes three tensors as large as the output on the way there, and autograd as many again on the way back. On a
    CPU that is a tenth of a training step. What an adapter looks like, and what is saved of it, is peft's own.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See peft's layer."""
        if args or kwargs or not self._is_plain(x):
            output: Tensor = super().forward(x, *args, **kwargs)
            return output
        name = self.active_adapters[0]
        base: Any = self.base_layer
        down: Any = self.lora_A[name]
        up: Any = self.lora_B[name]
        return lora_linear(x, base.weight, base.bias, down.weight, up.weight, self.scaling[name])

    def _is_plain(self, x: Tensor) -> bool:
        """Whether the output is exactly base(x) + scaling * up(down(x)), in one number format."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return False
        name = self.active_adapters[0]
        if name not in self.lora_A or name in self.lora_variant or self.lora_bias[name]:
            return False
        drops = self.training and not isinstance(self.lora_dropout[name], nn.Identity)
        alike = x.dtype == self.base_layer.weight.dtype == self.lora_A[name].weight.dtype
        return alike and not drops and not torch.is_autocast_enabled(x.device.type)


def lora_linear(x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float) -> Tensor:
    """The output of both, x weight^T + bias + scaling (x down^T) up^T, where weight and bias are frozen.

    Args:
        x: … x inputs.
        weight: outputs x inputs.
        bias: outputs.
        down: rank x inputs.
        up: outputs x rank.
        scaling: of the adapter.
    """
    output: Tensor = _LoraLinear.apply(x, weight, bias, down, up, scaling)
    return output


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float
    ) -> Tensor:
        rows = x.flatten(0, -2)
        inner = rows @ down.t()
        output = nn.functional.linear(rows, weight, bias)
        output.addmm_(inner, up.t(), alpha=scaling)
        ctx.save_for_backward(rows, weight, down, up, inner)
        ctx.scaling, ctx.shape = scaling, x.shape
        return output.view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        rows, weight, down, up, inner = ctx.saved_tensors
        outer = outer.flatten(0, -2)
        of_inner = (outer @ up).mul_(ctx.scaling)
        of_up = (outer.t() @ inner).mul_(ctx.scaling)
        of_down = of_inner.t() @ rows
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (outer @ weight).addmm_(of_inner, down).view(ctx.shape)
        return of_x, None, None, of_down, of_up, None
