"""Losses against torch's and torchvision's: values and gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from dlcommon.pytorch_core import losses
from dlcommon.pytorch_core.losses import Reduction
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

Loss = Callable[..., torch.Tensor]
REDUCTIONS = ["mean", "sum", "none"]


def noise(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(*shape: int, classes: int) -> torch.Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(1))


def assert_equal_with_gradients(ours: Loss, theirs: Loss, predictions: torch.Tensor) -> None:
    """Float64, so that 1e-10 is asked for."""
    results = []
    for loss in (ours, theirs):
        inputs = predictions.clone().requires_grad_()
        value = loss(inputs)
        weights = torch.arange(1, value.numel() + 1, dtype=value.dtype).reshape(value.shape)
        (gradient,) = torch.autograd.grad((weights * value).sum(), inputs)
        results.append((value.detach(), gradient))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param(losses.mse_loss, F.mse_loss, id="mse"),
        pytest.param(losses.l1_loss, F.l1_loss, id="mae"),
        pytest.param(losses.huber_loss, F.huber_loss, id="huber"),
        pytest.param(
            lambda x, y, reduction: losses.huber_loss(x, y, delta=0.3, reduction=reduction),
            lambda x, y, reduction: F.huber_loss(x, y, delta=0.3, reduction=reduction),
            id="huber-0.3",
        ),
    ],
)
def test_regression_losses(ours: Loss, theirs: Loss, reduction: str) -> None:
    targets = noise(5, 4, seed=2)
    assert_equal_with_gradients(
        lambda x: ours(x, targets, reduction=reduction),
        lambda x: theirs(x, targets, reduction=reduction),
        noise(5, 4),
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("positions", [(), (3,), (2, 3)], ids=["flat", "tokens", "pixels"])
def test_cross_entropy_of_indices(positions: tuple[int, ...], smoothing: float, reduction: str) -> None:
    targets = labels(6, *positions, classes=5)
    targets.view(-1)[2] = -100
    targets.view(-1)[4] = 3
    for ignored in (-100, 3):
        whole = targets.where(targets >= 0, 0) if ignored == 3 else targets
        options = {"label_smoothing": smoothing, "ignore_index": ignored, "reduction": reduction}
        assert_equal_with_gradients(
            lambda x, y=whole, o=options: losses.cross_entropy(x, y, **o),
            lambda x, y=whole, o=options: F.cross_entropy(x, y, **o),
            noise(6, 5, *positions),
        )


@pytest.mark.parametrize("reduction", ["sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("positions", [(), (3,)], ids=["flat", "tokens"])
def test_cross_entropy_of_probabilities(positions: tuple[int, ...], smoothing: float, reduction: str) -> None:
    targets = noise(6, 5, *positions, seed=3).softmax(1)
    options: dict[str, Any] = {"label_smoothing": smoothing, "reduction": reduction}
    assert_equal_with_gradients(
        lambda x: losses.cross_entropy(x, targets, **options),
        lambda x: F.cross_entropy(x, targets, **options),
        noise(6, 5, *positions),
    )


def test_mean_cross_entropy_of_probabilities_is_over_all_targets() -> None:
    logits, targets = noise(6, 5), noise(6, 5, seed=3).softmax(1)
    assert_equal_with_gradients(
        lambda x: losses.cross_entropy(x, targets), lambda x: F.cross_entropy(x, targets), logits
    )


def test_one_hot_probabilities_are_indices() -> None:
    logits, targets = noise(6, 5), labels(6, classes=5)
    one_hot = F.one_hot(targets, 5).double()
    torch.testing.assert_close(
        losses.cross_entropy(logits, targets, label_smoothing=0.2),
        losses.cross_entropy(logits, one_hot, label_smoothing=0.2),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_binary_cross_entropy(weight: float, reduction: Reduction) -> None:
    targets = noise(4, 7, seed=4).sigmoid()
    predictions = noise(4, 7)
    predictions[0, :3] = 0  # where |x| and max(x, 0) have no derivative
    assert_equal_with_gradients(
        lambda x: losses.binary_cross_entropy_with_logits(x, targets, pos_weight=weight, reduction=reduction),
        lambda x: F.binary_cross_entropy_with_logits(
            x, targets, pos_weight=torch.tensor(weight, dtype=torch.float64), reduction=reduction
        ),
        predictions,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 0.5), (None, 3.0), (None, 0.0)])
def test_focal_loss(alpha: float | None, gamma: float, reduction: Reduction) -> None:
    targets = labels(4, 7, classes=2).double()
    assert_equal_with_gradients(
        lambda x: losses.sigmoid_focal_loss(x, targets, alpha=alpha, gamma=gamma, reduction=reduction),
        lambda x: sigmoid_focal_loss(
            x, targets, alpha=-1 if alpha is None else alpha, gamma=gamma, reduction=reduction
        ),
        noise(4, 7),
    )


@pytest.mark.parametrize("size", [0.0, 1e2, 1e4, 1e30])
def test_large_logits_give_finite_losses_and_gradients(size: float) -> None:
    logits = torch.tensor([[size, -size, 0.0], [-size, size, 0.0]], requires_grad=True)  # float32
    targets = torch.tensor([1, 1])
    binary = F.one_hot(targets, 3).float()
    results = [
        losses.cross_entropy(logits, targets, label_smoothing=0.1),
        losses.binary_cross_entropy_with_logits(logits, binary),
        losses.sigmoid_focal_loss(logits, binary),
        losses.sigmoid_focal_loss(logits, binary, gamma=0.5),
    ]
    for value in results:
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_small_losses_keep_their_digits() -> None:
    """A confident, right answer: σ(−20) in float32 is exact to 1e-7 of itself, not lost in rounding."""
    logits, targets = torch.tensor([-20.0, 20.0]), torch.tensor([0.0, 1.0])
    expected = F.binary_cross_entropy_with_logits(logits.double(), targets.double())
    assert losses.binary_cross_entropy_with_logits(logits, targets).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        losses.mse_loss,
        losses.l1_loss,
        losses.huber_loss,
        losses.binary_cross_entropy_with_logits,
        losses.sigmoid_focal_loss,
    ],
)
def test_shapes_that_would_broadcast_are_refused(loss: Loss) -> None:
    with pytest.raises(ValueError, match=r"\[4, 1\] and targets \[4\]"):
        loss(torch.zeros(4, 1), torch.zeros(4))


@pytest.mark.parametrize("targets", [torch.zeros(3, dtype=torch.long), torch.zeros(4, 6), torch.zeros(4, 2).long()])
def test_cross_entropy_refuses_targets_that_do_not_fit(targets: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="targets"):
        losses.cross_entropy(torch.zeros(4, 5), targets)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match="label_smoothing"):
        losses.cross_entropy(torch.zeros(1, 2), torch.zeros(1).long(), label_smoothing=1.5)
    with pytest.raises(ValueError, match="delta"):
        losses.huber_loss(torch.zeros(1), torch.zeros(1), delta=0)
