"""Our Module against torch's: names, values, gradients, modes, hooks, loading."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from dlcommon.pytorch_core.module import Linear, Module, Sequential
from torch import nn
from torch.nn import functional as F


class Norm(Module):
    """Batch norm's parameters and buffers; the arithmetic is torch's."""

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.num_batches_tracked = self.num_batches_tracked + 1
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=self.training)


class Tanh(Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.tanh()


def ours() -> Sequential:
    generator = torch.Generator().manual_seed(0)
    inner = Sequential(Linear(8, 8, generator), Tanh())
    return Sequential(Linear(5, 8, generator), Norm(8), Tanh(), inner, Linear(8, 3, generator)).to(torch.float64)


def theirs() -> nn.Sequential:
    inner = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), inner, nn.Linear(8, 3)).double()


def twins() -> tuple[Sequential, nn.Sequential]:
    own, reference = ours(), theirs()
    own.load_state_dict(reference.state_dict())
    return own, reference


def inputs(seed: int = 0) -> torch.Tensor:
    return torch.randn(16, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same_state(own: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> None:
    assert list(own) == list(reference)
    for name, tensor in own.items():
        assert tensor.dtype == reference[name].dtype, name
        torch.testing.assert_close(tensor, reference[name], rtol=1e-12, atol=1e-14, msg=partial("{}: {}".format, name))


def test_names_and_shapes_are_torchs() -> None:
    own, reference = ours(), theirs()
    assert [(n, p.shape) for n, p in own.named_parameters()] == [(n, p.shape) for n, p in reference.named_parameters()]
    assert [name for name, _ in own.named_modules()] == [name for name, _ in reference.named_modules()]
    assert list(own.state_dict()) == list(reference.state_dict())


def test_outputs_gradients_and_buffers_are_torchs_in_both_modes() -> None:
    own, reference = twins()
    for step in range(3):
        results = [model(inputs(step)) for model in (own, reference)]
        torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)
        for result in results:
            result.square().sum().backward()
    gradients = [[p.grad for p in model.parameters()] for model in (own, reference)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
    assert_same_state(own.state_dict(), reference.state_dict())
    own.eval()
    reference.eval()
    torch.testing.assert_close(own(inputs(9)), reference(inputs(9)), rtol=1e-12, atol=1e-14)
    assert_same_state(own.state_dict(), reference.state_dict())


def test_torchs_module_loads_our_state() -> None:
    own, reference = ours(), theirs()
    reference.load_state_dict(own.state_dict())
    torch.testing.assert_close(own(inputs()), reference(inputs()), rtol=1e-12, atol=1e-14)


def test_linear_starts_as_torchs_does() -> None:
    torch.manual_seed(3)
    reference = nn.Linear(7, 4)
    own = Linear(7, 4, torch.Generator().manual_seed(3))
    torch.testing.assert_close(own.weight, reference.weight)
    torch.testing.assert_close(own.bias, reference.bias)


def test_a_shared_module_is_trained_once_and_saved_under_both_names() -> None:
    shared = Linear(4, 4)
    model = Sequential(shared, Tanh(), shared)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_buffers_that_are_not_persistent_are_no_state_but_move() -> None:
    model: Any = Linear(2, 2)
    model.register_buffer("mask", torch.ones(2), persistent=False)
    assert list(model.state_dict()) == ["weight", "bias"]
    model.to(torch.float64)
    assert model.mask.dtype == torch.float64


def test_to_keeps_parameters_the_same_objects_and_leaves_integers() -> None:
    model = Norm(3)
    before = list(model.parameters())
    model.to(torch.float64)
    assert all(old is new for old, new in zip(before, model.parameters(), strict=True))
    assert model.weight.dtype == torch.float64
    assert model.num_batches_tracked.dtype == torch.int64


def test_train_and_eval_reach_every_module() -> None:
    model = ours()
    assert all(module.training for _, module in model.named_modules())
    model.eval()
    assert not any(module.training for _, module in model.named_modules())


def test_zero_grad_drops_gradients() -> None:
    model = ours()
    model(inputs()).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_hooks_see_and_replace_inputs_and_outputs_until_removed() -> None:
    model, seen = Linear(2, 2), []
    plain = model(torch.ones(1, 2))
    with (
        model.register_forward_pre_hook(lambda module, args: (2 * args[0],)),
        model.register_forward_hook(lambda module, args, output: seen.append((args[0].clone(), output))),
        model.register_forward_hook(lambda module, args, output: output + 1),
    ):
        hooked = model(torch.ones(1, 2))
    torch.testing.assert_close(seen[0][0], torch.full((1, 2), 2.0))
    torch.testing.assert_close(hooked, model(torch.full((1, 2), 2.0)) + 1)
    assert torch.equal(model(torch.ones(1, 2)), plain)
    assert len(seen) == 1


def test_a_hook_may_remove_itself() -> None:
    model, calls = Linear(2, 2), []

    def once(module: Module, args: tuple[Any, ...], output: torch.Tensor) -> None:
        calls.append(module)
        handle.remove()

    handle = model.register_forward_hook(once)
    model(torch.ones(1, 2))
    model(torch.ones(1, 2))
    assert len(calls) == 1
    handle.remove()  # again: nothing happens


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda state: state.pop("3.0.bias"), "3.0.bias is missing", id="missing"),
        pytest.param(lambda state: state.update(extra=torch.ones(1)), "extra is not the module's", id="unexpected"),
        pytest.param(
            lambda state: state.update({"4.weight": torch.ones(8, 3)}), r"4.weight is \[8, 3\] in the state", id="shape"
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused_before_anything_is_copied(
    change: Callable[[dict[str, torch.Tensor]], object], said: str
) -> None:
    model = ours()
    before = copy.deepcopy(model.state_dict())
    state = {name: tensor + 1 for name, tensor in before.items()}
    change(state)
    with pytest.raises(ValueError, match=said):
        model.load_state_dict(state)
    assert_same_state(model.state_dict(), before)


def test_without_strict_what_is_shared_is_loaded_and_the_rest_reported() -> None:
    model = ours()
    state = {"4.bias": torch.full((3,), 7.0, dtype=torch.float64), "extra": torch.ones(1)}
    mismatch = model.load_state_dict(state, strict=False)
    assert (model.state_dict()["4.bias"] == 7).all()
    assert mismatch.unexpected_keys == ["extra"]
    assert mismatch.missing_keys == [name for name in model.state_dict() if name != "4.bias"]


def test_copies_are_independent() -> None:
    model = ours()
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).zero_()
    assert next(model.parameters()).abs().sum() > 0
    assert list(other.state_dict()) == list(model.state_dict())
