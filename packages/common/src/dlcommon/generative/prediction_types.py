"""What a diffusion model predicts: the noise ε, the data x_0 or the velocity v. Each follows from each other.

x_t = √ᾱ x_0 + √(1 − ᾱ) ε is one equation: with x_t at hand, whoever knows one of the three knows all. They differ in
what an error costs: ‖ε − ε̂‖² = SNR ‖x_0 − x̂_0‖² and ‖v − v̂‖² = (1 + SNR) ‖x_0 − x̂_0‖².
"""

from typing import Literal

import torch

PredictionType = Literal["epsilon", "sample", "v_prediction"]
"""Named as in diffusers; `sample` is x_0."""


def training_target(
    x0: torch.Tensor, noise: torch.Tensor, alpha_bar: torch.Tensor, prediction_type: PredictionType
) -> torch.Tensor:
    """Computes what the model should predict: ε, x_0, or v = √ᾱ ε − √(1 − ᾱ) x_0.

    v: Salimans & Ho 2022, section 4 (https://arxiv.org/abs/2202.00512).

    Args:
        x0: clean data, [batch, ...].
        noise: ε, shaped like `x0`.
        alpha_bar: ᾱ_t, broadcastable to `x0`.
        prediction_type: what the model predicts.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return x0
    return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x0


def x0_and_noise(
    prediction: torch.Tensor, x_t: torch.Tensor, alpha_bar: torch.Tensor, prediction_type: PredictionType
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the x_0 and ε that a prediction at `x_t` stands for.

    Args:
        prediction: the model's output, [batch, ...].
        x_t: noisy data, shaped like `prediction`.
        alpha_bar: ᾱ_t, broadcastable to `x_t`.
        prediction_type: what the model predicts.

    Returns:
        x̂_0 and ε̂, both shaped like `x_t`; together they give x_t again.
    """
    signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    if prediction_type == "epsilon":
        return (x_t - sigma * prediction) / signal, prediction
    if prediction_type == "sample":
        return prediction, (x_t - signal * prediction) / sigma
    return signal * x_t - sigma * prediction, signal * prediction + sigma * x_t
