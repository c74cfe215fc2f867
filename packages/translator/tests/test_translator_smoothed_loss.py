import pytest
import torch
from torch.nn import functional as F
from translator.smoothed_loss import SmoothedLoss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [3, 512])
def test_loss_and_gradients_are_those_of_torch(smoothing: float, chunk: int) -> None:
    torch.manual_seed(0)
    features, weight = torch.randn(10, 6, requires_grad=True), torch.randn(7, 6, requires_grad=True)
    targets = torch.randint(7, (10,))
    expected = F.cross_entropy(features @ weight.T, targets, label_smoothing=smoothing, reduction="sum") / 10
    wanted = torch.autograd.grad(expected, (features, weight))
    loss = SmoothedLoss.apply(features, weight, targets, smoothing, torch.float32, chunk) / 10
    found = torch.autograd.grad(loss, (features, weight))
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_in_bfloat16_it_is_about_the_same() -> None:
    torch.manual_seed(0)
    features, weight, targets = torch.randn(50, 16), torch.randn(20, 16), torch.randint(20, (50,))
    exact = F.cross_entropy(features @ weight.T, targets, label_smoothing=0.1, reduction="sum")
    rounded = SmoothedLoss.apply(features, weight, targets, 0.1, torch.bfloat16)
    torch.testing.assert_close(rounded, exact, rtol=1e-2, atol=0)
