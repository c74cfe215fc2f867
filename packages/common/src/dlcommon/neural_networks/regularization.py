"""Penalties on the size of weights: L2 (ridge, weight decay) shrinks all, L1 (lasso) sets some to exactly 0.

For networks: the penalties as terms of a loss, the proximal step that L1 needs to reach 0, and parameter groups for
weight decay. For linear models: the whole path of solutions as the penalty grows, in NumPy, with scikit-learn's alpha.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn


def l1_penalty(parameters: Iterable[torch.Tensor]) -> torch.Tensor:
    """Computes Σ|w|, the negative logarithm of a Laplacian prior. Its gradient does not fade as w nears 0."""
    return torch.stack([parameter.abs().sum() for parameter in parameters]).sum()


def l2_penalty(parameters: Iterable[torch.Tensor]) -> torch.Tensor:
    """Computes ½Σw², the negative logarithm of a Gaussian prior. Plain SGD with `weight_decay` λ adds λ times it."""
    return torch.stack([parameter.square().sum() for parameter in parameters]).sum() / 2


def soft_threshold(x: torch.Tensor, threshold: float) -> torch.Tensor:
    """Computes sign(x)·max(|x| − t, 0), the w that minimizes ½(w − x)² + t·|w|."""
    return x.sign() * (x.abs() - threshold).clamp(min=0)


@torch.no_grad()
def proximal_l1_step_(parameters: Iterable[torch.Tensor], threshold: float) -> None:
    """Soft-thresholds in place, after an optimizer's step on the loss without L1; threshold = lr · λ.

    A gradient step on λΣ|w| jumps over 0 and back; this one stops there (proximal gradient: Parikh & Boyd 2014,
    section 4.2).
    """
    for parameter in parameters:
        parameter.copy_(soft_threshold(parameter, threshold))


def param_groups_weight_decay(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Splits trainable parameters into optimizer groups: matrices and kernels decay, vectors do not.

    Biases and the scales of normalizations have fewer than two axes. They are few, they overfit little, and pulling a
    scale to 0 would switch its feature off. A shared parameter appears once.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trainable if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trainable if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def ridge_path(features: np.ndarray, target: np.ndarray, alphas: Sequence[float] | np.ndarray) -> np.ndarray:
    """Minimizes ‖y − Xw‖² + α‖w‖² for each α, from one SVD X = U S Vᵀ: w = V · S/(S² + α) · Uᵀy.

    Directions in which the data varies little (small S) are shrunk first. (Hoerl & Kennard 1970)

    Args:
        features: X [samples, features], centered, since no intercept is fitted.
        target: y [samples], centered.
        alphas: positive.

    Returns:
        w for each α, [alphas, features].
    """
    u, s, vt = np.linalg.svd(features, full_matrices=False)
    column = _check_positive(alphas)[:, None]
    coefficients = s / (s**2 + column) * (u.T @ target)  # in the basis of the right singular vectors, [alphas, rank]
    weights: np.ndarray = coefficients @ vt
    return weights


def lasso_path(
    features: np.ndarray,
    target: np.ndarray,
    alphas: Sequence[float] | np.ndarray,
    tol: float = 1e-9,
    max_iter: int = 100_000,
) -> np.ndarray:
    """Minimizes ‖y − Xw‖²/(2·samples) + α‖w‖₁ for each α by coordinate descent (Friedman, Hastie & Tibshirani 2010).

    One weight at a time is set to its optimum, which is a soft threshold, until a whole sweep moves nothing by more
    than `tol` times the largest weight. Each α starts from the solution of the one before: pass them in falling order.
    All weights are 0 from α = max|Xᵀy|/samples on.

    Args:
        features: X [samples, features], centered, since no intercept is fitted.
        target: y [samples], centered.
        alphas: positive.
        tol: relative change at which iteration stops.
        max_iter: largest number of sweeps for one α.

    Returns:
        w for each α, [alphas, features].

    Raises:
        ArithmeticError: `max_iter` sweeps were not enough.
    """
    samples, count = features.shape
    # All that the loop needs of the data: XᵀX / n and Xᵀy / n.
    gram, correlation = features.T @ features / samples, features.T @ target / samples
    variances = gram.diagonal()
    varying = np.flatnonzero(variances > 0)  # the weight of a constant stays 0
    w = np.zeros(count)
    path = []
    for alpha in _check_positive(alphas):
        for _ in range(max_iter):
            before = w.copy()
            for j in varying:
                # Correlation of feature j with the residual of all the others.
                rho = correlation[j] - gram[j] @ w + variances[j] * w[j]
                w[j] = np.sign(rho) * max(abs(rho) - alpha, 0) / variances[j]
            if np.abs(w - before).max() <= tol * np.abs(w).max():
                break
        else:
            raise ArithmeticError(f"no convergence in {max_iter} sweeps at alpha {alpha:g}: raise tol or max_iter")
        path.append(w.copy())
    return np.stack(path)


def _check_positive(alphas: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.asarray(alphas, dtype=np.float64)
    if not (values > 0).all():
        raise ValueError(f"alphas must be positive, not {values.min()}")
    return values
