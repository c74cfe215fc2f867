"""Windows of a text, drawn at random: which ones is a pure function of seed, epoch and position."""

from collections.abc import Callable, Iterator

import torch
from dlcommon.pytorch_core.transfer import to_device
from dlcommon.runtime.batches import Batch, generator_for


class WindowBatches:
    """Batches of windows and of the same windows one token further.

    Args:
        tokens: [length], of any integer type.
        batch_size: windows of the longest context in one batch, over all processes.
        longest: tokens in the longest window.
        context: tokens in the windows of the next batch; it divides `longest`. A shorter window means more of them.
        rank: of `world_size` processes, this one's share: an equal slice of every batch.

    Raises:
        ValueError: the text is shorter than one batch, or the batch cannot be shared equally.
    """

    def __init__(
        self,
        tokens: torch.Tensor,
        batch_size: int,
        longest: int,
        context: Callable[[], int],
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} cannot be shared equally by {world_size} processes")
        if len(tokens) <= batch_size * longest:
            raise ValueError(
                f"the training text has {len(tokens):,} tokens, too few for one batch of {batch_size} windows of "
                f"{longest}; lower --batch-size or --context-lengths"
            )
        self.tokens, self.batch_size, self.longest, self.context = tokens, batch_size, longest, context
        self.seed, self.rank, self.world_size = seed, rank, world_size

    unit = "tokens"

    def length(self, epoch: int = 0) -> int:
        """Batches in every epoch."""
        return len(self.tokens) // (self.batch_size * self.longest)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yields inputs and targets, each int64 [windows, context]."""
        for index in range(start, self.length()):
            context = self.context()
            windows = self.batch_size * self.longest // context
            generator = generator_for(self.seed, epoch, index)
            starts = torch.randint(len(self.tokens) - context, (windows,), generator=generator)
            share = windows // self.world_size
            starts = to_device(starts[self.rank * share : (self.rank + 1) * share], self.tokens.device)
            text = self.tokens[starts[:, None] + torch.arange(context + 1, device=starts.device)].long()
            yield Batch((text[:, :-1], text[:, 1:]), windows, share * context, windows * context)
