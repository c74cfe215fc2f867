"""Formats against torch's conversions, loss scaling against torch's GradScaler, master weights, saved bytes."""

import math
from typing import Any

import pytest
import torch
from dlcommon.training.activation_memory import saved_bytes
from dlcommon.training.float_formats import BF16, E4M3, E5M2, FP16, FP32, TF32, FloatFormat, bits_of, round_to
from dlcommon.training.loss_scaling import LossScaler
from dlcommon.training.master_weights import MasterWeights
from torch import nn

IN_TORCH = [FP32, FP16, BF16, E5M2, E4M3]
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


def numbers(target: FloatFormat) -> torch.Tensor:
    """Random numbers of all magnitudes, ties, ends and beyond, float64."""
    generator = torch.Generator().manual_seed(0)
    lowest, highest = math.log2(target.smallest_subnormal) - 3, math.log2(target.largest) + 2
    powers = lowest + (highest - lowest) * torch.rand(4000, generator=generator, dtype=torch.float64)
    signs = torch.randint(2, (4000,), generator=generator) * 2 - 1
    small = torch.arange(9) * target.smallest_subnormal / 2
    ties = 1 + torch.arange(9).double() * target.epsilon / 2
    tops = target.largest * (1 + torch.arange(-4, 5).double() * target.epsilon / 4)
    return torch.cat([signs * 2**powers, small.double(), -small.double(), ties, tops]).float().double()


@pytest.mark.parametrize("target", IN_TORCH, ids=lambda target: target.name)
def test_rounding_equals_torchs_conversion(target: FloatFormat) -> None:
    assert target.dtype is not None
    x = numbers(target)
    torch.testing.assert_close(round_to(x, target), x.float().to(target.dtype).double(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("target", IN_TORCH, ids=lambda target: target.name)
def test_limits_and_bits_equal_torchs(target: FloatFormat) -> None:
    assert target.dtype is not None
    info = torch.finfo(target.dtype)
    assert (target.largest, target.epsilon) == (info.max, info.eps)
    assert target.smallest_normal == info.tiny
    least = torch.tensor(1).to(INTEGERS[info.bits // 8]).view(target.dtype)
    assert target.smallest_subnormal == least.item()
    width = 1 + target.exponent_bits + target.mantissa_bits
    assert width == info.bits
    values = [0.0, -0.0, 1.0, -1.5, 0.1, info.max, info.tiny, info.tiny / 2, target.smallest_subnormal, 3.3e5]
    stored = torch.tensor(values).to(target.dtype).view(INTEGERS[width // 8]).tolist()
    expected = [f"{code % 2**width:0{width}b}" for code in stored]
    assert [bits_of(value, target).replace(" ", "") for value in values] == expected


def test_tf32_has_the_range_of_fp32_and_the_precision_of_fp16() -> None:
    assert TF32.smallest_normal == FP32.smallest_normal
    assert TF32.epsilon == FP16.epsilon
    assert bits_of(1.0, TF32) == "0 01111111 0000000000"
    assert round_to(torch.tensor([1 + 2.0**-11, 1 + 3 * 2.0**-11]), TF32).tolist() == [1.0, 1 + 2 * 2.0**-10]
    with pytest.raises(ValueError, match="give a number"):
        bits_of(math.nan, FP16)


def gradients(seed: int, overflow: bool) -> torch.Tensor:
    x = torch.randn(5, generator=torch.Generator().manual_seed(seed))
    if overflow:
        x[seed % 5] = math.inf if seed % 2 else math.nan
    return x


@pytest.mark.parametrize("interval", [1, 3, 2000])
@pytest.mark.parametrize("scale", [2.0**16, 3.0, 2.0**126])
def test_loss_scaling_equals_torchs_grad_scaler(interval: int, scale: float) -> None:
    weights = {name: nn.Parameter(torch.ones(5)) for name in ("ours", "torch")}
    optimizers = {name: torch.optim.SGD([w], lr=0.1, momentum=0.9) for name, w in weights.items()}
    ours = LossScaler(scale, growth_interval=interval)
    theirs = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=interval)
    overflows = {4, 5, 11, 20}
    for step in range(30):
        factor = gradients(step, step in overflows)
        for name, optimizer in optimizers.items():
            optimizer.zero_grad()
            loss = (factor * weights[name]).sum()
            if name == "ours":
                ours.scale_loss(loss).backward()
                took = ours.step(optimizer)
                assert took is (step not in overflows) or scale > 2**100  # which makes more of them overflow
            else:
                theirs.scale(loss).backward()
                theirs.step(optimizer)
                theirs.update()
        assert ours.scale == theirs.get_scale()
        torch.testing.assert_close(weights["ours"], weights["torch"], rtol=0, atol=0)


def test_clipping_sees_unscaled_gradients() -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer, scaler = torch.optim.SGD([weight], lr=1.0), LossScaler(1024.0)
    scaler.scale_loss((weight * torch.tensor([3.0, 4.0])).sum()).backward()
    assert scaler.unscale(optimizer)
    assert nn.utils.clip_grad_norm_([weight], 1.0) == pytest.approx(5.0)
    with pytest.raises(RuntimeError, match="once for each step"):
        scaler.unscale(optimizer)
    assert scaler.step(optimizer)
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.6, -0.8]))


def test_a_static_scale_stays_and_the_state_is_restored() -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    static, dynamic = LossScaler(8.0, dynamic=False, growth_interval=1), LossScaler(8.0, growth_interval=2)
    for scaler in (static, dynamic):
        weight.grad = torch.tensor([math.inf])
        assert not scaler.step(optimizer)
        weight.grad = torch.tensor([1.0])
        assert scaler.step(optimizer)
    assert static.scale == 8.0
    assert dynamic.state_dict() == {"scale": 4.0, "good_steps": 1}
    restored = LossScaler(growth_interval=2)
    restored.load_state_dict(dynamic.state_dict())
    weight.grad = torch.tensor([1.0])
    restored.step(optimizer)
    assert restored.scale == 8.0


@pytest.mark.parametrize(
    "bad", [{"scale": 0.0}, {"growth_factor": 1.0}, {"backoff_factor": 1.0}, {"growth_interval": 0}]
)
def test_loss_scaling_refuses_impossible_values(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        LossScaler(**bad)


def test_master_weights_gather_updates_that_bf16_would_lose() -> None:
    alone, network = (nn.Linear(1, 1, bias=False).bfloat16() for _ in range(2))
    for layer in (alone, network):
        nn.init.ones_(layer.weight)
    master = MasterWeights(network.parameters())
    optimizers = torch.optim.SGD(alone.parameters(), lr=1e-3), torch.optim.SGD(master.parameters, lr=1e-3)
    for _ in range(100):
        for layer, optimizer in zip((alone, network), optimizers, strict=True):
            layer.weight.grad = torch.ones_like(layer.weight)
            if layer is network:
                master.take_gradients()
                assert network.weight.grad is None
            optimizer.step()
        master.write()
    assert alone.weight.item() == 1.0  # 1 − 0.001 is nearer to 1 than to the next lower number, 0.996
    assert master.parameters[0].item() == pytest.approx(0.9, abs=1e-5)
    assert network.weight.item() == torch.tensor(0.9).bfloat16().item()


def test_saved_bytes_counts_what_backward_needs() -> None:
    layer, x = nn.Linear(6, 4), torch.randn(10, 6)
    assert saved_bytes(lambda: layer(x), layer.parameters()) == 10 * 6 * 4  # the input, for the weight's gradient
    network = nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 3))
    # ReLU saves its output, which is the second layer's input: once.
    assert saved_bytes(lambda: network(x), network.parameters()) == 10 * 6 * 4 + 10 * 4 * 4
    with torch.no_grad():
        assert saved_bytes(lambda: network(x), network.parameters()) == 0
