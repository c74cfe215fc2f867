"""Muon: momentum, orthogonalized (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/)."""

from collections.abc import Callable, Iterable

import torch

# Coefficients of the quintic a·x + b·x³ + c·x⁵ that lifts small singular values fastest towards 1.
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: torch.Tensor, iterations: int = 5, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """U Vᵀ of the matrix's singular value decomposition, approximately.

    After five iterations, singular values above a hundredth of the matrix's Frobenius norm fall in 0.68 … 1.21;
    smaller ones are still on their way up. Newton–Schulz iterations are only matrix products, so it is fast where
    training is fast.

    Args:
        matrix: [rows, columns].
        dtype: of the products. Jordan's is bfloat16, which is enough where the hardware computes in it; a processor
            that emulates it is many times slower than in float32.
    """
    a, b, c = QUINTIC
    tall = matrix.size(0) > matrix.size(1)
    x = (matrix.T if tall else matrix).to(dtype)
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T  # [rows, rows], the smaller side
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Steps of equal size in every direction of a matrix: w ← w − lr · orthogonalize(momentum).

    For matrices and convolution kernels (flattened to [out, in · height · width]); biases, norms and the last
    layer belong to another optimizer.

    Args:
        normalize: also scales each weight to Frobenius norm √rows before the step, as
            cifar10-airbench does; with batch norm behind every layer the scale is free, and fixing it makes the
            learning rate an angle.
        weight_decay: decoupled (Loshchilov & Hutter 2019): w ← (1 − lr · weight_decay) · w before the step.
        dtype: as of `orthogonalize`.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        iterations: int = 5,
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
            "iterations": iterations,
            "normalize": normalize,
            "weight_decay": weight_decay,
        }
        super().__init__(parameters, defaults)
        self.dtype = dtype
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dim() < 2:
                    raise ValueError("Muon is for matrices and kernels; give vectors to another optimizer")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
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
                update = orthogonalize(gradient.reshape(len(gradient), -1), group["iterations"], self.dtype)
                if group["normalize"]:
                    parameter.mul_(len(parameter) ** 0.5 / parameter.norm())
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view(parameter.shape), alpha=-group["lr"])
        return loss
