"""Penalties on the size of weights: L2 (ridge, weight decay) shrinks all, L1 (lasso) takes some to exactly 0.

For networks: the penalties as terms of a loss, the step that L1 needs to reach 0, and which parameters to decay. For
linear models: the whole path of solutions as the penalty grows, in NumPy, with scikit-learn's meaning of its strength.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn


def l1_penalty(parameters: Iterable[torch.Tensor]) -> torch.Tensor:
    """Σ|w|: minus the logarithm of a Laplacian prior. Its pull does not fade as w nears 0."""
    return torch.stack([parameter.abs().sum() for parameter in parameters]).sum()


def l2_penalty(parameters: Iterable[torch.Tensor]) -> torch.Tensor:
    """½Σw²: minus the logarithm of a Gaussian prior. λ times it is what plain SGD with `weight_decay` λ minimizes."""
    return torch.stack([parameter.square().sum() for parameter in parameters]).sum() / 2


def soft_threshold(x: torch.Tensor, threshold: float) -> torch.Tensor:
    """sign(x)·max(|x| − t, 0): the w that minimizes ½(w − x)² + t·|w|."""
    return x.sign() * (x.abs() - threshold).clamp(min=0)


@torch.no_grad()
def proximal_l1_step_(parameters: Iterable[torch.Tensor], threshold: float) -> None:
    """Soft-thresholds in place, after an optimizer's step on the loss without L1; threshold = learning rate · λ.

    A gradient step on λΣ|w| jumps over 0 and back; this one stops there (proximal gradient: Parikh & Boyd 2014,
    section 4.2).
    """
    for parameter in parameters:
        parameter.copy_(soft_threshold(parameter, threshold))


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: matrices and kernels decay, vectors do not.

    Biases and the scales of normalizations have fewer than two axes. They are few, they overfit little, and pulling a
    scale to 0 would switch its feature off. A shared parameter is named once.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def ridge_path(features: np.ndarray, target: np.ndarray, strengths: Sequence[float] | np.ndarray) -> np.ndarray:
    """Minimizes ‖y − Xw‖² + α‖w‖² for each α, from one SVD X = U S Vᵀ: w = V · S/(S² + α) · Uᵀy.

    Directions in which the data varies little (small S) are shrunk first. (Hoerl & Kennard 1970)

    Args:
        features: [samples, features]; centred, since no intercept is fitted.
        target: [samples], centred.
        strengths: α, positive.

    Returns:
        [strengths, features].
    """
    u, s, vt = np.linalg.svd(features, full_matrices=False)
    alphas = _positive(strengths)[:, None]
    return (s / (s**2 + alphas) * (u.T @ target)) @ vt


def lasso_path(
    features: np.ndarray,
    target: np.ndarray,
    strengths: Sequence[float] | np.ndarray,
    tolerance: float = 1e-9,
    most_sweeps: int = 100_000,
) -> np.ndarray:
    """Minimizes ‖y − Xw‖²/(2·samples) + α‖w‖₁ for each α by coordinate descent (Friedman, Hastie & Tibshirani 2010).

    One weight at a time is set to its best value, which is a soft threshold, until a whole sweep moves nothing by
    more than `tolerance` times the largest weight. Each α starts from the solution before it: give them falling.
    All weights are 0 from α = max|Xᵀy|/samples on.

    Args:
        features: [samples, features]; centred, since no intercept is fitted.
        target: [samples], centred.
        strengths: α, positive.

    Returns:
        [strengths, features].

    Raises:
        ArithmeticError: `most_sweeps` were not enough.
    """
    samples, count = features.shape
    gram, correlation = features.T @ features / samples, features.T @ target / samples
    variances = gram.diagonal()
    varying = np.flatnonzero(variances > 0)  # the weight of a constant stays 0
    w = np.zeros(count)
    path = []
    for alpha in _positive(strengths):
        for _ in range(most_sweeps):
            before = w.copy()
            for j in varying:
                pull = correlation[j] - gram[j] @ w + variances[j] * w[j]  # with the residual of all the others
                w[j] = np.sign(pull) * max(abs(pull) - alpha, 0) / variances[j]
            if np.abs(w - before).max() <= tolerance * np.abs(w).max():
                break
        else:
            raise ArithmeticError(f"no convergence in {most_sweeps} sweeps at strength {alpha:g}: ask for less")
        path.append(w.copy())
    return np.stack(path)


def _positive(strengths: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.asarray(strengths, dtype=np.float64)
    if not (values > 0).all():
        raise ValueError(f"strengths must be positive, not {values.min()}")
    return values
