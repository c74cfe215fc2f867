"""What each part of the recipe brings: the preset `fast`, trained again with one thing changed at a time.

    uv run --package char-lm python packages/char-lm/benchmarks/ablation.py --seeds 0 1 2 --output ablation.json

The loss is that of the test text at the end of training, in nats a character and in bits, and its difference to the
whole recipe with the same seeds. Every row sees the same text for as many steps; seconds are stated where they differ.
"""

import argparse
import dataclasses
import json
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from char_lm import train
from char_lm.config import PRESETS, Config
from char_lm.model import build
from dlcommon.runtime import data
from dlcommon.runtime.metrics_log import read_metrics
from dlcommon.runtime.output import Output
from dlcommon.runtime.run_directory import METRICS
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.schedules import constant
from dlcommon.transformer import gpt
from dlcommon.transformer.gpt import GPT, MLP
from dlcommon.transformer.rms_norm import rms_norm
from torch import nn
from torch.nn import functional as F

WHOLE = "the whole recipe"


def without_query_key_norm(x: torch.Tensor) -> torch.Tensor:
    """Only queries and keys are normalized with four axes."""
    return x if x.dim() == 4 else rms_norm(x)


def unrotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    return x


class LearnedPositions(nn.Embedding):
    """A token's embedding plus its position's, as in GPT-2."""

    def __init__(self, tokens: nn.Embedding, context: int) -> None:
        super().__init__(tokens.num_embeddings, tokens.embedding_dim, _weight=tokens.weight)
        self.positions = nn.Parameter(0.02 * torch.randn(context, tokens.embedding_dim))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens) + self.positions[: tokens.size(1)]


class GeluMLP(MLP):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.down_proj(F.gelu(self.up_proj(x)))
        return output


def use_learned_positions(network: GPT) -> None:
    network.embedding = LearnedPositions(network.embedding, network.config.context_length)


def use_gelu(network: GPT) -> None:
    for block in network.blocks:
        block.mlp.__class__ = GeluMLP  # the weights stay


def use_layer_norm(network: GPT) -> None:
    dim = network.config.dim
    network.norm = nn.LayerNorm(dim, bias=False)
    for block in network.blocks:
        block.norm1, block.norm2 = nn.LayerNorm(dim, bias=False), nn.LayerNorm(dim, bias=False)


def start_projections_at_random(network: GPT) -> None:
    """GPT-2's start: smaller the deeper the network, but not zero."""
    std = 0.02 / math.sqrt(2 * network.config.num_layers)
    for block in network.blocks:
        nn.init.normal_(block.attention.out_proj.weight, std=std)
        nn.init.normal_(block.mlp.down_proj.weight, std=std)


@dataclass(frozen=True)
class Change:
    """What one row does otherwise."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the config."""
    network: Callable[[GPT], None] | None = None
    """Applied to the network before training."""
    patches: tuple[tuple[Any, str, Any], ...] = ()
    """Module, name, and what stands there instead."""


CHANGES = {
    WHOLE: Change(),
    # A rate that suits AdamW on matrices: Muon's own, or that of the embeddings, would diverge or be unfair.
    "AdamW instead of Muon": Change({"adam_lr": 0.003}, patches=((train, "matrices", lambda network: []),)),
    "windows of the full length throughout": Change({"context_lengths": (128,), "stages": ()}),
    "learned positions instead of rotary": Change(
        network=use_learned_positions, patches=((gpt, "apply_rotary_emb", unrotated),)
    ),
    "no positions": Change(patches=((gpt, "apply_rotary_emb", unrotated),)),
    "queries and keys not normalized": Change(patches=((gpt, "rms_norm", without_query_key_norm),)),
    "LayerNorm instead of RMSNorm": Change(network=use_layer_norm),
    "GELU instead of squared ReLU": Change(network=use_gelu),
    "projections start at random": Change(network=start_projections_at_random),
    "constant rates": Change(patches=((train, "linear", lambda warmup: constant),)),
    "dropout 0.1": Change({"dropout": 0.1}),
    "weight decay 0.1": Change({"weight_decay": 0.1}),
    "moving average of the weights": Change({"ema_decay": 0.98}),
    "fp32 instead of bf16": Change({"precision": "fp32"}),
}


def final_loss(change: Change, config: Config, located: data.LocatedDataSet) -> tuple[float, float]:
    """Nats a character at the end of one training, and its seconds."""

    def built(config: Config, vocab_size: int) -> Any:
        network = build(config, vocab_size)
        if change.network is not None:
            change.network(network)  # type: ignore[arg-type]
        return network

    with ExitStack() as stack:
        stack.enter_context(patch.object(train, "build", built))
        for module, name, instead in change.patches:
            stack.enter_context(patch.object(module, name, instead))
        config = dataclasses.replace(config, **change.options)
        with TrainingRun.start("char-lm", config, located, output=Output(as_json=True)) as run:
            train.train(run)
    last = read_metrics(run.directory / METRICS)[-1]
    return last["test_loss"], last["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", nargs="+", default=list(CHANGES), metavar="NAME", help="some of: " + "; ".join(CHANGES)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=float, default=PRESETS["fast"]["epochs"], help="passes over the training text")
    parser.add_argument("--data", default="tinyshakespeare")
    parser.add_argument("--output", type=Path, help="write the figures there as JSON, row by row")
    options = parser.parse_args()
    if unknown := [row for row in options.rows if row not in CHANGES]:
        parser.error(f"there is no row {unknown[0]!r}; choose some of: {'; '.join(CHANGES)}")
    fast = {**PRESETS["fast"], "epochs": options.epochs, "evaluate_every": options.epochs}
    located = data.resolve(options.data, (options.data,))
    figures: dict[str, Any] = {"data": located.describe(), "epochs": options.epochs, "seeds": options.seeds, "rows": {}}
    print("| what is changed | nats | bits | to the whole recipe, nats | seconds |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DL_RUNS_DIR"] = folder
        for row in dict.fromkeys([WHOLE, *options.rows]):
            configs = [Config(data=options.data, seed=seed, **fast) for seed in options.seeds]
            losses, seconds = zip(*(final_loss(CHANGES[row], config, located) for config in configs), strict=True)
            whole = figures["rows"].get(WHOLE, {"losses": losses})["losses"]
            differences = [loss - other for loss, other in zip(losses, whole, strict=True)]
            nats, difference = statistics.mean(losses), statistics.mean(differences)
            spread = f" ± {statistics.stdev(differences):.4f}" if len(losses) > 1 and row != WHOLE else ""
            figures["rows"][row] = {
                "losses": losses,
                "nats": nats,
                "bits": nats / math.log(2),
                "difference": difference,
                "seconds": statistics.mean(seconds),
            }
            shown = "" if row == WHOLE else f"{difference:+.4f}{spread}"
            print(
                f"| {row} | {nats:.4f} | {nats / math.log(2):.4f} | {shown} | {statistics.mean(seconds):.0f} |",
                flush=True,
            )
            if options.output:
                options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
