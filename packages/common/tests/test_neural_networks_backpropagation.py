"""The passes by hand against torch's autograd, our own autograd engine, and differences."""

import math

import numpy as np
import pytest
import torch
from dlcommon.mathematics import functional
from dlcommon.mathematics.autograd import Variable
from dlcommon.mathematics.derivatives import numerical_gradient
from dlcommon.neural_networks.activations import GELU, RELU, SELU, SIGMOID, SILU, TANH, Activation
from dlcommon.neural_networks.backpropagation import Layer, backward, cross_entropy, forward, init_layers

LABELS = np.array([0, 2, 1, 2, 0, 1])


def network(*widths: int, seed: int = 0) -> tuple[list[Layer], np.ndarray]:
    random = np.random.default_rng(seed)
    layers = [Layer(layer.weight, random.standard_normal(layer.bias.shape)) for layer in init_layers(widths, random)]
    return layers, random.standard_normal((len(LABELS), widths[0]))


@pytest.mark.parametrize("activation", [RELU, SIGMOID, TANH, GELU, SELU, SILU], ids=lambda a: a.name)
@pytest.mark.parametrize("widths", [(5, 3), (5, 7, 3), (5, 8, 6, 4, 3)], ids=str)
def test_loss_and_all_gradients_are_torchs(activation: Activation, widths: tuple[int, ...]) -> None:
    layers, x = network(*widths)
    passed = forward(layers, activation, x)
    loss, by_logits = cross_entropy(passed.logits, LABELS)
    gradients, by_input = backward(layers, activation, passed, by_logits)

    inputs = torch.tensor(x, requires_grad=True)
    tensors = [[torch.tensor(array, requires_grad=True) for array in layer] for layer in layers]
    h = inputs
    for number, (weight, bias) in enumerate(tensors):
        h = torch.nn.functional.linear(h, weight.T, bias)
        if number < len(tensors) - 1:
            h = getattr(torch.nn.functional, activation.name)(h)
    expected = torch.nn.functional.cross_entropy(h, torch.tensor(LABELS))
    expected.backward()
    np.testing.assert_allclose(passed.logits, h.detach(), rtol=1e-10, atol=1e-12)
    assert loss == pytest.approx(expected.item(), rel=1e-10)
    assert inputs.grad is not None
    np.testing.assert_allclose(by_input, inputs.grad, rtol=1e-9, atol=1e-12)
    for ours, (weight, bias) in zip(gradients, tensors, strict=True):
        assert weight.grad is not None
        assert bias.grad is not None
        np.testing.assert_allclose(ours.weight, weight.grad, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours.bias, bias.grad, rtol=1e-9, atol=1e-12)


def test_the_autograd_engine_and_differences_agree() -> None:
    layers, x = network(4, 6, 3)
    passed = forward(layers, TANH, x)
    gradients, _ = backward(layers, TANH, passed, cross_entropy(passed.logits, LABELS)[1])

    (w1, b1), (w2, b2) = variables = [[Variable(array) for array in layer] for layer in layers]
    functional.cross_entropy(functional.tanh(x @ w1 + b1) @ w2 + b2, LABELS).backward()
    for ours, theirs in zip(gradients, variables, strict=True):
        for found, variable in zip(ours, theirs, strict=True):
            assert variable.grad is not None
            np.testing.assert_allclose(found, variable.grad, rtol=1e-10, atol=1e-14)

    def loss_at(weight: np.ndarray) -> float:
        return cross_entropy(forward([Layer(weight, layers[0].bias), layers[1]], TANH, x).logits, LABELS)[0]

    np.testing.assert_allclose(gradients[0].weight, numerical_gradient(loss_at, layers[0].weight), atol=1e-9)


def test_the_gradient_of_huge_logits_is_finite() -> None:
    loss, gradient = cross_entropy(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([1, 1]))
    assert loss == pytest.approx(5e3)
    np.testing.assert_allclose(gradient, [[0.5, -0.5], [0.0, 0.0]], atol=1e-12)


def test_float32_stays_float32() -> None:
    layers, x = network(4, 6, 3)
    layers = [Layer(layer.weight.astype(np.float32), layer.bias.astype(np.float32)) for layer in layers]
    passed = forward(layers, GELU, x.astype(np.float32))
    gradients, by_input = backward(layers, GELU, passed, cross_entropy(passed.logits, LABELS)[1])
    arrays = [passed.logits, by_input, *(array for layer in gradients for array in layer)]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


def test_random_layers_pass_the_signal_on() -> None:
    layers = init_layers((400, 600, 300, 5), np.random.default_rng(0))
    passed = forward(layers, RELU, np.random.default_rng(1).standard_normal((500, 400)))
    sizes = [float(np.square(h).mean()) for h in passed.inputs]
    np.testing.assert_allclose(sizes, 1, rtol=0.15)
    assert layers[-1].weight.std() == pytest.approx(1 / math.sqrt(300), rel=0.1)
    assert not any(layer.bias.any() for layer in layers)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0]])
def test_labels_must_be_classes(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="from 0 to 2"):
        cross_entropy(np.zeros((2, 3)), np.array(labels))
