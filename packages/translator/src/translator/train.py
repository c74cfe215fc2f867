"""The training loop."""

import numpy as np
import torch
from dlcommon.runtime.bucket_batches import BucketBatches
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.muon import Muon
from dlcommon.training.schedules import linear
from torch import nn

from translator.config import Config
from translator.data import pairs_of
from translator.model import TeacherForcing, build, matrices, training_flops
from translator.tokenizer import BEGIN, END, PAD, TOKENIZER, Tokenizer, padded

LONGEST = 100
"""Tokens of a sentence to train on; pairs in which one is longer are left out."""
Pair = tuple[list[int], list[int]]
"""Ids of a source with its end token, and of its target from the begin to the end token."""


def encode_pairs(tokenizer: Tokenizer, pairs: list[tuple[str, str]]) -> list[Pair]:
    """Encodes sentences; leaves pairs out that are longer than `LONGEST`."""
    encoded = [
        ([*tokenizer.encode(source).ids, END], [BEGIN, *tokenizer.encode(target).ids, END]) for source, target in pairs
    ]
    return [pair for pair in encoded if max(map(len, pair)) <= LONGEST]


def collate(pairs: list[Pair], indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Puts pairs into a batch: sources and targets, each padded to its longest."""
    sources, targets = zip(*(pairs[index] for index in indices), strict=True)
    return torch.from_numpy(padded(sources)), torch.from_numpy(padded(targets))


def optimizers(model: TeacherForcing, config: Config, dtype: torch.dtype) -> list[torch.optim.Optimizer]:
    """Makes Muon for the matrices of the layers, AdamW for embeddings, norms and biases."""
    inner = matrices(model.network)
    chosen = {id(parameter) for parameter in inner}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    muon = Muon(inner, lr=config.learning_rate, momentum=0.95, weight_decay=config.weight_decay, dtype=dtype)
    return [muon, torch.optim.AdamW(rest, lr=config.adam_lr, betas=(0.9, 0.98), weight_decay=0.0)]


def train(run: TrainingRun[Config]) -> None:
    config, text = run.config, run.data.load()
    pairs = pairs_of(text, "train", config.source, config.target, run.data.name)
    try:
        tokenizer = Tokenizer.train((sentence for pair in pairs for sentence in pair), config.vocab_size)
    except ValueError as error:
        raise UsageError(f"{error}; raise --vocab-size") from error
    if run.is_main:
        write_bytes(run.directory / TOKENIZER, tokenizer.to_json().encode())
    encoded = encode_pairs(tokenizer, pairs)
    validation = encode_pairs(tokenizer, pairs_of(text, "validation", config.source, config.target, run.data.name))
    batches = bucket_batches(run, encoded)
    model = TeacherForcing(build(config, tokenizer.size), config.label_smoothing, run.dtype)
    model, *stepping = run.prepare(model, *optimizers(model, config, run.dtype))
    network = run.unwrap_model(model).network
    model.train()
    for source, target in run.steps(batches):
        source, target = source.to(run.device), target.to(run.device)
        with run.forward(model):
            loss = model(source, target)
        run.update(loss, *stepping, schedule=linear(warmup=config.warmup))
        run.flops += training_flops(network, source.numel(), target.numel()) * run.world_size
        if run.should_evaluate:
            run.log_evaluation(loss=loss.item(), validation_loss=validation_loss(run, model, validation))
    run.finish(model, parameters=sum(p.numel() for p in network.parameters()), pairs=len(encoded))


def bucket_batches(run: TrainingRun[Config], pairs: list[Pair]) -> BucketBatches:
    """Makes batches of pairs of similar lengths.

    Raises:
        UsageError: the batch size does not suit the sentences.
    """
    config = run.config
    lengths = [max(map(len, pair)) for pair in pairs]
    if config.batch_size > sum(lengths):
        raise UsageError(
            f"batch_size {config.batch_size} is more than the {sum(lengths):,} tokens of the training text; lower it"
        )
    try:
        return BucketBatches(
            lengths,
            config.batch_size,
            lambda indices: collate(pairs, indices),
            config.seed,
            weights=[len(target) - 1 for _, target in pairs],
            jitter=0.15,
            rank=run.rank,
            world_size=run.world_size,
        )
    except ValueError as error:
        raise UsageError(f"{error}; raise --batch-size") from error


@torch.inference_mode()
def validation_loss(run: TrainingRun[Config], model: nn.Module, pairs: list[Pair]) -> float:
    """Computes the mean cross-entropy in nats a token, of the averaged weights and without smoothing."""
    averaged = run.ema_model(model).eval()
    order = np.argsort([len(target) for _, target in pairs], kind="stable")
    total, tokens = 0.0, 0
    for start in range(0, len(order), 128):
        source, target = (part.to(run.device) for part in collate(pairs, order[start : start + 128]))
        with run.autocast():
            loss = averaged(source, target)
        count = int((target[:, 1:] != PAD).sum())
        total, tokens = total + count * loss.item(), tokens + count
    model.train()
    return total / tokens
