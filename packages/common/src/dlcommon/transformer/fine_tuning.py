"""Choosing what is trained in a pretrained encoder, and how fast.

Both functions take the parts of a network in order, from the input to the output: embeddings, layers, head.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn


def freeze_all_but_last(parts: Sequence[nn.Module], count: int) -> None:
    """Lets only the last `count` parts be trained; the others get no gradients.

    Raises:
        ValueError: there are not so many parts.
    """
    if not 0 <= count <= len(parts):
        raise ValueError(f"count must be from 0 to {len(parts)}, not {count}")
    for number, part in enumerate(parts):
        part.requires_grad_(number >= len(parts) - count)


def layerwise_param_groups(
    parts: Sequence[nn.Module], lr: float, *, decay: float, weight_decay: float = 0.01
) -> list[dict[str, Any]]:
    """Builds an optimizer's parameter groups with a learning rate that falls from part to part towards the input.

    The last part is trained with `lr`, each part before it with `decay` times the rate of the next (Howard & Ruder
    2018, https://arxiv.org/abs/1801.06146, section 3.2). Weights of matrices are decayed; biases and the parameters of
    normalization, all vectors, are not. Frozen parameters are left out.

    Args:
        parts: from the input to the output.
        lr: learning rate of the last part.
        decay: factor from each part to the one before, in (0, 1]; 1 trains all at the same rate.
        weight_decay: of matrices.

    Raises:
        ValueError: `decay` is out of range.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be above 0 and at most 1, not {decay}")
    groups = []
    for number, part in enumerate(parts):
        rate = lr * decay ** (len(parts) - 1 - number)
        trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
        for is_matrix in (True, False):
            chosen = [parameter for parameter in trained if (parameter.ndim >= 2) == is_matrix]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": weight_decay if is_matrix else 0.0})
    return groups
