"""Softmax losses on the hypersphere with a margin: SphereFace, CosFace, ArcFace.

Embeddings and the prototype of each identity have length 1, so that logits are cosines. The margin makes the true
identity's logit smaller in training only: to be told apart is not enough, it takes a distance.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


def arcface_margin(cosine: torch.Tensor, margin: float = 0.5) -> torch.Tensor:
    """Computes cos(θ + margin), the angle enlarged by a constant (Deng et al. 2019, equation 3).

    https://arxiv.org/abs/1801.07698. Beyond θ = π − margin the cosine would rise again; there it is replaced by
    cos θ − margin · sin margin, as in the authors' code.

    Args:
        cosine: of the angle θ between embedding and true identity, [...].
        margin: in radians.
    """
    # cos(θ + m) by the addition theorem: no arccosine, whose slope is infinite at ±1. So is that of the square root at
    # 0; hence the bound.
    sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()
    enlarged = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine >= math.cos(math.pi - margin), enlarged, cosine - margin * math.sin(margin))


def cosface_margin(cosine: torch.Tensor, margin: float = 0.35) -> torch.Tensor:
    """Computes cos θ − margin, the cosine lowered by a constant (Wang et al. 2018, equation 4).

    https://arxiv.org/abs/1801.09414.
    """
    return cosine - margin


def sphereface_margin(cosine: torch.Tensor, margin: int = 4) -> torch.Tensor:
    """Computes ψ(θ) = (−1)^k cos(margin · θ) − 2k for θ in [kπ / margin, (k + 1)π / margin] (Liu et al. 2017).

    https://arxiv.org/abs/1704.08063. The pieces of the multiplied angle's cosine, put together so that ψ falls over all
    angles. cos(margin · θ) is a polynomial of cos θ (Chebyshev's), which needs no arccosine.

    Args:
        cosine: [...].
        margin: integer that the angle is multiplied by, at least 1.

    Raises:
        ValueError: the margin is below 1.
    """
    if margin < 1:
        raise ValueError(f"the angle can be multiplied by 1, 2, 3, …, not by {margin}")
    before, multiplied = torch.ones_like(cosine), cosine  # cos 0θ, cos 1θ
    for _ in range(margin - 1):
        before, multiplied = multiplied, 2 * cosine * multiplied - before
    with torch.no_grad():
        k = (margin / math.pi * cosine.clamp(-1, 1).acos()).floor().clamp(max=margin - 1)
    return (1 - 2 * (k % 2)) * multiplied - 2 * k


MARGINS = ("arcface", "cosface", "sphereface")


def cosines(embeddings: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Computes the cosine between each embedding and each identity's prototype.

    Args:
        embeddings: [batch, dim].
        weights: [identities, dim].

    Returns:
        [batch, identities].
    """
    return F.linear(F.normalize(embeddings), F.normalize(weights))


def margin_logits(
    cosine: torch.Tensor, labels: torch.Tensor, kind: str, margin: float, scale: float | torch.Tensor
) -> torch.Tensor:
    """Lowers the logit of the true identity by the margin, and multiplies all by the scale.

    Args:
        cosine: [batch, identities].
        labels: true identities, int64 [batch].
        kind: `arcface`, `cosface` or `sphereface`; or `none`, a normalized softmax.
        margin: radians, difference of cosines, or factor of the angle.
        scale: a number, or [batch, 1]: SphereFace has the embedding's own length.

    Returns:
        Logits [batch, identities], for cross-entropy.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind == "none":
        return scale * cosine
    if kind not in MARGINS:
        raise ValueError(f"unknown margin {kind!r}; choose none, {', '.join(MARGINS)}")
    true = cosine.gather(1, labels[:, None])  # [batch, 1]
    if kind == "sphereface":
        lowered = sphereface_margin(true, int(margin))
    else:
        lowered = arcface_margin(true, margin) if kind == "arcface" else cosface_margin(true, margin)
    return scale * cosine.scatter(1, labels[:, None], lowered)


class MarginSoftmaxLoss(nn.Module):
    """Classifies embeddings by their angle to one learned prototype for each identity, with a margin in training.

    Args:
        dim: width of the embeddings.
        identities: number of identities in the training data.
        kind: `none`, `arcface`, `cosface` or `sphereface`.
        margin: radians for ArcFace, difference of cosines for CosFace, factor of the angle for SphereFace.
        scale: factor of the logits, without which cosines of at most 1 could not give probabilities near 1.
    """

    def __init__(
        self, dim: int, identities: int, kind: str = "arcface", margin: float = 0.5, scale: float = 64.0
    ) -> None:
        super().__init__()
        self.kind, self.margin, self.scale = kind, margin, scale
        self.weight = nn.Parameter(torch.empty(identities, dim))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Computes the mean cross-entropy of embeddings [batch, dim] and identities [batch]."""
        cosine = cosines(embeddings, self.weight)
        return F.cross_entropy(margin_logits(cosine, labels, self.kind, self.margin, self.scale), labels)
