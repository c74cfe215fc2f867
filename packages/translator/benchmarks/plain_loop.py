"""Training speed and quality of the capstone over a plain loop around `torch.nn.Transformer`, on Multi30k.

    uv run --package translator python packages/translator/benchmarks/plain_loop.py --minutes 3

Both train a network of the same widths and layers on the same sentences, in bf16 where the processor computes in it.
The plain loop is what a tutorial writes: shuffled batches of a fixed number of sentences, padded; dropout of every
activation; logits of the whole batch; AdamW. Ours is `translator train` without its checkpoints and evaluations.

Speed: rounds alternate; counted are target tokens that are not padding. Quality: each trains for so many minutes of the
processor, its rates rising and falling alike within them; then loss in nats a token, and BLEU of greedy translations,
of the validation sentences. What is not asked for (`--rounds 0`, `--minutes 0`) stays in the file as it was.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dlcommon.runtime import data
from dlcommon.runtime.bucket_batches import BucketBatches
from dlcommon.runtime.hardware import computes_in_bf16, describe
from dlcommon.runtime.predict import original_predictor
from dlcommon.training.averaging import ExponentialMovingAverage
from dlcommon.training.schedules import linear, set_learning_rate
from torch import nn
from torch.nn import functional as F
from translator import scores
from translator.config import PRESETS, Config
from translator.evaluate import in_order_of_length
from translator.model import TeacherForcing, build, decoding_graph
from translator.tokenizer import BEGIN, END, PAD, UNKNOWN, Tokenizer, padded
from translator.train import Pair, collate, encode_pairs, optimizers
from translator.translation import Search, Translator, longest_target

TOGETHER = 100
"""Sentences that are evaluated at once."""


@dataclass(frozen=True)
class Program:
    """One of the two ways to train, and what it has trained."""

    step: Callable[[float], int]
    """Trains on one batch at this progress, in [0, 1], and returns its target tokens."""
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """Computes the summed loss of a batch in nats, without smoothing."""
    translate: Callable[[Sequence[str]], list[str]]
    """Translates sentences by greedy search."""


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
        """Returns the logits of each next token, [batch, tokens, vocabulary]."""
        causal = nn.Transformer.generate_square_subsequent_mask(target.size(1))
        features = self.transformer(
            self.embed(source), self.embed(target), tgt_mask=causal,
            src_key_padding_mask=source == PAD, memory_key_padding_mask=source == PAD, tgt_is_causal=True,
        )  # fmt: skip
        return F.linear(features, self.embedding.weight)


def plain(config: Config, pairs: list[Pair], tokenizer: Tokenizer, sentences: int, bf16: bool) -> Program:
    model = PlainTransformer(config, tokenizer.size).train()
    for parameter in model.parameters():  # as torch's tutorial of translation starts
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    random, schedule = np.random.default_rng(0), linear(warmup=config.warmup)

    def step(progress: float) -> int:
        set_learning_rate(optimizer, schedule(progress))
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

    def loss(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits = model.eval()(source, target[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD, reduction="sum")

    def translate(sources: Sequence[str]) -> list[str]:
        read = [[*tokenizer.encode(source).ids, END] for source in sources]
        order, found = sorted(range(len(read)), key=lambda number: len(read[number])), dict[int, str]()
        for start in range(0, len(order), TOGETHER):
            numbers = order[start : start + TOGETHER]
            written = greedy(model.eval(), torch.from_numpy(padded([read[number] for number in numbers])))
            for number, row in zip(numbers, written.tolist(), strict=True):
                found[number] = tokenizer.decode(row[1 : row.index(END) if END in row else len(row)])
        return [found[number] for number in range(len(read))]

    return Program(step, loss, translate)


def greedy(model: PlainTransformer, source: torch.Tensor) -> torch.Tensor:
    """Writes the most probable token again and again, without a cache: int64 [sentences, tokens]."""
    padding = source == PAD
    memory = model.transformer.encoder(model.embed(source), src_key_padding_mask=padding)
    tokens = torch.full((len(source), 1), BEGIN)
    while tokens.size(1) < longest_target(source.size(1)) and not (tokens == END).any(dim=1).all():
        causal = nn.Transformer.generate_square_subsequent_mask(tokens.size(1))
        features = model.transformer.decoder(
            model.embed(tokens), memory, tgt_mask=causal, memory_key_padding_mask=padding, tgt_is_causal=True
        )
        logits = F.linear(features[:, -1], model.embedding.weight)
        logits[:, [PAD, BEGIN, UNKNOWN]] = -torch.inf
        tokens = torch.cat((tokens, logits.argmax(dim=1, keepdim=True)), dim=1)
    return tokens


def ours(config: Config, pairs: list[Pair], tokenizer: Tokenizer, bf16: bool) -> Program:
    dtype = torch.bfloat16 if bf16 else torch.float32
    network = build(config, tokenizer.size)
    model = TeacherForcing(network, config.label_smoothing, dtype).train()
    stepping, schedule = optimizers(model, config, dtype), linear(warmup=config.warmup)
    average = ExponentialMovingAverage(model, config.ema_decay)
    averaged: Any = average.model
    lengths = [max(map(len, pair)) for pair in pairs]
    batches = BucketBatches(lengths, config.batch_size, lambda indices: collate(pairs, indices), seed=0, jitter=0.15)

    def endless() -> Iterator[tuple[torch.Tensor, ...]]:
        epoch = 0
        while True:
            for batch in batches.epoch(epoch):
                yield batch.tensors
            epoch += 1

    following = endless()

    def step(progress: float) -> int:
        source, target = next(following)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(source, target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in stepping:
            set_learning_rate(optimizer, schedule(progress))
            optimizer.step()
            optimizer.zero_grad()
        average.update(model)
        return int((target[:, 1:] != PAD).sum())

    def loss(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mean: torch.Tensor = averaged(source, target)
        return mean * (target[:, 1:] != PAD).sum()

    def translate(sources: Sequence[str]) -> list[str]:
        graph = decoding_graph(averaged.network.float(), config, tokenizer)
        translator = Translator(original_predictor(graph), graph.metadata)
        encoded = [tokenizer.encode(source) for source in sources]
        return [one.text for one in in_order_of_length(translator, encoded, Search(num_beams=1))]

    return Program(step, loss, translate)


def speeds(programs: dict[str, Program], rounds: int, steps: int) -> dict[str, Any]:
    """Measures the tokens a second of each program, in alternating rounds."""
    measured: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in programs.items():
            begun = time.perf_counter()
            tokens = sum(program.step(0.5) for _ in range(steps))
            if number:  # the first warms up
                measured[name].append(tokens / (time.perf_counter() - begun))
    medians = {name: statistics.median(values) for name, values in measured.items()}
    return {
        "tokens_per_second": {name: round(value) for name, value in medians.items()},
        "ours_over_plain": round(medians["ours"] / medians["plain"], 2),
        "rounds": rounds,
        "steps": steps,
    }


def quality(program: Program, minutes: float, validation: list[Pair], sentences: list[tuple[str, str]]) -> Any:
    """Trains for these minutes of the processor, all its threads together, and measures what came of it."""
    begun, tokens, used = time.process_time(), 0, 0.0
    while used < 60 * minutes:
        tokens += program.step(used / (60 * minutes))
        used = time.process_time() - begun
    with torch.inference_mode():
        total = 0.0
        for start in range(0, len(validation), TOGETHER):
            rows = np.arange(start, min(start + TOGETHER, len(validation)))
            total += program.loss(*collate(validation, rows)).item()
        sources, references = zip(*sentences, strict=True)
        bleu, signature = scores.sacrebleu_score(program.translate(sources), references, Config().target)
    counted = sum(len(target) - 1 for _, target in validation)
    return {"tokens": tokens, "validation_loss": total / counted, "bleu": bleu, "signature": signature}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="of the speed; 0: it is not measured")
    parser.add_argument("--steps", type=int, default=10, help="of a round")
    parser.add_argument("--minutes", type=float, default=3.0, help="of the processor, for each program; 0: none")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    config, bf16 = Config(**PRESETS["fast"]), computes_in_bf16(torch.device("cpu"))
    text = data.resolve("multi30k", ("multi30k",)).load()
    sentences = text.pairs("train", config.source, config.target)
    tokenizer = Tokenizer.train((sentence for pair in sentences for sentence in pair), config.vocab_size)
    pairs = encode_pairs(tokenizer, sentences)
    # As many sentences as ours has in a batch, in the mean.
    mean = statistics.mean(max(map(len, pair)) for pair in pairs)

    def programs() -> dict[str, Program]:
        torch.manual_seed(0)
        return {
            "ours": ours(config, pairs, tokenizer, bf16),
            "plain": plain(config, pairs, tokenizer, round(config.batch_size / mean), bf16),
        }

    result = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    facts = {
        "precision": "bf16" if bf16 else "fp32",
        "threads": torch.get_num_threads(),
        "hardware": describe(),
    }
    if options.rounds:
        result |= speeds(programs(), options.rounds, options.steps) | facts
        print(json.dumps(result["tokens_per_second"]), "ours over plain:", result["ours_over_plain"])
    if options.minutes:
        validation = text.pairs("validation", config.source, config.target)
        encoded = encode_pairs(tokenizer, validation)
        reached = {name: quality(program, options.minutes, encoded, validation) for name, program in programs().items()}
        result["quality"] = {"processor_minutes": options.minutes, **reached, **facts}
        print(json.dumps(reached))
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
