"""Margin losses against pytorch-metric-learning (values and gradients) and against the formulas by arccosine."""

import math
from typing import Any

import pytest
import torch
from dlcommon.vision.margin_losses import (
    MarginSoftmaxLoss,
    arcface_margin,
    cosface_margin,
    cosines,
    margin_logits,
    sphereface_margin,
)
from pytorch_metric_learning import losses
from torch.nn import functional as F

COSINES = torch.linspace(-0.999, 0.999, 401, dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("margin", [0.2, 0.5, 1.0])
def test_arcface_is_the_cosine_of_the_enlarged_angle_and_falls_over_all_angles(margin: float) -> None:
    angles, found = COSINES.acos(), arcface_margin(COSINES, margin)
    before = angles <= math.pi - margin
    torch.testing.assert_close(found[before], (angles + margin).cos()[before])
    assert (found.diff() > 0).all()  # COSINES rise, so angles fall


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_sphereface_is_the_papers_psi_and_falls_over_all_angles(margin: int) -> None:
    angles = COSINES.acos()
    k = (margin * angles / math.pi).floor()
    torch.testing.assert_close(sphereface_margin(COSINES, margin), (-1) ** k * (margin * angles).cos() - 2 * k)
    assert (sphereface_margin(COSINES, margin).diff() > 0).all()
    ends = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert sphereface_margin(ends, margin).tolist() == pytest.approx([1.0, 1.0 - 2 * margin])


def test_gradients_are_finite_at_an_angle_of_zero_and_of_180_degrees() -> None:
    for margin in (arcface_margin, cosface_margin, sphereface_margin):
        ends = torch.tensor([1.0, -1.0], requires_grad=True)
        margin(ends).sum().backward()
        assert ends.grad is not None
        assert ends.grad.isfinite().all()


# Theirs hands its parameters to NumPy in a way that NumPy will drop.
@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("kind", ["arcface", "cosface", "sphereface"])
def test_losses_are_pytorch_metric_learnings_in_value_and_gradient(kind: str) -> None:
    embeddings, labels = (3 * random(12, 6)).requires_grad_(), torch.arange(12) % 5
    theirs: Any = {
        "arcface": losses.ArcFaceLoss(5, 6, margin=math.degrees(0.5), scale=16.0),
        "cosface": losses.CosFaceLoss(5, 6, margin=0.35, scale=16.0),
        "sphereface": losses.SphereFaceLoss(5, 6, margin=4, scale=1.0),
    }[kind]
    ours = MarginSoftmaxLoss(6, 5, kind, {"arcface": 0.5, "cosface": 0.35, "sphereface": 4}[kind], 16.0).double()
    with torch.no_grad():
        ours.weight.copy_(random(5, 6, seed=1))
        theirs.W.data = ours.weight.detach().T.clone()
    if kind == "sphereface":  # SphereFace's scale is the embedding's own length
        logits = margin_logits(cosines(embeddings, ours.weight), labels, kind, 4, embeddings.norm(dim=1, keepdim=True))
        found = F.cross_entropy(logits, labels)
    else:
        found = ours(embeddings, labels)
    expected = theirs(embeddings, labels)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    mine = torch.autograd.grad(found, (embeddings, ours.weight))
    reference = torch.autograd.grad(expected, (embeddings, theirs.W))
    torch.testing.assert_close(mine[0], reference[0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(mine[1], reference[1].T, rtol=1e-5, atol=1e-7)


def test_without_a_margin_it_is_a_softmax_over_cosines() -> None:
    embeddings, labels = random(4, 6), torch.tensor([0, 1, 2, 2])
    loss = MarginSoftmaxLoss(6, 3, "none", scale=8.0).double()
    expected = F.cross_entropy(8 * F.cosine_similarity(embeddings[:, None], loss.weight[None], dim=2), labels)
    torch.testing.assert_close(loss(embeddings, labels), expected)
    torch.testing.assert_close(loss(5 * embeddings, labels), expected)  # the length of an embedding does not count


def test_margins_lower_the_true_logit_only() -> None:
    cosine, labels = random(4, 3).tanh(), torch.tensor([0, 1, 2, 2])
    for kind, margin in (("arcface", 0.5), ("cosface", 0.35), ("sphereface", 3)):
        change = margin_logits(cosine, labels, kind, margin, 1.0) - cosine
        true = F.one_hot(labels, 3).bool()
        assert (change[true] < 0).all()
        assert (change[~true] == 0).all()


def test_unknown_margins_are_refused() -> None:
    with pytest.raises(ValueError, match="choose none, arcface, cosface, sphereface"):
        margin_logits(torch.zeros(1, 2), torch.tensor([0]), "adaface", 0.5, 1.0)
    with pytest.raises(ValueError, match="not by 0"):
        sphereface_margin(torch.zeros(1), 0)
