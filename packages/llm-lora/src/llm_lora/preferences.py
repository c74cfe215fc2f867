"""Likelihood margins: whether a model finds the preferred of two answers more probable."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from dlcommon.mathematics.intervals import bootstrap_interval
from dlcommon.runtime.data.conversations import Conversation
from dlcommon.runtime.evaluation.classification import accuracy_interval

from llm_lora.bases import Base
from llm_lora.batches import PackedBatches
from llm_lora.model import AnswerModel, sum_by_sequence
from llm_lora.train import encode_unit


@dataclass(frozen=True)
class PreferenceMargins:
    """Holds how a model ranks pairs of answers by log-probability per token.

    Per token, since a sum prefers short answers whatever they say.
    """

    n: int
    accuracy: float
    """Share of pairs whose preferred answer is the more probable one."""
    accuracy_interval: tuple[float, float]
    """95 % (Wilson)."""
    mean: float
    """Log-probability per token of the preferred answer minus that of the other, in nats."""
    mean_interval: tuple[float, float]
    """95 % bootstrap interval over pairs."""


@torch.inference_mode()
def preference_margins(
    base: Base, conversations: Sequence[Conversation], *, row_length: int = 1024, seed: int = 0
) -> PreferenceMargins:
    """Computes the margins of the conversations that hold a preference.

    Args:
        base: the model, on any device, with its tokenizer.
        conversations: held out from training.
        row_length: tokens that are computed at a time; longer pairs are left out.
        seed: of the bootstrap.

    Raises:
        ValueError: no conversation holds a preference that fits.
    """
    units = [encode_unit(base.tokenizer, one, "dpo") for one in conversations]
    units = [
        unit
        for unit in units
        if len(unit) == 2 and unit[0].tokens != unit[1].tokens and sum(len(one.tokens) for one in unit) <= row_length
    ]
    if not units:
        raise ValueError("no conversation holds two different answers, chosen and rejected, that fit a row")
    device = base.network.model.norm.weight.device
    batches = PackedBatches(units, row_length, 1, seed)
    model = AnswerModel(base.network, len(batches.prefix)).eval()
    margins = np.zeros(len(units))
    for tokens, documents, is_answer, numbers in batches.in_order():
        tokens, documents, is_answer = (part.to(device) for part in (tokens, documents, is_answer))
        log_probs = model(tokens, documents, is_answer)
        sums, counts = (sum_by_sequence(each, documents, is_answer) for each in (log_probs, torch.ones_like(log_probs)))
        chosen, rejected = (sums / counts).view(-1, 2).T
        margins[numbers.numpy()] = (chosen - rejected).double().cpu().numpy()
    right = int((margins > 0).sum())
    interval = bootstrap_interval(margins, lambda drawn: drawn.mean(axis=1), np.random.default_rng(seed))
    return PreferenceMargins(
        len(units), right / len(units), accuracy_interval(right, len(units)), float(margins.mean()), interval
    )
