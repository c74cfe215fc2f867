"""Conversations in rows of tokens, several to a row, after the words that all of them begin with.

Most conversations begin alike, with the system message: in SmolLM2's that is 24 of an instruction's 57 tokens on
average. These are computed once a row instead of once a conversation, and every conversation attends to them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from dlcommon.llm.packing import document_numbers, pack
from dlcommon.runtime.batches import Batch, Tensors, generator_for

GROUP = 64
"""Units that are packed together: many, so that few places stay empty; not all, so that rows differ by epoch."""


@dataclass(frozen=True)
class TokenSequence:
    """Holds the tokens of one conversation, and which of them are to be learned."""

    tokens: list[int]
    is_answer: list[bool]


Unit = tuple[TokenSequence, ...]
"""Sequences that stay in one row: a conversation, or the two answers of a preference."""


def common_prefix(units: Sequence[Unit]) -> list[int]:
    """Returns the tokens that all sequences begin with, before the first answer of any."""
    sequences = [one for unit in units for one in unit]
    first = sequences[0].tokens
    length = min(one.is_answer.index(True) if True in one.is_answer else len(one.tokens) for one in sequences) - 1
    for one in sequences:
        while one.tokens[:length] != first[:length]:
            length -= 1
    return first[: max(0, length)]


class PackedBatches:
    """Makes batches of rows: `tokens`, `documents` and `is_answer`, all [rows, row_length], and `numbers`, [units].

    The first document of each row is the common prefix, if there is one; the sequences of a unit follow one another.
    `numbers` are those of the batch's units, row by row.

    Args:
        units: to learn from.
        row_length: tokens of a row.
        rows: of a batch, over all processes.
        seed: of the order.
        rank: of `world_size` processes, this one's share: an equal slice of every batch.

    Raises:
        ValueError: a unit is longer than a row, there are none, or the rows cannot be shared equally.
    """

    unit = "answer tokens"

    def __init__(
        self, units: Sequence[Unit], row_length: int, rows: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if not units:
            raise ValueError("there are no conversations to train on")
        if rows % world_size:
            raise ValueError(f"{rows} rows in a batch cannot be shared equally by {world_size} processes")
        self.prefix = common_prefix(units)
        self.units = units
        self.lengths = [sum(len(one.tokens) - len(self.prefix) for one in unit) for unit in units]
        self.space = row_length - len(self.prefix)
        if max(self.lengths) > self.space:
            raise ValueError(f"a conversation of {max(self.lengths)} tokens does not fit a row of {self.space}")
        self.row_length, self.rows, self.seed, self.rank, self.world_size = row_length, rows, seed, rank, world_size
        self._packed = lru_cache(maxsize=2)(self._pack)

    def length(self, epoch: int) -> int:
        """Returns the number of batches in that epoch."""
        return -(-len(self._packed(epoch)) // self.rows)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yields this process's part of batches `start`, `start + 1`, … of that epoch; the last may be smaller."""
        packed = self._packed(epoch)
        for number in range(start, self.length(epoch)):
            chosen = packed[number * self.rows : (number + 1) * self.rows]
            own = chosen[self.rank :: self.world_size]
            weight = [sum(sum(one.is_answer) for index in row for one in self.units[index]) for row in chosen]
            # With fewer rows than processes, this one computes something that does not count.
            tensors = self.collate(own or chosen[:1])
            counted = sum(weight[self.rank :: self.world_size]) if own else 0
            yield Batch(tensors, sum(len(row) for row in chosen), float(counted), float(sum(weight)))

    def collate(self, rows: Sequence[Sequence[int]]) -> Tensors:
        """Makes the tensors of rows that hold the units of these numbers."""
        shape = len(rows), self.row_length
        tokens = torch.zeros(shape, dtype=torch.int64)
        is_answer = torch.zeros(shape, dtype=torch.bool)
        lengths = []
        for row, indices in enumerate(rows):
            sequences = [one for index in indices for one in self.units[index]]
            cut = len(self.prefix)
            ids = [*self.prefix, *(token for one in sequences for token in one.tokens[cut:])]
            wanted = [*([False] * cut), *(flag for one in sequences for flag in one.is_answer[cut:])]
            tokens[row, : len(ids)] = torch.tensor(ids)
            is_answer[row, : len(ids)] = torch.tensor(wanted)
            lengths.append([*([cut] if cut else []), *(len(one.tokens) - cut for one in sequences)])
        numbers = torch.tensor([index for row in rows for index in row])
        return tokens, document_numbers(lengths, self.row_length), is_answer, numbers

    def in_order(self) -> Iterator[Tensors]:
        """Yields all units once, packed closely, to evaluate on: the same batches every time."""
        packed = pack(self.lengths, self.space)
        for start in range(0, len(packed), self.rows):
            yield self.collate(packed[start : start + self.rows])

    def _pack(self, epoch: int) -> list[list[int]]:
        """Draws the order of an epoch, packs groups of units, and shuffles the rows."""
        generator = generator_for(self.seed, epoch)
        order = torch.randperm(len(self.units), generator=generator).tolist()
        rows: list[list[int]] = []
        for start in range(0, len(order), GROUP):
            group = order[start : start + GROUP]
            rows += [[group[place] for place in row] for row in pack([self.lengths[one] for one in group], self.space)]
        return [rows[number] for number in torch.randperm(len(rows), generator=generator).tolist()]
