"""Cross-entropy of a wide output layer without holding its logits.

The logits of 1,000 tokens over SmolLM2's vocabulary of 49,152 take 197 MB in float32, and their gradient as much again.
Here they are computed for a few hundred tokens at a time, and the gradient with respect to the features, softmax minus
one-hot times the matrix, right with them, as in Liger Kernel (Hsu et al. 2024, https://arxiv.org/abs/2410.10989).
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

CHUNK = 256
"""Tokens whose logits are held at a time."""


def fused_cross_entropy(
    features: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int = CHUNK
) -> torch.Tensor:
    """Computes the cross-entropy of each token, float32 [tokens] (float64 for such features).

    Equals `F.cross_entropy(F.linear(features, weight).float(), targets, reduction="none")` in value and in gradient.

    Args:
        features: that the output layer maps to logits, [tokens, dim].
        weight: its matrix, [vocab_size, dim].
        targets: ids of the right tokens, int64 [tokens].
        chunk: tokens whose logits are held at a time.
    """
    device = features.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        losses: torch.Tensor = _FusedCrossEntropy.apply(features.to(dtype), weight.to(dtype), targets, chunk)
    return losses


def _loss_and_softmax(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the losses [tokens], and softmax minus one-hot [tokens, vocab_size], which overwrites the logits."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    log_normalizer = logits.logsumexp(dim=1, keepdim=True)
    losses = (log_normalizer - logits.gather(1, targets[:, None])).squeeze(1)
    softmax = logits.sub_(log_normalizer).exp_()
    softmax[torch.arange(len(targets), device=targets.device), targets] -= 1
    return losses, softmax


class _FusedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int
    ) -> torch.Tensor:
        needs_gradient = ctx.needs_input_grad[0]
        losses = []
        gradient = torch.empty_like(features) if needs_gradient else None  # of each token's own loss
        for place in range(0, len(features), chunk):
            some = slice(place, place + chunk)
            loss, softmax = _loss_and_softmax(features[some] @ weight.T, targets[some])
            losses.append(loss)
            if gradient is not None:
                gradient[some] = softmax.to(weight.dtype) @ weight
        ctx.chunk = chunk
        # The matrix's own gradient sums over tokens, so it must wait for the losses' gradients.
        ctx.save_for_backward(gradient, *((features, weight, targets) if ctx.needs_input_grad[1] else ()))
        return torch.cat(losses) if losses else features.new_zeros(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        """Scales each token's gradient; computes the logits anew for the matrix's, where that is trained."""
        (grad_losses,) = outputs
        gradient, *rest = ctx.saved_tensors
        grad_features = None if gradient is None else gradient * grad_losses[:, None].to(gradient.dtype)
        if not rest:
            return grad_features, None, None, None
        features, weight, targets = rest
        grad_weight = torch.zeros_like(weight)
        for place in range(0, len(features), ctx.chunk):
            some = slice(place, place + ctx.chunk)
            _, softmax = _loss_and_softmax(features[some] @ weight.T, targets[some])
            grad_weight.addmm_(softmax.mul_(grad_losses[some, None]).to(weight.dtype).T, features[some])
        return grad_features, grad_weight, None, None
