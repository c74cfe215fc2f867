"""What each part of the recipe brings: a short training, done again with one thing changed at a time.

    uv run --package translator python packages/translator/benchmarks/ablation.py --epochs 2 --output ablation.json

Loss in nats a token and BLEU (greedy search) are those of the validation sentences, so that nothing is chosen on the
test set. Processor seconds are stated, since they differ; R-Drop, which reads each batch twice, makes half the passes.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from dlcommon.runtime import data, training_state
from dlcommon.runtime.hardware import describe
from dlcommon.runtime.metrics_log import read_metrics
from dlcommon.runtime.output import Output
from dlcommon.runtime.predict import original_predictor
from dlcommon.runtime.run_directory import METRICS, WEIGHTS
from dlcommon.runtime.stored_weights import read_weights
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.averaging import ExponentialMovingAverage
from dlcommon.training.r_drop import r_drop_loss
from dlcommon.training.schedules import constant
from dlcommon.transformer.transformer import Transformer, TransformerConfig
from torch import nn
from torch.nn import functional as F
from translator import model, scores, train
from translator.config import PRESETS, Config
from translator.evaluate import in_order_of_length
from translator.model import TeacherForcing, build, decoding_graph
from translator.tokenizer import PAD, TOKENIZER, Tokenizer
from translator.translation import Search, Translator

WHOLE = "the whole recipe"
R_DROP_WEIGHT = 2.5
"""As Liang et al. 2021 chose for translation: 5, beside the sum of both cross-entropies instead of their mean."""
ADAMW_RATE = 0.002
"""Suits AdamW on the matrices: Muon's own would diverge."""


def adamw(module: TeacherForcing, config: Config, dtype: torch.dtype) -> list[torch.optim.Optimizer]:
    return [torch.optim.AdamW(module.parameters(), lr=ADAMW_RATE, betas=(0.9, 0.98), weight_decay=0.01)]


class TwicePassed(TeacherForcing):
    """R-Drop (Liang et al. 2021, https://arxiv.org/abs/2106.14448): two passes with different dropout shall agree."""

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(source, target)
        twice, wanted = source.repeat(2, 1), target[:, 1:].flatten()
        mask = self.network.source_mask(twice)
        features = self.network.decode_features(target[:, :-1].repeat(2, 1), self.network.encode(twice, mask), mask)
        real = wanted != PAD
        first, second = (
            F.linear(part.flatten(0, 1)[real], self.network.target_embedding.weight).float()
            for part in features.chunk(2)
        )  # [tokens, vocab_size]
        sharp = F.one_hot(wanted[real], first.size(1)).float()
        smooth = (1 - self.smoothing) * sharp + self.smoothing / first.size(1)
        return r_drop_loss(first, second, smooth, R_DROP_WEIGHT)


class CheckpointAverage(ExponentialMovingAverage):
    """Keeps the mean of the last five checkpoints (Vaswani et al. 2017, section 6.1), forty steps apart."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.kept: deque[list[torch.Tensor]] = deque(maxlen=5)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        if self.steps % 40 == 0 or not self.kept:
            self.kept.append([parameter.clone() for parameter in model.parameters()])
            for average, *values in zip(self.model.parameters(), *self.kept, strict=True):
                average.copy_(torch.stack(values).mean(dim=0))


def start_branches_at_random(network: Transformer) -> None:
    for part in (network.encoder, network.decoder):
        for name, parameter in part.named_parameters():
            if name.endswith(("out_proj.weight", "down_proj.weight")):
                nn.init.xavier_uniform_(parameter)


@dataclass(frozen=True)
class Change:
    """What one row does otherwise."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the config."""
    passes: float = 1.0
    """Share of the passes that the whole recipe makes."""
    network: Callable[[Transformer], None] | None = None
    """Applied to the network before training."""
    patches: tuple[tuple[Any, str, Any], ...] = ()
    """Module, name, and what stands there instead."""


CHANGES = {
    WHOLE: Change(),
    "AdamW instead of Muon": Change(patches=((train, "optimizers", adamw),)),
    "no label smoothing": Change({"label_smoothing": 0.0}),
    "R-Drop, half the passes": Change(passes=0.5, patches=((train, "TeacherForcing", TwicePassed),)),
    "no moving average": Change({"ema_decay": 0.0}),
    "mean of five checkpoints instead of the moving average": Change(
        patches=((training_state, "ExponentialMovingAverage", CheckpointAverage),)
    ),
    "post-norm": Change(patches=((model, "TransformerConfig", partial(TransformerConfig, norm_first=False)),)),
    "an embedding of its own for the source": Change(
        patches=((model, "TransformerConfig", partial(TransformerConfig, share_embeddings=False)),)
    ),
    "residual branches start at random": Change(network=start_branches_at_random),
    "constant rates": Change(patches=((train, "linear", lambda warmup: constant),)),
    "dropout 0.2": Change({"dropout": 0.2}),
    "dropout of every activation": Change(patches=((model, "SequenceDropout", nn.Dropout),)),
}


def trained(change: Change, config: Config, located: data.LocatedDataSet) -> dict[str, float]:
    """Returns validation loss, BLEU and processor seconds of one training."""
    built: list[Transformer] = []

    def build_changed(config: Config, vocab_size: int) -> Transformer:
        network = build(config, vocab_size)
        if change.network is not None:
            change.network(network)
        built.append(network)
        return network

    config = dataclasses.replace(config, **change.options, epochs=config.epochs * change.passes)
    started = time.process_time()
    with ExitStack() as stack:
        stack.enter_context(patch.object(train, "build", build_changed))
        for module, name, instead in change.patches:
            stack.enter_context(patch.object(module, name, instead))
        with TrainingRun.start("translator", config, located, output=Output(as_json=True)) as run:
            train.train(run)
    seconds = time.process_time() - started
    network = built[0].float()
    TeacherForcing(network, 0.0, torch.float32).load_state_dict(read_weights(run.directory / WEIGHTS))
    tokenizer = Tokenizer.from_json((run.directory / TOKENIZER).read_text(encoding="utf-8"))
    graph = decoding_graph(network, config, tokenizer)
    translator = Translator(original_predictor(graph), graph.metadata)
    pairs = located.load().pairs("validation", config.source, config.target)
    encoded = [tokenizer.encode(source) for source, _ in pairs]
    hypotheses = [one.text for one in in_order_of_length(translator, encoded, Search(num_beams=1))]
    bleu, _ = scores.sacrebleu_score(hypotheses, [reference for _, reference in pairs], config.target)
    loss = read_metrics(run.directory / METRICS)[-1]["validation_loss"]
    return {"validation_loss": loss, "bleu": bleu, "cpu_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", nargs="+", default=list(CHANGES), metavar="NAME", help="some of: " + "; ".join(CHANGES)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=float, default=PRESETS["fast"]["epochs"], help="passes over the training text")
    parser.add_argument("--data", default="multi30k")
    parser.add_argument("--output", type=Path, help="write the figures there as JSON, row by row")
    options = parser.parse_args()
    if unknown := [row for row in options.rows if row not in CHANGES]:
        parser.error(f"there is no row {unknown[0]!r}; choose some of: {'; '.join(CHANGES)}")
    fast = {**PRESETS["fast"], "epochs": options.epochs, "evaluate_every": options.epochs, "min_steps": 0}
    located = data.resolve(options.data, (options.data,))
    figures: dict[str, Any] = {
        "data": located.describe(),
        "epochs": options.epochs,
        "seeds": options.seeds,
        "hardware": describe(),
        "rows": {},
    }
    print("| what is changed | validation loss | BLEU, greedy | processor seconds |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DL_RUNS_DIR"] = folder
        for row in dict.fromkeys([WHOLE, *options.rows]):
            configs = [Config(data=options.data, seed=seed, **fast) for seed in options.seeds]
            runs = [trained(CHANGES[row], config, located) for config in configs]
            figures["rows"][row] = runs
            loss, bleu, seconds = (
                statistics.mean(run[name] for run in runs) for name in ("validation_loss", "bleu", "cpu_seconds")
            )
            print(f"| {row} | {loss:.4f} | {bleu:.2f} | {seconds:.0f} |", flush=True)
            if options.output:
                options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
