"""What merging an adapter into its base costs, at each precision of the base.

In float32 and bfloat16 only rounding separates merged from unmerged. With a base in NF4 the sum of the dequantized
weight and the change lies between the levels: to keep four bits it is quantized again, which undoes changes smaller
than half the distance between two levels. That is measured here; the remedy is to keep merged weights in bfloat16.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from dlcommon.llm.llama import Llama
from dlcommon.nlp.lora import lora_layers, merge_lora, unload_lora
from torch.nn import functional as F

from llm_lora.quantized import round_base

TOLERANCES = {"float32": 1e-6, "bfloat16": 0.02}
"""Largest mean Kullback-Leibler divergence of merged from unmerged, nats a token. For NF4 none is promised."""


@dataclass(frozen=True)
class MergeError:
    """Compares the predictions of a merged model with those of the same adapter unmerged."""

    precision: str
    """`float32`, `bfloat16`, `nf4`, or `nf4 to bfloat16`: dequantized, merged, and not quantized again."""
    largest_logit_error: float
    """In units of the logits' standard deviation."""
    divergence: float
    """Mean Kullback-Leibler divergence of a token's distribution, in nats."""
    same_choice: float
    """Share of tokens whose most probable next token is the same."""
    adapter_effect: float
    """Mean divergence of the unmerged model from the base without the adapter: what there was to lose."""

    @property
    def acceptable(self) -> bool:
        """Whether the divergence is within the precision's tolerance; True where none is stated."""
        return self.divergence <= TOLERANCES.get(self.precision, float("inf"))


def measure_merging(network: Llama, tokens: torch.Tensor) -> list[MergeError]:
    """Measures the error of merging at each precision.

    Args:
        network: in float32, with adapters that are not merged; is not changed.
        tokens: to predict, [batch, tokens].

    Raises:
        ValueError: there are no adapters.
    """
    if not lora_layers(network):
        raise ValueError("this network has no adapters to merge")
    results = []
    for precision in ("float32", "bfloat16", "nf4", "nf4 to bfloat16"):
        unmerged = _at_precision(network, precision)
        merged = copy.deepcopy(unmerged)
        merge_lora(merged)
        if precision.startswith("nf4"):
            unload_lora(merged)
            if precision == "nf4":
                round_base(merged)
            else:
                merged.to(torch.bfloat16)
        plain = copy.deepcopy(unmerged)
        unload_lora(plain)
        expected, got, base = (_log_probs(model, tokens) for model in (unmerged, merged, plain))
        results.append(
            MergeError(
                precision,
                ((got - expected).abs().max() / expected.std()).item(),
                _divergence(expected, got),
                (got.argmax(-1) == expected.argmax(-1)).double().mean().item(),
                _divergence(expected, base),
            )
        )
    return results


def merged_copy(network: Llama) -> Llama:
    """Returns the network with its adapters merged into plain layers, the original unchanged."""
    merged = copy.deepcopy(network)
    merge_lora(merged)
    unload_lora(merged)
    return merged


def worst(errors: Sequence[MergeError]) -> MergeError | None:
    """Returns the first error that is larger than its tolerance."""
    return next((one for one in errors if not one.acceptable), None)


def _at_precision(network: Llama, precision: str) -> Llama:
    """Copies the network with its base, not its adapters, at a precision."""
    copied = copy.deepcopy(network)
    if precision == "bfloat16":
        trained = {id(getattr(one, name)) for one in lora_layers(copied).values() for name in one.trained}
        for parameter in copied.parameters():
            if id(parameter) not in trained:
                parameter.data = parameter.data.to(torch.bfloat16)
    elif precision.startswith("nf4"):
        round_base(copied)
    return copied


@torch.inference_mode()
def _log_probs(network: Llama, tokens: torch.Tensor) -> torch.Tensor:
    return F.log_softmax(network(tokens).double(), dim=-1)


def _divergence(expected: torch.Tensor, got: torch.Tensor) -> float:
    """Computes the mean over tokens of KL(expected ‖ got), log-probabilities [batch, tokens, vocab_size]."""
    return F.kl_div(got, expected, log_target=True, reduction="none").sum(-1).mean().item()
