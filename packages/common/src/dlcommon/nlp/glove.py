"""GloVe: word vectors from a table of co-occurrences by weighted least squares.

Pennington et al. 2014 (https://aclanthology.org/D14-1162). The table is dense here, and every update sees all of it,
which suits a vocabulary of one or two thousand words; the authors' program takes the nonzero entries one by one.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def cooccurrences(ids: np.ndarray, vocab_size: int, window: int) -> np.ndarray:
    """Counts how often words meet within a distance, each meeting weighted by 1 / distance (section 4.2).

    Args:
        ids: numbers of the tokens, int64 [tokens].
        vocab_size: number of different words.
        window: the largest distance.

    Returns:
        Symmetric, float64 [vocab, vocab].
    """
    table = np.zeros(vocab_size * vocab_size)
    for distance in range(1, window + 1):
        pairs = ids[:-distance] * vocab_size + ids[distance:]  # a pair as one number
        table += np.bincount(pairs, minlength=len(table)) / distance
    directed = table.reshape(vocab_size, vocab_size)
    symmetric: np.ndarray = directed + directed.T
    return symmetric


def glove_weights(counts: Tensor, x_max: float = 100.0, power: float = 0.75) -> Tensor:
    """Computes the weight of each entry, (x / x_max)^power, at most 1; entries of 0 get 0 (equation 9)."""
    return (counts / x_max).clamp(max=1.0) ** power


@dataclass
class GloVe:
    """Holds two vectors and two biases of each word."""

    input: Tensor
    """[vocab, dim]."""
    output: Tensor
    """[vocab, dim]."""
    input_bias: Tensor
    """[vocab]."""
    output_bias: Tensor
    """[vocab]."""

    @property
    def vectors(self) -> Tensor:
        """Sums of both vectors of each word, as the paper uses them (section 4.2), [vocab, dim]."""
        return self.input + self.output

    def gradients(self, log_counts: Tensor, weights: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Computes loss and gradients over the whole table (equation 8).

        Args:
            log_counts: logarithms of the co-occurrences, [vocab, vocab]; anything finite where the weight is 0.
            weights: of the entries, [vocab, vocab].

        Returns:
            The loss, and the gradients of input, output, input_bias and output_bias.
        """
        error = self.input @ self.output.T + self.input_bias[:, None] + self.output_bias - log_counts
        weighted = weights * error  # [vocab, vocab]
        loss = (weighted * error).sum()
        of_error = 2 * weighted
        return loss, [of_error @ self.output, of_error.T @ self.input, of_error.sum(dim=1), of_error.sum(dim=0)]


def train_glove(
    table: np.ndarray, seed: int, dim: int = 32, updates: int = 60, learning_rate: float = 0.05, x_max: float = 100.0
) -> tuple[GloVe, list[float]]:
    """Fits GloVe to a table of co-occurrences [vocab, vocab] with Adam.

    Returns:
        The model, and the loss before each update, divided by the sum of the weights: the mean squared error of log x.
    """
    counts = torch.from_numpy(table).float()
    weights, log_counts = glove_weights(counts, x_max), counts.clamp(min=1e-3).log()
    generator, size = torch.Generator().manual_seed(seed), len(table)
    first, second = ((torch.rand(size, dim, generator=generator) - 0.5) / dim for _ in range(2))
    model = GloVe(first, second, torch.zeros(size), torch.zeros(size))
    parameters = [model.input, model.output, model.input_bias, model.output_bias]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    losses = []
    for _ in range(updates):
        loss, gradients = model.gradients(log_counts, weights)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        losses.append((loss / weights.sum()).item())
    return model, losses
