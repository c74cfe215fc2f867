"""DoRA and PiSSA compute what peft computes, in values and gradients, and merge."""

from typing import Any

import peft
import pytest
import torch
from dlcommon.nlp.dora import DoRALinear
from dlcommon.nlp.lora import LoRAConfig, LoRALinear, add_lora, lora_disabled, merge_lora, unmerge_lora
from dlcommon.nlp.pissa import PiSSALinear
from torch import nn

CONFIG = LoRAConfig(rank=2, alpha=3, targets=("0", "2"), dropout=0.3)
KINDS: list[tuple[type[LoRALinear], dict[str, Any]]] = [
    (DoRALinear, {"use_dora": True}),
    (PiSSALinear, {"init_lora_weights": "pissa"}),
]


def network() -> nn.Sequential:
    """Builds the same small network each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4, bias=False))


def features() -> torch.Tensor:
    return torch.randn(7, 6, generator=torch.Generator().manual_seed(1))


def with_trained_adapters(kind: type[LoRALinear]) -> nn.Sequential:
    """Builds the network with adapters that have moved from their start."""
    model = network()
    add_lora(model, CONFIG, kind)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_start_changes_nothing_and_is_that_of_peft(kind: type[LoRALinear], options: dict[str, Any]) -> None:
    ours = network()
    add_lora(ours, CONFIG, kind)
    torch.testing.assert_close(ours.eval()(features()), network()(features()))
    theirs: Any = peft.inject_adapter_in_model(
        peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0", "2"], **options), network()
    )
    for mine, other in zip((ours[0], ours[2]), (theirs[0], theirs[2]), strict=True):
        assert isinstance(mine, kind)
        if isinstance(mine, DoRALinear):
            torch.testing.assert_close(mine.magnitude, other.lora_magnitude_vector["default"].weight)
        else:
            product = other.lora_B["default"].weight @ other.lora_A["default"].weight
            torch.testing.assert_close(mine.lora_b @ mine.lora_a, product)  # each alone up to a sign


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_values_and_gradients_are_those_of_peft(
    kind: type[LoRALinear], options: dict[str, Any], training: bool
) -> None:
    ours = with_trained_adapters(kind)
    theirs: Any = peft.inject_adapter_in_model(
        peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0", "2"], lora_dropout=0.3, **options), network()
    )
    places = {"lora_a": "lora_A", "lora_b": "lora_B", "magnitude": "lora_magnitude_vector"}
    pairs = [
        (f"{n}.{name}", getattr(ours[n], name), getattr(theirs[n], places[name])["default"].weight)
        for n in (0, 2)
        for name in kind.trained
    ]
    with torch.no_grad():
        for _, mine, other in pairs:
            other.copy_(mine)
    outputs = []
    for model in (ours, theirs):
        model.train(training)
        torch.manual_seed(3)  # the dropout of both
        outputs.append(model(features()))
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(*outputs)
    for name, mine, other in pairs:
        assert mine.grad.abs().max() > 1e-3, name
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [DoRALinear, PiSSALinear])
def test_merging_keeps_the_outputs_and_can_be_taken_back(kind: type[LoRALinear]) -> None:
    model = with_trained_adapters(kind).eval()
    adapted = model(features())
    pretrained = network()
    assert not torch.allclose(adapted, pretrained(features()), atol=0.1)
    with lora_disabled(model):
        torch.testing.assert_close(model(features()), pretrained(features()), rtol=0, atol=0)
    merge_lora(model)
    torch.testing.assert_close(model(features()), adapted)
    unmerge_lora(model)
    for adapter, linear in ((model[0], pretrained[0]), (model[2], pretrained[2])):
        assert isinstance(adapter, kind)
        torch.testing.assert_close(adapter.base.weight, linear.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(model(features()), adapted)


@pytest.mark.parametrize("kind", [DoRALinear, PiSSALinear])
def test_quantized_weights_are_refused(kind: type[LoRALinear]) -> None:
    linear = nn.Linear(3, 3)
    linear.weight = nn.Parameter(torch.zeros(9, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match="quantized; use LoRALinear"):
        kind(linear, CONFIG)
