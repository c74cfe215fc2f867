"""R-Drop's loss equals its definition with torch's losses, in value and gradient."""

import pytest
import torch
from dlcommon.training.r_drop import r_drop_loss
from torch.nn import functional as F

CLASSES = torch.tensor([0, 2, 1, 1])


def logits(seed: int) -> torch.Tensor:
    """Draws logits [4, 3]."""
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("targets", [CLASSES, 0.8 * F.one_hot(CLASSES, 3) + 0.2 / 3], ids=["classes", "probabilities"])
def test_value_and_gradients_are_those_of_torchs_losses(targets: torch.Tensor) -> None:
    targets = targets.double() if targets.is_floating_point() else targets
    first, second = logits(0), logits(1)
    ours = r_drop_loss(first, second, targets, alpha=0.7)
    log_p1, log_p2 = first.log_softmax(1), second.log_softmax(1)
    # kl_div(input, target) is KL(target ‖ input).
    forward, backward = (
        F.kl_div(*pair, reduction="batchmean", log_target=True) for pair in ((log_p2, log_p1), (log_p1, log_p2))
    )
    cross_entropy = (F.cross_entropy(first, targets) + F.cross_entropy(second, targets)) / 2
    theirs = cross_entropy + 0.7 * (forward + backward) / 2
    torch.testing.assert_close(ours, theirs)
    for gradient, reference in zip(
        torch.autograd.grad(ours, (first, second)), torch.autograd.grad(theirs, (first, second)), strict=True
    ):
        torch.testing.assert_close(gradient, reference)


def test_passes_that_agree_give_the_cross_entropy() -> None:
    torch.testing.assert_close(r_drop_loss(logits(0), logits(0), CLASSES, alpha=5), F.cross_entropy(logits(0), CLASSES))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"differ in shape: \[4, 3\] and \[2, 3\]"):
        r_drop_loss(logits(0), logits(0)[:2], CLASSES, alpha=1)
    with pytest.raises(ValueError, match="alpha must be at least 0, not -1"):
        r_drop_loss(logits(0), logits(1), CLASSES, alpha=-1)
