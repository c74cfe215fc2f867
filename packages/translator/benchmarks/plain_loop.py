"""Training speed of the capstone over a plain loop around `torch.nn.Transformer`, on this machine and Multi30k.

    uv run --package translator python packages/translator/benchmarks/plain_loop.py

Both train a network of the same widths and layers on the same sentences, in bf16 where the processor computes in it.
The plain loop is what a tutorial writes: shuffled batches of a fixed number of sentences, padded; dropout of every
activation; logits of the whole batch; AdamW. Ours is `translator train` without its checkpoints and evaluations. Rounds
alternate; counted are target tokens that are not padding.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from dlcommon.runtime import data
from dlcommon.runtime.bucket_batches import BucketBatches
from dlcommon.runtime.hardware import computes_in_bf16, describe
from torch import nn
from torch.nn import functional as F
from translator.config import Config
from translator.model import TeacherForcing, build
from translator.tokenizer import PAD, Tokenizer
from translator.train import Pair, collate, encode_pairs, optimizers

Step = Callable[[], int]
"""Trains on one batch and returns its target tokens."""


class PlainTransformer(nn.Module):
    def __init__(self, config: Config, vocab_size: int) -> None:
        super().__init__()
        self.embedding, self.dim = nn.Embedding(vocab_size, config.dim, PAD), config.dim
        self.dropout = nn.Dropout(config.dropout)
        self.transformer = nn.Transformer(
            config.dim, config.heads, config.encoder_layers, config.decoder_layers, config.feedforward_dim,
            config.dropout, batch_first=True, norm_first=True,
        )  # fmt: skip
        rates = torch.exp(torch.arange(0, config.dim, 2) * (-math.log(10_000) / config.dim))
        angles = torch.arange(200)[:, None] * rates
        self.positions = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)  # [200, dim]

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.dropout(self.embedding(tokens) * self.dim**0.5 + self.positions[: tokens.size(1)])
        return embedded

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(target.size(1))
        features = self.transformer(
            self.embed(source), self.embed(target), tgt_mask=causal,
            src_key_padding_mask=source == PAD, memory_key_padding_mask=source == PAD, tgt_is_causal=True,
        )  # fmt: skip
        return F.linear(features, self.embedding.weight)


def plain(config: Config, pairs: list[Pair], vocab_size: int, sentences: int, bf16: bool) -> Step:
    model = PlainTransformer(config, vocab_size).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    random = np.random.default_rng(0)

    def step() -> int:
        source, target = collate(pairs, random.choice(len(pairs), sentences, replace=False))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(source, target[:, :-1])
        wanted = target[:, 1:].flatten()
        smoothing = config.label_smoothing
        loss = F.cross_entropy(logits.float().flatten(0, 1), wanted, ignore_index=PAD, label_smoothing=smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return int((wanted != PAD).sum())

    return step


def ours(config: Config, pairs: list[Pair], vocab_size: int, bf16: bool) -> Step:
    dtype = torch.bfloat16 if bf16 else torch.float32
    model = TeacherForcing(build(config, vocab_size), config.label_smoothing, dtype).train()
    stepping = optimizers(model, config, dtype)
    lengths = [max(map(len, pair)) for pair in pairs]
    batches = BucketBatches(lengths, config.batch_size, lambda indices: collate(pairs, indices), seed=0, jitter=0.15)

    def endless() -> Iterator[tuple[torch.Tensor, ...]]:
        epoch = 0
        while True:
            for batch in batches.epoch(epoch):
                yield batch.tensors
            epoch += 1

    following = endless()

    def step() -> int:
        source, target = next(following)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(source, target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in stepping:
            optimizer.step()
            optimizer.zero_grad()
        return int((target[:, 1:] != PAD).sum())

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    config, bf16 = Config(), computes_in_bf16(torch.device("cpu"))
    text = data.resolve("multi30k", ("multi30k",)).load()
    sentences = text.pairs("train", config.source, config.target)
    tokenizer = Tokenizer.train((sentence for pair in sentences for sentence in pair), config.vocab_size)
    pairs = encode_pairs(tokenizer, sentences)
    torch.manual_seed(0)
    # As many sentences as ours has in a batch, in the mean.
    mean = statistics.mean(max(map(len, pair)) for pair in pairs)
    programs = {
        "ours": ours(config, pairs, tokenizer.size, bf16),
        "plain": plain(config, pairs, tokenizer.size, round(config.batch_size / mean), bf16),
    }
    speeds: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(options.rounds + 1):
        for name, step in programs.items():
            begun = time.perf_counter()
            tokens = sum(step() for _ in range(options.steps))
            if number:  # the first warms up
                speeds[name].append(tokens / (time.perf_counter() - begun))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    result = {
        "tokens_per_second": {name: round(value) for name, value in medians.items()},
        "ours_over_plain": round(medians["ours"] / medians["plain"], 2),
        "rounds": options.rounds,
        "steps": options.steps,
        "precision": "bf16" if bf16 else "fp32",
        "threads": torch.get_num_threads(),
        "hardware": describe(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["tokens_per_second"]), "ours over plain:", result["ours_over_plain"])


if __name__ == "__main__":
    main()
