"""Gradient penalties: regularizers of a discriminator's slope with respect to its input, differentiable once more.

All take logits and the samples they were computed from, so that the pass of the loss serves the penalty as well. A
network with batch norm mixes the samples of a batch, and its logits have no gradient of one sample alone: use none, or
another normalization.
"""

from collections.abc import Callable

import torch


def input_gradients(logits: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Computes ∂D(x)/∂x for each sample, keeping the graph, so that a penalty of it can be minimized.

    Args:
        logits: one for each sample, [batch] or [batch, 1].
        samples: what the logits were computed from, [batch, …].

    Returns:
        Gradients shaped like the samples.

    Raises:
        ValueError: there is not one logit for each sample, or the samples did not require gradients.
    """
    if logits.numel() != len(samples):
        raise ValueError(f"{logits.numel()} logits for {len(samples)} samples; the discriminator gives one for each")
    if not samples.requires_grad:
        raise ValueError("samples need gradients: call samples.requires_grad_() before the discriminator sees them")
    # Logit i depends on sample i only, so the gradient of the sum holds each sample's own gradient.
    gradients: torch.Tensor = torch.autograd.grad(logits.sum(), samples, create_graph=True)[0]
    return gradients


def input_gradient_norms(logits: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Computes ‖∂D(x)/∂x‖₂ for each sample, [batch].

    The largest one over the input space is the smallest Lipschitz constant of a differentiable D.

    Raises:
        ValueError: as `input_gradients`.
    """
    # torch's norm has the gradient 0 at 0, where the square root of a sum of squares has nan.
    norms: torch.Tensor = torch.linalg.vector_norm(input_gradients(logits, samples).flatten(1), dim=1)
    return norms


def zero_centered_penalty(logits: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Computes E ‖∂D(x)/∂x‖²: R1 of real samples, R2 of generated ones (Mescheder et al. 2018, equations 9 and 10).

    https://arxiv.org/abs/1801.04406. The paper adds γ / 2 times this to the discriminator's loss.

    Args:
        logits: [batch] or [batch, 1].
        samples: [batch, …]; generated ones detached from the generator, both with `requires_grad_()`.

    Raises:
        ValueError: as `input_gradients`.
    """
    return input_gradients(logits, samples).flatten(1).square().sum(dim=1).mean()


def one_centered_penalty(logits: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Computes E (‖∂D(x)/∂x‖ − 1)², which pulls the slope at the samples to 1.

    Raises:
        ValueError: as `input_gradients`.
    """
    return (input_gradient_norms(logits, samples) - 1).square().mean()


def interpolate(real: torch.Tensor, fake: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draws a point uniformly on the line between each real and its fake sample, cut off from both graphs.

    Returns:
        [batch, …], requiring gradients.

    Raises:
        ValueError: the shapes differ.
    """
    if real.shape != fake.shape:
        raise ValueError(f"real {list(real.shape)} and fake {list(fake.shape)} samples differ in shape")
    device = real.device if generator is None else generator.device
    share = torch.rand(len(real), *[1] * (real.dim() - 1), generator=generator, dtype=real.dtype, device=device)
    return torch.lerp(real.detach(), fake.detach(), share.to(real.device)).requires_grad_()


def wgan_gp_penalty(
    critic: Callable[[torch.Tensor], torch.Tensor],
    real: torch.Tensor,
    fake: torch.Tensor,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Computes E (‖∂f(x̂)/∂x̂‖ − 1)² at points x̂ between real and fake samples (Gulrajani et al. 2017, equation 3).

    https://arxiv.org/abs/1704.00028. The paper adds λ = 10 times this to the critic's loss. In one dimension a critic
    that begins with the wrong sign is stuck there, since slope 0 costs λ; begin with a small weight.

    Args:
        critic: maps [batch, …] to [batch] or [batch, 1], without batch norm.
        real: [batch, …].
        fake: as many.
        generator: source of the random points; None for torch's global one.

    Raises:
        ValueError: the shapes differ, or the critic does not give one score for each sample.
    """
    points = interpolate(real, fake, generator)
    return one_centered_penalty(critic(points), points)
