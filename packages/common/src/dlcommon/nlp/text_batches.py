"""From token ids of texts to a batch and back to one vector a text: what tokenizers, collators and pipelines do.

Equal to `tokenizers` (truncation of pairs), transformers' `DataCollatorWithPadding`, and the recipe of
sentence-transformers (Reimers & Gurevych 2019, https://arxiv.org/abs/1908.10084): mean without padding, length 1.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch.nn import functional as F

from dlcommon.transformer.bert import mean_pool


def truncate_pair(first: Sequence[int], second: Sequence[int], max_tokens: int) -> tuple[list[int], list[int]]:
    """Shortens two texts until they fit together, the longer one first; cuts at their ends.

    Equals the strategy `longest_first` of `tokenizers`.

    Args:
        first: token ids, without special tokens.
        second: token ids; of two texts that are both too long, the longer one keeps the odd token, the second if they
            are equally long.
        max_tokens: room for both together.

    Raises:
        ValueError: there is no room at all.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
    shorter = min(len(first), len(second), max_tokens // 2)
    longer = min(max(len(first), len(second)), max_tokens - shorter)
    sizes = (longer, shorter) if len(first) > len(second) else (shorter, longer)
    return list(first[: sizes[0]]), list(second[: sizes[1]])


def pad_batch(
    rows: Sequence[Sequence[int]], pad_token_id: int, *, multiple_of: int = 1, side: Literal["left", "right"] = "right"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fills the rows up to the longest one of this batch, not of the data set (dynamic padding).

    Args:
        rows: token ids of each text.
        pad_token_id: what fills the empty places.
        multiple_of: the number of columns is rounded up to a multiple of it, which suits some hardware.
        side: where the empty places are: "right" for encoders, "left" for language models that go on writing.

    Returns:
        Ids and attention mask, 1 for a token and 0 for padding, both int64 [batch, tokens].

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("a batch needs at least one row")
    columns = -(-max(len(row) for row in rows) // multiple_of) * multiple_of
    ids = torch.full((len(rows), columns), pad_token_id)
    mask = torch.zeros(len(rows), columns, dtype=torch.long)
    for number, row in enumerate(rows):
        places = slice(0, len(row)) if side == "right" else slice(columns - len(row), columns)
        ids[number, places] = torch.tensor(row, dtype=torch.long)
        mask[number, places] = 1
    return ids, mask


def batches_by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Puts texts of similar length into the same batch, the shortest first, so that little is padded.

    Args:
        lengths: number of tokens of each text.
        size: of a batch.

    Returns:
        The numbers of the texts in each batch.
    """
    order = sorted(range(len(lengths)), key=lambda number: lengths[number])
    return [order[at : at + size] for at in range(0, len(order), size)]


def padded_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Returns the share of all places in the batches that hold padding, which is computed for nothing.

    Args:
        lengths: number of tokens of each text.
        batches: the numbers of the texts in each batch.
    """
    places = sum(len(batch) * max(lengths[number] for number in batch) for batch in batches)
    tokens = sum(lengths[number] for batch in batches for number in batch)
    return 1 - tokens / places


def sentence_vectors(features: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Averages the tokens of each text without its padding and scales the mean to length 1.

    Args:
        features: the encoder's output, [batch, tokens, dim].
        attention_mask: 1 for a token, 0 for padding, [batch, tokens].

    Returns:
        [batch, dim]; the dot product of two rows is the cosine of the angle between them.
    """
    return F.normalize(mean_pool(features, attention_mask), dim=1)
