"""The layer with its adapter as one operation gives what peft's own gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from perdure_trainer.models import fused_lora
from perdure_trainer.models.fused_lora import FusedLoraLinear, lora_linear

pytestmark = pytest.mark.slow  # peft takes seconds to import

INPUTS, OUTPUTS, RANK = 12, 20, 3


class Model(nn.Module):
    """One layer."""

    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        self.layer = nn.Linear(INPUTS, OUTPUTS, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Its output."""
        output: Tensor = self.layer(x)
        return output


def layers(*, bias: bool = True, dtype: torch.dtype = torch.float32, **config: Any) -> tuple[Linear, FusedLoraLinear]:
    """peft's and ours, with the same weights."""
    made = []
    for ours in (False, True):
        torch.manual_seed(1)
        wanted = LoraConfig(r=RANK, lora_alpha=5, target_modules=["layer"], init_lora_weights=False, **config)
        if ours:
            wanted._register_custom_module({nn.Linear: FusedLoraLinear})
        made.append(get_peft_model(Model(bias=bias).to(dtype), wanted).base_model.model.layer)
    assert type(made[0]) is Linear
    assert type(made[1]) is FusedLoraLinear
    return made[0], made[1]


def gradients(layer: Linear, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    torch.manual_seed(2)
    (layer(x).float() * torch.linspace(-1, 1, OUTPUTS)).square().sum().backward()
    learnt = [parameter.grad for parameter in layer.parameters() if parameter.requires_grad]
    assert len(learnt) == 2
    return [gradient for gradient in (x.grad, *learnt) if gradient is not None]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What went through the one operation."""
    seen: list[Tensor] = []

    def counted(x: Tensor, *others: Any) -> Tensor:
        seen.append(x)
        return lora_linear(x, *others)

    monkeypatch.setattr(fused_lora, "lora_linear", counted)
    return seen


@pytest.mark.parametrize("bias", [True, False])
def test_output_and_gradients_are_those_of_peft(calls: list[Tensor], *, bias: bool) -> None:
    peft, ours = layers(bias=bias)
    x = torch.randn(2, 7, INPUTS)
    torch.testing.assert_close(ours(x), peft(x))
    for mine, theirs in zip(gradients(ours, x), gradients(peft, x), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert calls


def test_the_gradient_is_that_of_the_output() -> None:
    draw = torch.Generator().manual_seed(3)
    x, down, up = (
        torch.randn(*shape, generator=draw, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 4, INPUTS), (RANK, INPUTS), (OUTPUTS, RANK))
    )
    weight = torch.randn(OUTPUTS, INPUTS, generator=draw, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *learnt: lora_linear(learnt[0], weight, None, *learnt[1:], 0.7), (x, down, up)
    )


def test_an_input_that_needs_no_gradient_gets_none() -> None:
    peft, ours = layers()
    x = torch.randn(5, INPUTS)
    for layer in (peft, ours):
        layer(x).square().sum().backward()
    assert x.grad is None
    for name in ("lora_A", "lora_B"):
        torch.testing.assert_close(
            getattr(ours, name)["default"].weight.grad, getattr(peft, name)["default"].weight.grad
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_and_mixed_formats_are_left_to_peft(calls: list[Tensor], dtype: torch.dtype) -> None:
    peft, ours = layers(dtype=dtype, lora_dropout=0.0 if dtype is torch.bfloat16 else 0.5)
    x = torch.randn(4, INPUTS, dtype=dtype)
    for mine, theirs in zip(gradients(ours.train(), x), gradients(peft.train(), x), strict=True):
        assert torch.equal(mine, theirs)
    assert not calls


def test_where_dropout_does_nothing_it_is_one_operation(calls: list[Tensor]) -> None:
    peft, ours = layers(lora_dropout=0.5)
    x = torch.randn(4, INPUTS)
    torch.testing.assert_close(ours.eval()(x), peft.eval()(x))
    assert calls


def test_an_adapter_that_is_switched_off_changes_nothing(calls: list[Tensor]) -> None:
    _, ours = layers()
    x = torch.randn(4, INPUTS)
    ours.enable_adapters(enabled=False)
    assert torch.equal(ours(x), ours.base_layer(x))
    ours.enable_adapters(enabled=True)
    assert not torch.equal(ours(x), ours.base_layer(x))
    assert len(calls) == 1


def test_an_adapter_that_is_merged_is_not_added_twice(calls: list[Tensor]) -> None:
    _, ours = layers()
    x = torch.randn(4, INPUTS)
    apart = ours(x)
    ours.merge()
    torch.testing.assert_close(ours(x), apart)
    assert len(calls) == 1


def test_under_autocast_it_is_left_to_peft(calls: list[Tensor]) -> None:
    peft, ours = layers()
    x = torch.randn(4, INPUTS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x), peft(x))
    assert not calls
