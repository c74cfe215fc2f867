"""Muon: momentum orthogonalized by Newton–Schulz (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/)."""

from collections.abc import Callable, Iterable

import torch

# Coefficients of the quintic a·x + b·x³ + c·x⁵, chosen to raise small singular values toward 1 as fast as possible.
NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: torch.Tensor, ns_steps: int = 5, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Approximates U Vᵀ of the matrix's singular value decomposition U S Vᵀ, by Newton–Schulz iterations.

    After five steps, singular values above a hundredth of the matrix's Frobenius norm lie in 0.68 … 1.21; smaller ones
    are still rising. The iterations are matrix products only, so they run fast wherever training does.

    Args:
        matrix: [rows, columns].
        ns_steps: number of iterations.
        dtype: of the products. Jordan's is bfloat16, which suffices where the hardware computes in it; a processor
            that emulates it is many times slower than in float32.

    Returns:
        [rows, columns], of the dtype of `matrix`.
    """
    a, b, c = NS_COEFFICIENTS
    tall = matrix.size(0) > matrix.size(1)
    # The transpose of a tall matrix has the smaller x xᵀ, and the same singular values.
    x = (matrix.T if tall else matrix).to(dtype)
    x = x / (x.norm() + 1e-7)  # the Frobenius norm bounds the largest singular value, so that all lie in 0 … 1
    for _ in range(ns_steps):
        gram = x @ x.T  # [rows, rows], the smaller side
        x = a * x + (b * gram + c * gram @ gram) @ x  # applies the quintic to every singular value, keeps U and V
    orthogonal: torch.Tensor = x.T if tall else x
    return orthogonal.to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Updates w ← w − lr · orthogonalize(momentum), which moves equally far in every direction of a matrix.

    It is for matrices and convolution kernels (flattened to [out_channels, in_channels · height · width]); biases,
    norms and the last layer belong to another optimizer. Arguments are named as in `torch.optim.Muon`.

    Args:
        params: of two or more axes.
        lr: the spectral norm of an update, about.
        momentum: decay of the gradient's running sum.
        nesterov: adds the gradient to the momentum once more before it is orthogonalized.
        ns_steps: as of `orthogonalize`.
        normalize: also scales each weight to Frobenius norm √rows before the step, as cifar10-airbench does. If batch
            norm follows every layer, the scale of a weight has no effect, and fixing it makes the learning rate an
            angle.
        weight_decay: decoupled (Loshchilov & Hutter 2019): w ← (1 − lr · weight_decay) · w before the step.
        dtype: as of `orthogonalize`.

    Raises:
        ValueError: a value is out of range, or a parameter has fewer than two axes.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        normalize: bool = False,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not lr > 0:
            raise ValueError(f"lr must be positive, not {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, not {momentum}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "normalize": normalize,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)
        self.dtype = dtype
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dim() < 2:
                    raise ValueError("Muon is for matrices and kernels; give vectors to another optimizer")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates every parameter that has a gradient, and returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(parameter.grad)
                gradient = parameter.grad.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer
                # A kernel is a matrix from patches to output channels: [out_channels, in_channels · height · width].
                update = orthogonalize(gradient.reshape(len(gradient), -1), group["ns_steps"], self.dtype)
                if group["normalize"]:
                    parameter.mul_(len(parameter) ** 0.5 / parameter.norm())
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view(parameter.shape), alpha=-group["lr"])
        return loss
