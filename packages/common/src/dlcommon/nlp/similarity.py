"""Which words lie near each other, and how well that agrees with what is known of them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def nearest_neighbors(vectors: Tensor, ids: Sequence[int], count: int) -> Tensor:
    """Finds the words with the largest cosine to each of the given ones, the word itself left out.

    Args:
        vectors: of all words, [vocab, dim].
        ids: numbers of the words to find neighbors of.
        count: of neighbors.

    Returns:
        Numbers of the neighbors, nearest first, [ids, count].
    """
    unit, which = F.normalize(vectors, dim=-1), torch.tensor(ids)
    cosines = unit[which] @ unit.T  # [ids, vocab]
    cosines[torch.arange(len(which)), which] = -torch.inf
    return cosines.topk(count, dim=1).indices


def neighbor_precision(vectors: Tensor, group: Sequence[int]) -> list[float]:
    """Computes, for each of n words that belong together, which share of its n - 1 nearest neighbors are the others.

    Raises:
        ValueError: the group has fewer than two words.
    """
    if len(group) < 2:
        raise ValueError("a group needs two words or more")
    near = nearest_neighbors(vectors, group, len(group) - 1)
    return torch.isin(near, torch.tensor(group)).double().mean(dim=1).tolist()


def solve_analogies(
    vectors: Tensor, a: Sequence[int], b: Sequence[int], c: Sequence[int], exclude: bool = True
) -> Tensor:
    """Answers "a is to b as c is to …" by the word with the largest cosine to b - a + c, vectors of length 1 (3CosAdd).

    Mikolov et al. 2013 (https://aclanthology.org/N13-1090, section 4).

    Args:
        vectors: of all words, [vocab, dim].
        a: numbers of the words, [questions].
        b: as a.
        c: as a.
        exclude: whether the three words of a question cannot be its answer, as is usual.

    Returns:
        Numbers of the answers, [questions].
    """
    unit = F.normalize(vectors, dim=-1)
    words = torch.tensor([list(a), list(b), list(c)])  # [3, questions]
    cosines = (unit[words[1]] - unit[words[0]] + unit[words[2]]) @ unit.T  # up to a factor for each question
    if exclude:
        cosines.scatter_(1, words.T, -torch.inf)
    return cosines.argmax(dim=1)


def neighbor_agreement(first: Tensor, second: Tensor, ids: Sequence[int], count: int = 10) -> float:
    """Computes which share of the nearest neighbors is the same in two sets of vectors.

    Vectors of two seeds are rotated against each other, so that they cannot be compared directly; neighborhoods can.

    Args:
        first: [vocab, dim].
        second: of the same words, [vocab, any dim].
        ids: numbers of the words whose neighbors are compared.
        count: of neighbors.
    """
    near = [nearest_neighbors(vectors, ids, count) for vectors in (first, second)]
    return (near[0][:, :, None] == near[1][:, None, :]).any(dim=2).double().mean().item()


def nearest_label_accuracy(vectors: Tensor, ids: Sequence[int], labels: Sequence[int]) -> float:
    """Computes how often the nearest of the other given words has the same label (leave-one-out, one neighbor)."""
    of = torch.tensor(labels)
    return (of[nearest_neighbors(vectors[torch.tensor(ids)], range(len(ids)), 1)[:, 0]] == of).double().mean().item()
