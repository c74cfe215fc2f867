"""The training loop."""

import numpy as np
import torch
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.muon import Muon
from dlcommon.training.schedules import linear
from torch import nn
from torch.nn import functional as F

from char_lm import tokenizer as tokenizers
from char_lm.batches import WindowBatches
from char_lm.config import Config
from char_lm.model import build, matrices, training_flops
from char_lm.tokenizer import TOKENIZER


def optimizers(network: nn.Module, config: Config, dtype: torch.dtype) -> list[torch.optim.Optimizer]:
    """Makes Muon for the matrices of the GPT's blocks, AdamW for embeddings, the last layer, norms, and an LSTM."""
    inner = matrices(network)
    chosen = {id(parameter) for parameter in inner}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in chosen]
    groups = [
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=config.adam_lr, betas=(0.9, 0.95))
    if not inner:
        return [adam]
    muon = Muon(inner, lr=config.learning_rate, momentum=0.95, weight_decay=config.weight_decay, dtype=dtype)
    return [muon, adam]


def train(run: TrainingRun[Config]) -> None:
    config, corpus = run.config, run.data.load()
    tokenizer = tokenizers.build(config.tokens, corpus.train, corpus.train + corpus.test, config.vocab_size)
    cut = len(corpus.train) - round(config.validation_share * len(corpus.train))
    text = torch.from_numpy(tokenizer.encode(corpus.train[:cut]).astype(np.int32)).to(run.device)
    held_out = {"test_loss": corpus.test, "validation_loss": corpus.train[cut:]}
    held_out_tokens = {
        name: torch.from_numpy(tokenizer.encode(part)).to(run.device) for name, part in held_out.items() if part
    }
    longest = config.context_lengths[-1]
    if (tokens := held_out_tokens.get("validation_loss")) is not None and len(tokens) <= longest:
        raise UsageError(
            f"--validation-share {config.validation_share} keeps {len(tokens)} tokens, but one window is {longest}; "
            f"raise it, or lower --context-lengths"
        )
    if len(held_out_tokens["test_loss"]) <= 2 * longest:
        raise UsageError(
            f"the test text has {len(held_out_tokens['test_loss']):,} tokens, but an evaluation takes two windows of "
            f"{longest}; give more text, or lower --context-lengths"
        )
    if run.is_main:
        write_bytes(run.directory / TOKENIZER, tokenizer.to_json().encode())
    network = build(config, tokenizer.size)
    network, *stepping = run.prepare(network, *optimizers(network, config, run.dtype))
    unwrapped = run.unwrap_model(network)

    def context() -> int:
        # Short windows first: what is learnt early lies near, and attention's time goes with the window.
        return config.context_lengths[sum(run.progress >= stage for stage in config.stages)]

    try:
        batches = WindowBatches(text, config.batch_size, longest, context, config.seed, run.rank, run.world_size)
    except ValueError as error:
        raise UsageError(str(error)) from error
    network.train()
    for inputs, targets in run.steps(batches):
        with run.forward(network):
            logits = network(inputs)
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        run.update(loss, *stepping, schedule=linear(warmup=config.warmup))
        run.flops += training_flops(unwrapped, inputs.size(1)) * inputs.numel() * run.world_size
        if run.should_evaluate:
            # The test's for the record of time to a loss only: nothing is chosen by it.
            losses = {name: mean_loss(run, network, tokens, longest) for name, tokens in held_out_tokens.items()}
            run.log_evaluation(maximize=None, minimize=None, loss=loss.item(), **losses)
    run.finish(network, parameters=sum(p.numel() for p in network.parameters()), tokenizer=config.tokens)


@torch.inference_mode()
def mean_loss(run: TrainingRun[Config], network: nn.Module, text: torch.Tensor, context: int) -> float:
    """Computes the mean cross-entropy in nats a token, over consecutive windows."""
    windows = (len(text) - 1) // context
    inputs, targets = (text[i : i + windows * context].view(windows, context) for i in (0, 1))
    model = run.ema_model(network).eval()
    total = 0.0
    for start in range(0, windows, 32):
        with run.autocast():
            logits = model(inputs[start : start + 32])
        wanted = targets[start : start + 32].flatten()
        total += F.cross_entropy(logits.float().flatten(0, 1), wanted, reduction="sum").item()
    network.train()
    return total / targets.numel()
