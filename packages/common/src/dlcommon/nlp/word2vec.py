"""word2vec: skip-gram and CBOW with negative sampling.

Mikolov et al. 2013a (https://arxiv.org/abs/1301.3781) for the two models, 2013b (https://arxiv.org/abs/1310.4546) for
negative sampling and subsampling. Gradients are written by hand. Both models are one: a `hidden` vector, the mean of
some input vectors, is to have a high product with the output vector of one word, and a low one with those of noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def keep_probability(counts: np.ndarray, threshold: float) -> np.ndarray:
    """Computes the probability that an occurrence of each word is kept, √(t / f), at most 1 (2013b, equation 5).

    Args:
        counts: of the words, [vocab].
        threshold: t; words of a lower relative frequency f are always kept. (The authors' C program and gensim use
            √(t / f) + t / f instead, which is a little more.)
    """
    kept: np.ndarray = np.minimum(1.0, np.sqrt(threshold * counts.sum() / counts))
    return kept


def noise_distribution(counts: np.ndarray, power: float = 0.75) -> np.ndarray:
    """Computes the probability with which each word is drawn as noise, proportional to count^power, [vocab]."""
    weights = counts.astype(np.float64) ** power
    probabilities: np.ndarray = weights / weights.sum()
    return probabilities


def context_windows(ids: np.ndarray, window: int, rng: np.random.Generator) -> np.ndarray:
    """Collects the neighbors of every token, up to a distance drawn for each from 1 to `window`.

    Near words are thereby seen more often than far ones.

    Args:
        ids: numbers of the tokens, int64 [tokens].
        window: the largest distance.
        rng: of the distances.

    Returns:
        int64 [tokens, 2 · window], the neighbors at distances -window … -1, 1 … window; -1 where there is none.
    """
    reach = rng.integers(1, window + 1, size=len(ids))
    distances = np.concatenate((np.arange(-window, 0), np.arange(1, window + 1)))
    places = np.arange(len(ids))[:, None] + distances  # [tokens, 2 · window]
    there = (places >= 0) & (places < len(ids)) & (np.abs(distances) <= reach[:, None])
    return np.where(there, ids[places.clip(0, len(ids) - 1)], -1)


def skip_gram_examples(ids: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Makes one example of each pair: the word itself is the input, one neighbor the target.

    Returns:
        Inputs [pairs, 1] and targets [pairs].
    """
    centers, slots = np.nonzero(windows >= 0)
    return ids[centers, None], windows[centers, slots]


def cbow_examples(ids: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Makes one example of each token: all its neighbors are the input, the word itself the target.

    Returns:
        Inputs [tokens, 2 · window], -1 where there is no neighbor, and targets [tokens], without tokens that have none.
    """
    some = (windows >= 0).any(axis=1)
    return windows[some], ids[some]


def negative_sampling(
    hidden: Tensor, positive: Tensor, negative: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Computes the loss of negative sampling and its gradients (2013b, equation 4, with the sign of a loss).

    All examples share their noise words, so that the products are matrix products (as Ji et al. 2016 do,
    https://arxiv.org/abs/1604.04661); with `weight` = negatives / noise, its mean is that of the paper's loss with as
    many negatives of its own for each example.

    Args:
        hidden: [batch, dim].
        positive: output vectors of the true words, [batch, dim].
        negative: output vectors of the noise words, [noise, dim].
        weight: of each noise word in each example, [batch, noise].

    Returns:
        The loss, summed over the batch, and its gradients with respect to hidden, positive and negative.
    """
    positive_logits = (hidden * positive).sum(dim=1)  # [batch]
    negative_logits = hidden @ negative.T  # [batch, noise]
    # -log σ(x) = softplus(-x)
    loss = F.softplus(-positive_logits).sum() + (weight * F.softplus(negative_logits)).sum()
    # The derivative of the loss with respect to a logit is probability - answer, as in logistic regression.
    positive_error = (torch.sigmoid(positive_logits) - 1)[:, None]  # [batch, 1]
    negative_error = weight * torch.sigmoid(negative_logits)  # [batch, noise]
    hidden_grad = positive_error * positive + negative_error @ negative
    return loss, hidden_grad, positive_error * hidden, negative_error.T @ hidden


@dataclass
class Word2Vec:
    """Holds two vectors of each word: one for it as input, which is the one that is kept, one for it as output."""

    input: Tensor
    """[vocab, dim]."""
    output: Tensor
    """[vocab, dim]."""

    @classmethod
    def initialize(
        cls, vocab_size: int, dim: int, generator: torch.Generator, input_size: int | None = None
    ) -> "Word2Vec":
        """Draws input vectors from ±1 / (2 · dim), as the authors' program does; output vectors are 0."""
        rows = input_size or vocab_size
        return cls((torch.rand(rows, dim, generator=generator) - 0.5) / dim, torch.zeros(vocab_size, dim))

    def gradients(
        self, inputs: Tensor, targets: Tensor, noise: Tensor, negatives: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Computes loss and gradients of a batch.

        Args:
            inputs: numbers of the input words, [batch, width]; -1 for none, at least one in each row.
            targets: number of the word to predict, [batch].
            noise: numbers of the noise words, [noise].
            negatives: how many noise words count against one true word: k of the paper.

        Returns:
            The loss, summed, and the gradients of the input and the output vectors, both [vocab, dim].
        """
        there = (inputs >= 0).to(self.input.dtype)
        share = there / there.sum(dim=1, keepdim=True)  # [batch, width], rows sum to 1
        rows = inputs.clamp(min=0)
        hidden = (share[:, :, None] * self.input[rows]).sum(dim=1)  # [batch, dim]
        # A noise word that is the true one by accident does not count.
        weight = (noise != targets[:, None]).to(hidden.dtype) * (negatives / len(noise))  # [batch, noise]
        loss, hidden_grad, positive_grad, negative_grad = negative_sampling(
            hidden, self.output[targets], self.output[noise], weight
        )
        spread = share[:, :, None] * hidden_grad[:, None]  # [batch, width, dim]: the mean's chain rule
        # Each word gets the sum over all its occurrences in the batch.
        input_grad = torch.zeros_like(self.input).index_add_(0, rows.flatten(), spread.flatten(0, 1))
        output_grad = torch.zeros_like(self.output).index_add_(0, targets, positive_grad)
        return loss, input_grad, output_grad.index_add_(0, noise, negative_grad)


def train_word2vec(
    ids: np.ndarray,
    counts: np.ndarray,
    seed: int,
    model: Literal["skip-gram", "cbow"] = "skip-gram",
    dim: int = 32,
    window: int = 2,
    negatives: float = 5.0,
    epochs: int = 3,
    batch_size: int = 2048,
    noise_words: int = 32,
    learning_rate: float = 0.3,
    threshold: float = 5e-4,
    subwords: np.ndarray | None = None,
) -> tuple[Word2Vec, list[float]]:
    """Trains word vectors with Adagrad, at a learning rate that falls linearly to a tenth.

    Args:
        ids: the corpus as numbers of words, int64 [tokens].
        counts: of the words in the corpus, [vocab].
        seed: of everything that is drawn.
        model: which examples are made.
        dim: of the vectors.
        window: the largest distance between a word and its context.
        negatives: weight of all noise words together, compared with one true word.
        epochs: passes over the corpus, each with words dropped and windows drawn anew.
        batch_size: examples for each update.
        noise_words: drawn for each update, shared by its examples.
        learning_rate: of Adagrad at the start.
        threshold: of subsampling.
        subwords: rows of the input table whose mean is the input of each word, [vocab, width], -1 for none; by default
            each word has a row of its own. Makes fastText of skip-gram (`dlcommon.nlp.subwords`).

    Returns:
        The vectors, and the mean loss of an example in each epoch.

    Raises:
        ValueError: subwords are given for CBOW.
    """
    if subwords is not None and model != "skip-gram":
        raise ValueError(f"subwords are made for skip-gram, not {model}")
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    keep, noise = keep_probability(counts, threshold), torch.from_numpy(noise_distribution(counts))
    vectors = Word2Vec.initialize(len(counts), dim, generator, None if subwords is None else int(subwords.max()) + 1)
    optimizer = torch.optim.Adagrad([vectors.input, vectors.output], lr=learning_rate, fused=True)
    losses = []
    for epoch in range(epochs):
        kept = ids[rng.random(len(ids)) < keep[ids]]
        make = skip_gram_examples if model == "skip-gram" else cbow_examples
        inputs, targets = make(kept, context_windows(kept, window, rng))
        if subwords is not None:
            inputs = subwords[inputs[:, 0]]  # [pairs, 1] to [pairs, width]
        total, updates = torch.zeros(()), -(-len(targets) // batch_size)
        drawn = torch.multinomial(noise, updates * noise_words, replacement=True, generator=generator)
        for update, batch in enumerate(_batches(len(targets), batch_size, rng)):
            done = (epoch + update / updates) / epochs
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - 0.9 * done)
            loss, vectors.input.grad, vectors.output.grad = vectors.gradients(
                torch.from_numpy(inputs[batch]),
                torch.from_numpy(targets[batch]),
                drawn[update * noise_words : (update + 1) * noise_words],
                negatives,
            )
            optimizer.step()
            total += loss
        losses.append(total.item() / len(targets))
    return vectors, losses


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    order = rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]
