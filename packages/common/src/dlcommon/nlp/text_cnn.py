"""TextCNN: filters that slide over the words of a text (Kim 2014, https://arxiv.org/abs/1408.5882).

Shapes: token ids int64 [batch, tokens]; mask bool [batch, tokens], true for tokens, which stand before the padding.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


def windows(x: torch.Tensor, width: int) -> torch.Tensor:
    """Lays the vectors of `width` tokens side by side, one window beginning at each token.

    Args:
        x: [batch, tokens, dim], 0 in the padding.
        width: tokens in a window; those that reach beyond the end hold zeros there.

    Returns:
        [batch, tokens, width · dim].
    """
    padded = F.pad(x, (0, 0, 0, width - 1))  # zeros after the last token: every token begins a window
    return padded.unfold(1, width, 1).transpose(2, 3).flatten(2)  # unfold puts the window last: [.., dim, width]


def max_over_time(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Takes the largest value of each feature over a text's tokens: [batch, tokens, features] to [batch, features].

    Where in the text it was is lost; that the text may be of any length is gained (Kim 2014, section 2).
    """
    return features.masked_fill(~mask[:, :, None], -torch.inf).amax(dim=1)


class TextCNN(nn.Module):
    """Classifies texts by the strongest response of each filter anywhere in the text.

    Args:
        vocab_size: number of different tokens; 0 is the padding.
        num_classes: number of classes.
        dim: width of the word vectors.
        widths: numbers of words that filters look at.
        filters: number of filters of each width.
        dropout: probability of zeroing a pooled feature in training.
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        *,
        dim: int = 64,
        widths: Sequence[int] = (3, 4, 5),
        filters: int = 32,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.embedding = nn.Embedding(vocab_size, dim, padding_idx=0)
        # A convolution over words is a linear map of each window.
        self.filters = nn.ModuleList(nn.Linear(width * dim, filters) for width in self.widths)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(len(self.widths) * filters, num_classes)

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Maps token ids [batch, tokens] to logits [batch, num_classes]; padding changes nothing."""
        x = self.embedding(input_ids) * mask[:, :, None]
        pooled = [
            max_over_time(F.relu(filters(windows(x, width))), mask)
            for width, filters in zip(self.widths, self.filters, strict=True)
        ]
        logits: torch.Tensor = self.classifier(self.dropout(torch.cat(pooled, dim=1)))
        return logits
