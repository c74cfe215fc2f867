"""Spectral normalization against torch's own, pass by pass, and against the singular values."""

import copy
from collections.abc import Callable

import pytest
import torch
from dlcommon.generative.spectral_norm import power_iteration, spectral_norm
from torch import nn
from torch.nn.utils import parametrizations

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), (3, 7)),
    "convolution": (lambda: nn.Conv2d(3, 6, 4, 2, 1), (2, 3, 8, 8)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 3, 4, 2, 1), (2, 4, 4, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("steps", [1, 3])
def test_equals_torch_in_value_and_gradient_over_several_passes(name: str, steps: int) -> None:
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    ours, x = make().double(), torch.randn(shape, dtype=torch.float64)
    theirs = copy.deepcopy(ours)
    torch.manual_seed(1)
    spectral_norm(ours, n_power_iterations=steps)
    torch.manual_seed(1)
    parametrizations.spectral_norm(theirs, n_power_iterations=steps)
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.5) for module in (ours, theirs)]
    for step in range(6):
        training = step != 3  # one pass in evaluation mode, which must leave u and v as they are
        outputs = [module.train(training)(x) for module in (ours, theirs)]
        torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-10, atol=1e-12)
        for output, optimizer in zip(outputs, optimizers, strict=True):
            optimizer.zero_grad()
            output.square().sum().backward()
            optimizer.step()
        for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, reference.grad, rtol=1e-9, atol=1e-12)


def test_the_largest_singular_value_becomes_1() -> None:
    torch.manual_seed(0)
    layer = spectral_norm(nn.Linear(20, 30).double())
    for _ in range(200):
        layer(torch.zeros(1, 20, dtype=torch.float64))
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=1e-6)


def test_power_iteration_converges_by_the_squared_ratio_of_singular_values() -> None:
    matrix = torch.diag(torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64))
    start = torch.nn.functional.normalize(torch.ones(3, dtype=torch.float64), dim=0)
    errors = []
    for steps in (4, 5):
        u, v = power_iteration(matrix, start, start, steps)
        errors.append((v[1] / v[0]).item())  # tangent of the angle to the first singular vector
        assert u.norm().item() == pytest.approx(1)
    assert errors[1] / errors[0] == pytest.approx(1 / 4)


def test_two_passes_in_one_graph_can_both_be_differentiated() -> None:
    layer = spectral_norm(nn.Linear(4, 1))
    (layer(torch.ones(2, 4)).sum() - layer(torch.zeros(2, 4)).sum()).backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_the_state_is_stored_and_restored() -> None:
    torch.manual_seed(0)
    first, second = spectral_norm(nn.Linear(5, 4)), spectral_norm(nn.Linear(5, 4))
    first(torch.zeros(1, 5))
    second.load_state_dict(first.state_dict())
    x = torch.randn(3, 5)
    assert torch.equal(first.eval()(x), second.eval()(x))


def test_what_cannot_be_normalized_is_refused() -> None:
    with pytest.raises(ValueError, match="ReLU has no weight"):
        spectral_norm(nn.ReLU())
    with pytest.raises(ValueError, match="two or more dimensions"):
        spectral_norm(nn.BatchNorm2d(3))
    with pytest.raises(ValueError, match="and a step"):
        spectral_norm(nn.Linear(2, 2), n_power_iterations=0)
