"""Spectral normalization: weights divided by their largest singular value (Miyato et al. 2018,
https://arxiv.org/abs/1802.05957)."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize


def power_iteration(
    matrix: torch.Tensor, u: torch.Tensor, v: torch.Tensor, steps: int, eps: float = 1e-12
) -> tuple[torch.Tensor, torch.Tensor]:
    """Improves estimates of the first left and right singular vectors: u ← Wv / ‖Wv‖, v ← Wᵀu / ‖Wᵀu‖ (algorithm 1).

    The error shrinks by the factor (σ₂ / σ₁)² a step.

    Args:
        matrix: W, [rows, columns].
        u: [rows], of length 1.
        v: [columns], of length 1.
        steps: how often both are improved.
        eps: smallest length that is divided by.

    Returns:
        The new u and v.
    """
    for _ in range(steps):
        u = F.normalize(matrix @ v, dim=0, eps=eps)
        v = F.normalize(matrix.T @ u, dim=0, eps=eps)
    return u, v


class SpectralNorm(nn.Module):
    """Maps a weight W to W / σ, with σ = uᵀWv estimated by one step of power iteration a training pass.

    The weight changes little from one update to the next, so u and v, which are kept, stay close to the singular
    vectors. They are constants of the gradient: ∂σ/∂W = u vᵀ.

    Args:
        weight: [out, …], read as a matrix [out, rest].
        dim: its dimension of outputs: 1 for a transposed convolution, else 0.
        n_power_iterations: steps a training pass.
        eps: smallest length that is divided by.

    Raises:
        ValueError: the weight is no matrix, or there are no steps.
    """

    u: torch.Tensor
    v: torch.Tensor

    def __init__(self, weight: torch.Tensor, dim: int = 0, n_power_iterations: int = 1, eps: float = 1e-12) -> None:
        super().__init__()
        if weight.dim() < 2 or n_power_iterations < 1:
            raise ValueError(
                f"need a weight of two or more dimensions and a step, not {list(weight.shape)}, {n_power_iterations}"
            )
        self.dim, self.n_power_iterations, self.eps = dim, n_power_iterations, eps
        with torch.no_grad():
            matrix = self._as_matrix(weight)
            u = F.normalize(matrix.new_empty(matrix.size(0)).normal_(), dim=0, eps=eps)
            v = F.normalize(matrix.new_empty(matrix.size(1)).normal_(), dim=0, eps=eps)
            u, v = power_iteration(matrix, u, v, steps=15, eps=eps)  # as torch does, for a good first estimate
        self.register_buffer("u", u)
        self.register_buffer("v", v)

    def _as_matrix(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.movedim(self.dim, 0).flatten(1)  # [out, rest]

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Computes W / σ, shaped like the weight; in training, improves u and v first."""
        matrix = self._as_matrix(weight)
        if self.training:
            with torch.no_grad():
                u, v = power_iteration(matrix, self.u, self.v, self.n_power_iterations, self.eps)
                self.u.copy_(u)
                self.v.copy_(v)
        # Copies: a later pass in the same graph changes the buffers in place.
        sigma = torch.dot(self.u.clone(), matrix @ self.v.clone())
        return weight / sigma


def spectral_norm(module: nn.Module, n_power_iterations: int = 1, eps: float = 1e-12) -> nn.Module:
    """Normalizes the weight of a linear or convolutional layer by its spectral norm from now on.

    Returns:
        The same module; `module.weight` is the normalized weight, the raw one is what the optimizer trains.

    Raises:
        ValueError: the module has no matrix `weight`.
    """
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):
        raise ValueError(f"{type(module).__name__} has no weight to normalize")
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    normalization = SpectralNorm(weight, int(transposed), n_power_iterations, eps)
    parametrize.register_parametrization(module, "weight", normalization)
    return module
