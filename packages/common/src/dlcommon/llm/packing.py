"""Packing: several documents in one row of tokens, so that little is padding and no document sees another.

Shapes: document numbers int64 [rows, tokens], 0 where there is padding, 1, 2, … for the documents of a row.
"""

from collections.abc import Sequence

import torch


def pack(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Distributes documents over few rows: first-fit decreasing, at most 11/9 of the fewest rows, plus one.

    Args:
        lengths: tokens of each document.
        row_length: tokens of a row.

    Returns:
        The numbers of the documents in each row.

    Raises:
        ValueError: a document has no tokens, or more than a row.
    """
    rows: list[list[int]] = []
    free: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda one: (-lengths[one], one)):
        if not 1 <= lengths[number] <= row_length:
            raise ValueError(f"document {number} has {lengths[number]} tokens; a row holds 1 to {row_length}")
        place = next((row for row, space in enumerate(free) if space >= lengths[number]), None)
        if place is None:
            rows.append([])
            free.append(row_length)
            place = len(rows) - 1
        rows[place].append(number)
        free[place] -= lengths[number]
    return rows


def document_numbers(lengths: Sequence[Sequence[int]], row_length: int) -> torch.Tensor:
    """Numbers the documents of each row from 1, int64 [rows, row_length], 0 in the padding after the last.

    Args:
        lengths: of each row, the tokens of its documents.
        row_length: tokens of a row.

    Raises:
        ValueError: the documents of a row are longer than it.
    """
    rows = torch.zeros(len(lengths), row_length, dtype=torch.int64)
    for row, of_row in zip(rows, lengths, strict=True):
        if sum(of_row) > row_length:
            raise ValueError(f"documents of {sum(of_row)} tokens do not fit a row of {row_length}")
        numbers = torch.repeat_interleave(torch.arange(1, len(of_row) + 1), torch.tensor(of_row, dtype=torch.int64))
        row[: len(numbers)] = numbers
    return rows


def document_positions(documents: torch.Tensor, prefix_length: int = 0) -> torch.Tensor:
    """Counts each document's tokens, int64 [rows, tokens]: from 0, or on from a shared prefix.

    Args:
        documents: numbers, [rows, tokens].
        prefix_length: tokens of the first document of each row that all others continue; 0 where they are unrelated.
    """
    places = torch.arange(documents.size(1), device=documents.device).expand_as(documents)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    # Where the document began is the largest beginning so far.
    first = torch.where(begins, places, 0).cummax(dim=1).values
    positions: torch.Tensor = places - first
    return positions + prefix_length * (places >= prefix_length)


def document_mask(documents: torch.Tensor, prefix_length: int = 0) -> torch.Tensor:
    """Lets each token attend to itself and to earlier ones of its document: bool [rows, 1, tokens, tokens].

    The axis of size 1 broadcasts over attention's heads. Padding attends to padding, so that no row of attention
    weights is empty, which would make it NaN.

    Args:
        documents: numbers, [rows, tokens].
        prefix_length: tokens of the first document of each row that all others continue, such as the system message of
            many conversations: it is computed once a row, and everyone attends to it.
    """
    allowed = documents[:, :, None] == documents[:, None, :]  # [rows, tokens, tokens]
    allowed[:, :, :prefix_length] = True
    return allowed.tril()[:, None]
