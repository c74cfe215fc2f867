"""What is wrong with a set of vectors as a whole: a common direction, rows that are shared."""

import torch
from torch import Tensor
from torch.nn import functional as F


def mean_cosine(vectors: Tensor) -> float:
    """Computes the mean cosine of all pairs of different vectors [n, dim]: 0 if they point everywhere alike.

    The sum over all pairs is the squared length of the sum of the unit vectors, so no [n, n] matrix is needed.
    """
    unit, n = F.normalize(vectors.double(), dim=-1), len(vectors)
    return ((unit.sum(dim=0).square().sum() - unit.square().sum()) / (n * (n - 1))).item()


def all_but_the_top(vectors: Tensor, components: int) -> Tensor:
    """Subtracts the mean of vectors [n, dim], then their largest principal components.

    Mu & Viswanath 2018 (https://arxiv.org/abs/1702.01417, algorithm 1); with 0 components only the mean is removed.
    """
    centered = vectors - vectors.mean(dim=0)
    if components == 0:
        return centered
    # The directions are eigenvectors of the covariance, [dim, dim], largest last.
    directions: Tensor = torch.linalg.eigh(centered.T @ centered).eigenvectors[:, -components:]
    return centered - centered @ directions @ directions.T


def prune_vectors(vectors: Tensor, keep: int) -> Tensor:
    """Lets each word but the first `keep` share the row of the kept word that is nearest by cosine.

    spaCy's `Vocab.prune_vectors` does so to make a package smaller.

    Args:
        vectors: most frequent word first, [vocab, dim].
        keep: number of rows that stay.

    Returns:
        The row of each word, from 0 to keep - 1, [vocab].
    """
    unit = F.normalize(vectors, dim=-1)
    rows = torch.arange(len(vectors))
    rows[keep:] = (unit[keep:] @ unit[:keep].T).argmax(dim=1)
    return rows
