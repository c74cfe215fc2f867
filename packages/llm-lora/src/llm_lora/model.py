"""The network that is trained: a frozen base with adapters, and the log-probabilities of answers that losses need.

Shapes: tokens, documents and is_answer [rows, tokens], as `llm_lora.batches` makes them.
"""

import torch
from dlcommon.llm.answer_loss import AnswerTokens, answer_log_probs
from dlcommon.llm.document_attention import DocumentAttention
from dlcommon.llm.llama import Llama
from dlcommon.llm.packing import document_positions
from dlcommon.nlp.dora import DoRALinear
from dlcommon.nlp.lora import LoRAConfig, LoRALinear, add_lora
from dlcommon.nlp.lora_checkpoint import load_adapter
from dlcommon.nlp.pissa import PiSSALinear
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.saved_run import SavedRun
from torch import nn

from llm_lora.bases import TINY, Base, load_base
from llm_lora.config import Config
from llm_lora.decoding_graph import decoding_graph

ADAPTER = "adapter"
"""The run's folder that holds its adapter as peft stores it."""
LAYERS: dict[str, type[LoRALinear]] = {
    "lora": LoRALinear, "rslora": LoRALinear, "dora": DoRALinear, "pissa": PiSSALinear,
}  # fmt: skip


def lora_config(config: Config) -> LoRAConfig:
    """Returns the adapters that a config asks for."""
    targets = tuple(config.targets)
    return LoRAConfig(config.rank, config.alpha, targets, config.method == "rslora", config.lora_dropout)


def add_adapters(network: Llama, config: Config) -> None:
    """Freezes the base and gives it the config's adapters; with method full, all weights are trained instead.

    Raises:
        UsageError: a target names no layer.
    """
    if config.method == "full":
        network.requires_grad_(True)
        return
    try:
        add_lora(network, lora_config(config), LAYERS[config.method])
    except ValueError as error:
        raise UsageError(f"--targets: {error}") from error


class AnswerModel(nn.Module):
    """Computes the log-probabilities of the answers in packed rows; what the training loop calls.

    Args:
        network: with adapters, or trained whole.
        prefix_length: tokens at the beginning of each row that all of its conversations continue.
        gradient_checkpointing: whether blocks are computed again in the backward pass instead of kept.
    """

    def __init__(self, network: Llama, prefix_length: int, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.network, self.prefix_length = network, prefix_length
        network.model.gradient_checkpointing = gradient_checkpointing

    def forward(self, tokens: torch.Tensor, documents: torch.Tensor, is_answer: torch.Tensor) -> torch.Tensor:
        """Computes the logarithm of each answer token's probability, float32 [answer tokens], row by row."""
        network = self.network
        positions = document_positions(documents, self.prefix_length)
        features, _ = network.features(tokens, positions, DocumentAttention(documents, self.prefix_length))
        output = network.model.embed_tokens.weight if network.lm_head is None else network.lm_head.weight
        return answer_log_probs(features, AnswerTokens.of(tokens, is_answer), output)


def sum_by_sequence(log_probs: torch.Tensor, documents: torch.Tensor, is_answer: torch.Tensor) -> torch.Tensor:
    """Adds up the log-probabilities of each sequence's answer tokens: [answer tokens] to [sequences], row by row."""
    rows, columns = is_answer[:, 1:].nonzero(as_tuple=True)
    keys = rows * (documents.size(1) + 1) + documents[rows, columns + 1]
    _, sequence = torch.unique_consecutive(keys, return_inverse=True)
    return log_probs.new_zeros(int(sequence[-1]) + 1).index_add(0, sequence, log_probs)


def training_flops(network: Llama, tokens: int, answers: int) -> int:
    """Counts the floating-point operations of training on tokens, `answers` of which logits are computed for.

    Two for each weight of a matrix forward, two for the gradient of its input, two more where it is trained; attention
    over short rows is small beside that and left out.
    """
    matrices = [p for p in network.model.layers.parameters() if p.dim() == 2]
    blocks = sum((6 if p.requires_grad else 4) * p.numel() for p in matrices)
    output = network.model.embed_tokens.weight
    return tokens * blocks + answers * (6 if output.requires_grad else 4) * output.numel()


def load_tuned(saved: SavedRun[Config]) -> Base:
    """Builds a finished run's network, with its adapters unmerged, in float32 and in evaluation mode.

    Raises:
        UserError: the base is not at hand, or the weights are damaged.
    """
    names = [asset["name"] for asset in saved.summary.get("assets", [])]
    base = load_base(saved.asset(names[0]) if names else None)
    if saved.config.quantize == "nf4":
        from llm_lora.quantized import round_base  # imports bitsandbytes, which looks for its kernels

        round_base(base.network)
    if saved.config.adapter is None:
        add_adapters(base.network, saved.config)
    else:  # whose rank and layers are its own
        load_adapter(base.network, saved.directory / ADAPTER)
    model = AnswerModel(base.network, 0)
    weights = saved.weights()
    own = {name: parameter for name, parameter in model.state_dict().items() if name not in weights}
    model.load_state_dict({**own, **weights})
    return Base(base.network.eval(), base.tokenizer)


def export_graph(saved: SavedRun[Config]) -> ExportGraph:
    """Returns a finished run's network as it is exported: one step of decoding, the base's weights left out."""
    tuned, config = load_tuned(saved), saved.config
    names = [asset["name"] for asset in saved.summary.get("assets", [])]
    # The weights of a base that was trained whole, or rounded to four bits, are no asset's.
    keeps_base = config.method in ("lora", "rslora", "pissa") and config.quantize == "none"
    return decoding_graph(
        tuned.network,
        tuned.tokenizer,
        names[0] if names else TINY,
        requires=tuple(names[:1]) if keeps_base else (),
        metadata={"method": config.method, "stage": config.stage},
    )
