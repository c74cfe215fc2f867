"""A linear-chain conditional random field: a distribution over whole sequences of tags (Lafferty et al. 2001).

A network scores each tag at each token, the emissions; the field adds a score for each pair of neighboring tags, and
compares whole paths. Neural taggers end in it since Collobert et al. 2011 (https://arxiv.org/abs/1103.0398) and
Lample et al. 2016 (https://arxiv.org/abs/1603.01360).

Shapes: emissions [batch, tokens, tags]; tags int64 [batch, tokens]; mask bool [batch, tokens], true for tokens, which
stand before the padding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from dlcommon.nlp.bio_tags import can_follow

IGNORED = -100
"""What decoded paths hold in the padding; `ignore_index` of `F.cross_entropy`."""
FORBIDDEN = -1e4
"""Score of a forbidden move: finite, since −inf − (−inf) in a gradient is not a number."""


class ChainWeights(NamedTuple):
    """Scores of tags beside each other, whatever the tokens are."""

    start: torch.Tensor
    """Of the first tag, [tags]."""
    transitions: torch.Tensor
    """Of a tag (row) being followed by another (column), [tags, tags]."""
    end: torch.Tensor
    """Of the last tag, [tags]."""


def path_score(emissions: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor, weights: ChainWeights) -> torch.Tensor:
    """Adds up the scores along given paths: emissions, transitions, start and end.

    Args:
        emissions: [batch, tokens, tags].
        tags: the paths, int64 [batch, tokens]; anything in the padding.
        mask: bool [batch, tokens].
        weights: of the field.

    Returns:
        [batch].
    """
    tags = tags.masked_fill(~mask, 0)
    at_tokens = emissions.gather(2, tags[:, :, None]).squeeze(2)  # [batch, tokens]
    between = weights.transitions[tags[:, :-1], tags[:, 1:]]  # [batch, tokens - 1]
    last = tags.gather(1, mask.sum(dim=1, keepdim=True) - 1).squeeze(1)  # [batch]
    inside = (at_tokens * mask).sum(dim=1) + (between * mask[:, 1:]).sum(dim=1)
    return weights.start[tags[:, 0]] + inside + weights.end[last]


def log_partition(emissions: torch.Tensor, mask: torch.Tensor, weights: ChainWeights) -> torch.Tensor:
    """Computes log Σ exp(score) over all paths by the forward algorithm, in time tokens · tags².

    Args:
        emissions: [batch, tokens, tags].
        mask: bool [batch, tokens].
        weights: of the field.

    Returns:
        [batch].
    """
    alpha = weights.start + emissions[:, 0]  # [batch, tags]: log-sum over the paths that end in each tag
    for t in range(1, emissions.size(1)):
        # [batch, from, 1] + [from, to]: the sum is taken over the tag before.
        extended = torch.logsumexp(alpha[:, :, None] + weights.transitions, dim=1) + emissions[:, t]
        alpha = torch.where(mask[:, t, None], extended, alpha)  # padding extends nothing
    return torch.logsumexp(alpha + weights.end, dim=1)


def viterbi(emissions: torch.Tensor, mask: torch.Tensor, weights: ChainWeights) -> tuple[torch.Tensor, torch.Tensor]:
    """Finds the best path of each sequence: the forward algorithm with the maximum in place of the sum.

    Args:
        emissions: [batch, tokens, tags].
        mask: bool [batch, tokens].
        weights: of the field.

    Returns:
        The paths, int64 [batch, tokens], `IGNORED` in the padding, and their scores [batch].
    """
    best = weights.start + emissions[:, 0]  # [batch, tags]: score of the best path that ends in each tag
    stay = torch.arange(emissions.size(2), device=emissions.device)
    pointers = []
    for t in range(1, emissions.size(1)):
        scores, before = (best[:, :, None] + weights.transitions).max(dim=1)  # both [batch, to]
        best = torch.where(mask[:, t, None], scores + emissions[:, t], best)
        pointers.append(torch.where(mask[:, t, None], before, stay))  # the tag before, or in padding the same
    score, tag = (best + weights.end).max(dim=1)
    path = [tag]
    for before in reversed(pointers):
        path.append(before.gather(1, path[-1][:, None]).squeeze(1))
    return torch.stack(path[::-1], dim=1).masked_fill(~mask, IGNORED), score


def marginals(emissions: torch.Tensor, mask: torch.Tensor, weights: ChainWeights) -> torch.Tensor:
    """Computes the probability of each tag at each token, summed over all paths: the gradient of `log_partition`.

    Args:
        emissions: [batch, tokens, tags].
        mask: bool [batch, tokens].
        weights: of the field.

    Returns:
        [batch, tokens, tags], without a graph; 0 in the padding.
    """
    with torch.enable_grad():
        inputs = emissions.detach().requires_grad_()
        total = log_partition(inputs, mask, ChainWeights(*(weight.detach() for weight in weights))).sum()
    return torch.autograd.grad(total, inputs)[0]


class ConditionalRandomField(nn.Module):
    """Scores sequences of tags as a whole; all weights begin at 0, where it is a softmax at each token.

    Args:
        tags: their names. Those of BIO get the rules of BIO: an I continues its own label.
        constrained: whether what breaks these rules is impossible; otherwise the weights have to learn it.
    """

    def __init__(self, tags: Sequence[str], *, constrained: bool = True) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(len(tags)))
        self.transitions = nn.Parameter(torch.zeros(len(tags), len(tags)))
        self.end = nn.Parameter(torch.zeros(len(tags)))
        starts, moves = forbidden_moves(tags)
        self.register_buffer("forbidden_starts", starts & constrained, persistent=False)
        self.register_buffer("forbidden_moves", moves & constrained, persistent=False)

    def weights(self) -> ChainWeights:
        """Returns the weights, `FORBIDDEN` where the rules say so."""
        return ChainWeights(
            self.start.masked_fill(self.get_buffer("forbidden_starts"), FORBIDDEN),
            self.transitions.masked_fill(self.get_buffer("forbidden_moves"), FORBIDDEN),
            self.end,
        )

    def forward(self, emissions: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Computes the negative log-likelihood of the true paths, [batch].

        Raises:
            ValueError: a sequence is empty, or its tokens do not stand before the padding.
        """
        require_prefix_mask(mask)
        weights = self.weights()
        return log_partition(emissions, mask, weights) - path_score(emissions, tags, mask, weights)

    @torch.no_grad()
    def decode(self, emissions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Finds the most probable paths, int64 [batch, tokens], `IGNORED` in the padding.

        Raises:
            ValueError: a sequence is empty, or its tokens do not stand before the padding.
        """
        require_prefix_mask(mask)
        return viterbi(emissions, mask, self.weights())[0]


def forbidden_moves(tags: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tells which BIO tags cannot begin a sentence, bool [tags], and which cannot follow which, bool [tags, tags]."""
    starts = [not can_follow(None, tag) for tag in tags]
    moves = [[not can_follow(before, tag) for tag in tags] for before in tags]
    return torch.tensor(starts), torch.tensor(moves)


def require_prefix_mask(mask: torch.Tensor) -> None:
    """Raises ValueError unless each sequence has a token, and no token follows padding."""
    if not mask[:, 0].all():
        raise ValueError(f"sequence {int((~mask[:, 0]).nonzero()[0])} of the batch has no tokens")
    if (mask[:, 1:] & ~mask[:, :-1]).any():
        raise ValueError("the mask has tokens after padding; put the tokens first")
