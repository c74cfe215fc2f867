"""The cross-entropy over a large vocabulary, computed a few tokens at a time."""

from typing import Any

import torch

CHUNK = 512
"""Tokens whose logits exist at once, so that they stay in the processor's cache."""


class SmoothedLoss(torch.autograd.Function):
    """Computes the summed cross-entropy with label smoothing (Szegedy et al. 2016) from features, and its gradients.

    Equals `F.cross_entropy(features @ weight.T, targets, label_smoothing=…, reduction="sum")`. The logits of a batch,
    [tokens, vocabulary], are larger than anything else in it, and autograd would keep several tensors of that size;
    here gradients are computed with the loss, and a chunk's logits are forgotten before the next chunk's.
    """

    @staticmethod
    def forward(
        ctx: Any, features: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, smoothing: float,
        dtype: torch.dtype, chunk: int = CHUNK,
    ) -> torch.Tensor:  # fmt: skip
        """Returns the sum over all tokens.

        Args:
            features: [tokens, dim].
            weight: of the output layer, [vocab_size, dim].
            targets: int64 [tokens].
            smoothing: share of the target distribution that is spread over all pieces.
            dtype: in which matrices are multiplied.
            chunk: tokens at once.
        """
        matrix = weight.to(dtype)
        feature_gradient, weight_gradient = torch.empty_like(features), torch.zeros_like(weight)
        total = features.new_zeros((), dtype=torch.float32)
        for start in range(0, len(features), chunk):
            part, wanted = features[start : start + chunk].to(dtype), targets[start : start + chunk, None]
            logits = torch.mm(part, matrix.T).float()  # [chunk, vocab_size]
            normalizer = logits.logsumexp(dim=1, keepdim=True)
            expected = (1 - smoothing) * logits.gather(1, wanted) + smoothing * logits.mean(dim=1, keepdim=True)
            total += (normalizer - expected).sum()
            # Gradient of the logits: probabilities minus the smoothed targets.
            gradient = logits.sub_(normalizer).exp_().sub_(smoothing / len(weight))
            gradient.scatter_add_(1, wanted, torch.full_like(wanted, smoothing - 1, dtype=gradient.dtype))
            rounded = gradient.to(dtype)
            feature_gradient[start : start + chunk] = torch.mm(rounded, matrix)
            weight_gradient += torch.mm(rounded.T, part)
        ctx.save_for_backward(feature_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scales the gradients that `forward` has computed."""
        feature_gradient, weight_gradient = ctx.saved_tensors
        return feature_gradient * scale, weight_gradient * scale, None, None, None, None
