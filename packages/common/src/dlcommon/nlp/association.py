"""Association tests: whether two sets of words lean towards different sets of attributes.

WEAT, Caliskan et al. 2017 (https://arxiv.org/abs/1608.07187).
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def associations(targets: Tensor, attributes_a: Tensor, attributes_b: Tensor) -> Tensor:
    """Computes how much nearer each target is to attributes A than to B, as a difference of mean cosines, [targets].

    Args:
        targets: vectors [targets, dim].
        attributes_a: vectors [any, dim].
        attributes_b: vectors [any, dim].
    """
    unit = F.normalize(targets, dim=-1)
    return (unit @ F.normalize(attributes_a, dim=-1).T).mean(dim=1) - (unit @ F.normalize(attributes_b, dim=-1).T).mean(
        dim=1
    )


def effect_size(first: Tensor, second: Tensor) -> float:
    """Computes the difference of the mean associations of two target sets in standard deviations of all of them.

    It is between -2 and 2 for sets of one size.
    """
    return ((first.mean() - second.mean()) / torch.cat((first, second)).std()).item()


def permutation_p_value(first: Tensor, second: Tensor, rng: np.random.Generator, permutations: int = 10_000) -> float:
    """Estimates how often targets dealt at random into two sets of these sizes differ as much, in this direction.

    The observed deal counts as one of them, so that the value is never 0.
    """
    together = torch.cat((first, second)).double().numpy()
    observed = first.double().mean().item() - second.double().mean().item()
    dealt = rng.permuted(np.tile(together, (permutations, 1)), axis=1)  # [permutations, targets]
    differences = dealt[:, : len(first)].mean(axis=1) - dealt[:, len(first) :].mean(axis=1)
    return float(((differences >= observed - 1e-12).sum() + 1) / (permutations + 1))
