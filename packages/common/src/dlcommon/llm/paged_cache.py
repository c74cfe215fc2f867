"""A key-value cache in blocks of fixed size, which sequences can share (Kwon et al. 2023, arXiv 2309.06180, section 4).

Keys and values of one sequence lie scattered over blocks of a common pool; a block table says where. So memory is taken
as a sequence grows instead of being reserved for its longest possible length, at most one block for each sequence is
partly empty, and sequences that begin alike hold the beginning once.
"""

from typing import NamedTuple

import torch

from dlcommon.llm.llama import Llama
from dlcommon.llm.llama_config import LlamaConfig
from dlcommon.transformer.kv_cache import KVCache


class OutOfBlocksError(RuntimeError):
    """Says that the pool has no free block; a server then makes a sequence wait or drops one and computes it again."""


class Batch(NamedTuple):
    """Holds the caches of some sequences as one, padded to the longest."""

    cache: KVCache
    """Each tensor [batch, layers, kv heads, longest, head_dim]."""
    mask: torch.Tensor
    """Bool [batch, longest], true where there is a token."""


class PagedKVCache:
    """Keeps the keys and values of many sequences in one pool of blocks.

    Args:
        config: of the model.
        num_blocks: size of the pool.
        block_size: tokens in a block.
    """

    def __init__(self, config: LlamaConfig, num_blocks: int, block_size: int = 16) -> None:
        shape = (num_blocks, config.num_layers, config.num_kv_heads, block_size, config.head_dim)
        self.keys, self.values, self.block_size = torch.zeros(shape), torch.zeros(shape), block_size
        self.users = [0] * num_blocks
        """How many sequences each block belongs to."""
        self.tables: dict[int, list[int]] = {}
        """The blocks of each sequence, in order."""
        self.lengths: dict[int, int] = {}
        """The tokens of each sequence."""

    def add(self, sequence: int) -> None:
        """Begins an empty sequence under a number that is not in use."""
        self.tables[sequence], self.lengths[sequence] = [], 0

    def fork(self, sequence: int, copy: int) -> None:
        """Begins a sequence with the tokens of another, without copying any of them."""
        self.tables[copy], self.lengths[copy] = list(self.tables[sequence]), self.lengths[sequence]
        for block in self.tables[copy]:
            self.users[block] += 1

    def release(self, sequence: int) -> None:
        """Ends a sequence; blocks that no other one uses become free."""
        for block in self.tables.pop(sequence):
            self.users[block] -= 1
        del self.lengths[sequence]

    def append(self, sequence: int, new: KVCache) -> None:
        """Appends tokens to a sequence.

        A block that is shared is copied before it is written to (copy on write).

        Args:
            sequence: its number.
            new: keys and values, each [layers, kv heads, tokens, head_dim].

        Raises:
            OutOfBlocksError: the pool is full; what fitted has been appended.
        """
        table = self.tables[sequence]
        for token in range(new.keys.size(2)):
            place = self.lengths[sequence] % self.block_size
            if place == 0:
                table.append(self._take())
            elif self.users[table[-1]] > 1:
                shared, table[-1] = table[-1], self._take()
                self.users[shared] -= 1
                self.keys[table[-1]], self.values[table[-1]] = self.keys[shared], self.values[shared]
            self.keys[table[-1], :, :, place] = new.keys[:, :, token]
            self.values[table[-1], :, :, place] = new.values[:, :, token]
            self.lengths[sequence] += 1

    def gather(self, sequences: list[int]) -> Batch:
        """Collects sequences from their blocks. Kernels for paged attention read the blocks in place instead."""
        longest = max(self.lengths[sequence] for sequence in sequences)
        width = -(-longest // self.block_size)
        # Sequences with fewer blocks are padded with block 0, which the mask hides.
        blocks = torch.tensor([(self.tables[each] + [0] * width)[:width] for each in sequences])  # [batch, width]
        keys, values = (
            pool[blocks].movedim(1, 3).flatten(3, 4)[:, :, :, :longest]  # [batch, layers, heads, longest, head_dim]
            for pool in (self.keys, self.values)
        )
        lengths = torch.tensor([self.lengths[sequence] for sequence in sequences])
        return Batch(KVCache(keys, values), torch.arange(longest) < lengths[:, None])

    @property
    def blocks_used(self) -> int:
        """Counts the blocks that belong to a sequence."""
        return sum(users > 0 for users in self.users)

    def _take(self) -> int:
        if 0 not in self.users:
            raise OutOfBlocksError(f"all {len(self.users)} blocks are in use; release a sequence or enlarge the pool")
        block = self.users.index(0)
        self.users[block] = 1
        return block


@torch.no_grad()
def prefill(model: Llama, cache: PagedKVCache, sequence: int, tokens: list[int]) -> torch.Tensor:
    """Reads the next tokens of one sequence and appends them to the cache.

    Returns:
        Logits of the token after them, [vocab_size].
    """
    before = cache.gather([sequence]).cache if cache.lengths[sequence] else model.initial_state(1)
    start = cache.lengths[sequence]
    logits, extended = model.step(torch.tensor([tokens]), before)
    cache.append(sequence, KVCache(extended.keys[0, :, :, start:], extended.values[0, :, :, start:]))
    return logits[0, -1]


@torch.no_grad()
def decode(model: Llama, cache: PagedKVCache, sequences: list[int], tokens: list[int]) -> torch.Tensor:
    """Reads one token of each of several sequences of different lengths in one call, and appends them to the cache.

    Returns:
        Logits of the tokens after them, [sequences, vocab_size].
    """
    before, mask = cache.gather(sequences)
    positions = torch.tensor([[cache.lengths[sequence]] for sequence in sequences])  # [batch, 1]
    # The new token stands behind the padding: [batch, heads, tokens, longest + 1].
    mask = torch.cat((mask, torch.ones(len(sequences), 1, dtype=torch.bool)), dim=1)[:, None, None]
    logits, extended = model.step(torch.tensor(tokens)[:, None], before, positions, mask)
    for row, sequence in enumerate(sequences):
        cache.append(sequence, KVCache(extended.keys[row, :, :, -1:], extended.values[row, :, :, -1:]))
    return logits[:, 0]
