"""Losses that pull embeddings of one identity together and push those of others apart, by pairs and triplets."""

import torch
from torch.nn import functional as F


def pairwise_distances(embeddings: torch.Tensor, eps: float = 1e-12) -> torch.Tensor:
    """Computes the Euclidean distances of all pairs, with a gradient that is 0, not NaN, where they coincide.

    Args:
        embeddings: [samples, dim].
        eps: squared distances below this count as 0.

    Returns:
        [samples, samples].
    """
    differences = embeddings[:, None] - embeddings  # [samples, samples, dim]
    squared = differences.square().sum(dim=-1)
    apart = squared > eps
    return torch.where(apart, squared, 1.0).sqrt() * apart  # the square root of 0 has no derivative


def contrastive_loss(distances: torch.Tensor, same: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """Computes the mean of d² for equal identities and max(0, margin − d)² for others (Hadsell et al. 2006).

    The paper halves both terms.

    Args:
        distances: of pairs, [...].
        same: bool [...]: whether the pair is of one identity.
        margin: distance from which on different identities cost nothing.
    """
    return torch.where(same, distances.square(), F.relu(margin - distances).square()).mean()


def triplet_loss(positive: torch.Tensor, negative: torch.Tensor, margin: float = 0.2) -> torch.Tensor:
    """Computes the mean of max(0, positive − negative + margin) over triplets (Schroff et al. 2015).

    https://arxiv.org/abs/1503.03832, section 3.1, which has squared distances; torch.nn.TripletMarginLoss and most code
    since have plain ones, as here where plain ones are handed in.

    Args:
        positive: distances of anchors to another sample of their identity, [triplets].
        negative: distances of anchors to a sample of another identity, [triplets].
        margin: by how much the negative has to be farther than the positive.

    Returns:
        A scalar; 0, with a gradient of 0, for no triplets.
    """
    losses = F.relu(positive - negative + margin)
    return losses.sum() / max(len(losses), 1)


def all_triplets(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lists all triplets of a batch: anchor, another sample of its identity, a sample of another identity.

    Args:
        labels: [samples].

    Returns:
        Indices of anchors, positives and negatives, each int64 [triplets].
    """
    same = labels[:, None] == labels
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchors, positives, negatives = (positive[:, :, None] & ~same[:, None, :]).nonzero().unbind(1)
    return anchors, positives, negatives


def semi_hard_triplets(
    distances: torch.Tensor, labels: torch.Tensor, margin: float = 0.2
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lists the triplets whose negative is farther than the positive, but within the margin (Schroff et al. 2015).

    Easier ones cost nothing. In harder ones the negative is nearer than the positive; trained on these alone, early
    on, a network can collapse to one point.

    Args:
        distances: of all pairs, [samples, samples].
        labels: [samples].
        margin: that of the loss.

    Returns:
        Indices of anchors, positives and negatives, each int64 [triplets].
    """
    anchors, positives, negatives = all_triplets(labels)
    gap = distances[anchors, negatives] - distances[anchors, positives]
    chosen = (gap > 0) & (gap <= margin)
    return anchors[chosen], positives[chosen], negatives[chosen]
