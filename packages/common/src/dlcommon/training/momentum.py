"""Theory of gradient descent with momentum on quadratics: how fast it converges, and where noise stops it.

Along an eigenvector of the Hessian, with curvature h and distance x from the minimum, the gradient is h·x, and every
method here is a linear recursion x_{t+1} = b·x_t − c·x_{t−1}. Symbols: η the learning rate `lr`, μ the momentum.
"""

import torch


def convergence_factor(
    curvature: torch.Tensor, lr: float | torch.Tensor, momentum: float | torch.Tensor = 0.0, nesterov: bool = False
) -> torch.Tensor:
    """Computes the factor by which the distance shrinks per step in the long run, for each curvature.

    It is the larger absolute root of z² − b·z + c, with b = 1 + μ − ηh and c = μ (heavy ball, Polyak 1964), or
    b = (1 + μ)(1 − ηh) and c = μ(1 − ηh) (Nesterov 1983). Complex roots have the absolute value √c.

    Args:
        curvature: h, eigenvalues of the Hessian.
        lr: η.
        momentum: μ. All three broadcast against each other.
        nesterov: computes it for Nesterov's form.

    Returns:
        The factor, of the broadcast shape; above 1 the method diverges.
    """
    remaining = 1 - lr * curvature  # of the distance, after a step of plain descent
    b = (1 + momentum) * remaining if nesterov else momentum + remaining
    c = momentum * remaining if nesterov else momentum * torch.ones_like(remaining)
    discriminant = b.square() - 4 * c
    real = (b.abs() + discriminant.clamp(min=0).sqrt()) / 2
    return torch.where(discriminant < 0, c.clamp(min=0).sqrt(), real)


def optimal_nesterov(smallest: float, largest: float) -> tuple[float, float, float]:
    """Computes the learning rate and momentum that make Nesterov's form fastest on curvatures in a positive range.

    With κ = λmax / λmin (Lessard et al. 2016, https://arxiv.org/abs/1408.3595). For the heavy ball see
    `dlcommon.mathematics.descent.optimal_momentum`.

    Returns:
        η = 4 / (3·λmax + λmin), μ = (√(3κ + 1) − 2) / (√(3κ + 1) + 2), and the factor 1 − 2 / √(3κ + 1) per step.
    """
    root: float = (3 * largest / smallest + 1) ** 0.5
    return 4 / (3 * largest + smallest), (root - 2) / (root + 2), 1 - 2 / root


def noise_floor(
    curvature: torch.Tensor, noise_variance: torch.Tensor, lr: float, momentum: float = 0.0
) -> torch.Tensor:
    """Computes the loss above the minimum at which SGD at a constant rate stays on average.

    The noise of the gradient has a constant variance and is independent from step to step, so that each distance is an
    autoregressive process of order two, with the variance ησ²(1 + μ) / ((1 − μ)·h·(2(1 + μ) − ηh)). For small η this
    makes the floor η / (1 − μ) · Σσ² / 4.

    Args:
        curvature: h, eigenvalues of the Hessian, [n].
        noise_variance: σ², of the minibatch gradient along each eigenvector, [n]: that of a single sample divided by
            the batch size.
        lr: η.
        momentum: μ, of the heavy ball.

    Returns:
        Σ h/2 · variance of the distance, a scalar; infinite where descent diverges.
    """
    room = 2 * (1 + momentum) - lr * curvature  # positive as long as it is stable
    floor = lr * noise_variance * (1 + momentum) / (2 * (1 - momentum) * room)
    return torch.where(room > 0, floor, torch.inf).sum()
