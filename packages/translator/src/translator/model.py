"""The network, the module that is trained, and the graph that is exported.

Shapes: source and target int64 [batch, tokens]; features [batch, tokens, dim].
"""

from collections.abc import Sequence

import numpy as np
import torch
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.saved_run import SavedRun
from dlcommon.transformer.decoder import DecoderState
from dlcommon.transformer.transformer import Transformer, TransformerConfig
from torch import nn

from translator.config import Config
from translator.smoothed_loss import SmoothedLoss
from translator.tokenizer import PAD, TOKENIZER, Tokenizer
from translator.translation import GRAPH_STATE


class SequenceDropout(nn.Module):
    """Zeroes the same features in all tokens of a sequence, others in each sequence (Gal & Ghahramani 2016).

    https://arxiv.org/abs/1512.05287. Independent dropout draws as many numbers as there are activations, which takes a
    fifth of a training step on a processor; this one draws a number for each sequence and feature.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, tokens, dim] to the same."""
        if not self.training or not self.p:
            return x
        kept = torch.rand(len(x), 1, x.size(2), device=x.device) >= self.p
        return x * (kept / (1 - self.p)).to(x.dtype)


def build(config: Config, vocab_size: int) -> Transformer:
    """Builds the config's network with random weights; dropout is `SequenceDropout`, and attention has none."""
    shape = TransformerConfig(
        vocab_size,
        config.dim,
        config.heads,
        config.encoder_layers,
        config.decoder_layers,
        config.feedforward_dim,
        dropout=0.0,
        pad_id=PAD,
    )
    network = Transformer(shape)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, SequenceDropout(config.dropout))
    # Each residual branch starts at zero, so that the network starts as the identity and rates can be high.
    for part in (network.encoder, network.decoder):
        for name, parameter in part.named_parameters():
            if name.endswith(("out_proj.weight", "down_proj.weight")):
                nn.init.zeros_(parameter)
    return network


class TeacherForcing(nn.Module):
    """Computes the loss of every target token, given the source and the target tokens before it."""

    def __init__(self, network: Transformer, smoothing: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.smoothing, self.dtype = network, smoothing, dtype

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Returns the mean loss in nats a token; smoothed while training.

        Args:
            source: padded at the end.
            target: from the begin to the end token, padded at the end.
        """
        mask = self.network.source_mask(source) if bool((source == PAD).any()) else None
        memory = self.network.encode(source, mask)
        features = self.network.decode_features(target[:, :-1], memory, mask).flatten(0, 1)
        wanted = target[:, 1:].flatten()
        real = wanted != PAD
        total: torch.Tensor = SmoothedLoss.apply(
            features[real],
            self.network.target_embedding.weight,
            wanted[real],
            self.smoothing if self.training else 0.0,
            self.dtype,
        )
        return total / real.sum()


def matrices(network: Transformer) -> Sequence[nn.Parameter]:
    """Returns the matrices of the layers, which Muon trains."""
    parts = (network.encoder, network.decoder)
    return [parameter for part in parts for parameter in part.parameters() if parameter.dim() == 2]


def training_flops(network: Transformer, source_tokens: int, target_tokens: int) -> int:
    """Counts the floating-point operations of training on a batch: six for each weight that multiplies a token.

    Kaplan et al. 2020 (https://arxiv.org/abs/2001.08361), section 2.1. Attention's own products, over about fifteen
    tokens, are below a hundredth of it and not counted.
    """
    encoder, decoder = (
        sum(parameter.numel() for parameter in part.parameters() if parameter.dim() == 2)
        for part in (network.encoder, network.decoder)
    )
    return 6 * (source_tokens * encoder + target_tokens * (decoder + network.target_embedding.weight.numel()))


class Step(nn.Module):
    """One step of decoding as a graph that holds the encoder as well.

    What is read is appended to what was read before: the first step is given the source and an empty memory, later
    ones an empty source (no tokens, so that the encoder computes nothing) and the memory.
    """

    def __init__(self, network: Transformer) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        source: torch.Tensor,
        tokens: torch.Tensor,
        position: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        memory_keys: torch.Tensor,
        memory_values: torch.Tensor,
        memory_mask: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Returns logits [batch, new, vocabulary], cross-attention [batch, layers, heads, new, source], and the state.

        Args:
            source: tokens to read, padded at the end.
            tokens: new tokens of the target, [batch, new].
            position: [batch], target tokens before them.
            keys: of the decoder's own tokens, [batch, layers, heads, past, head_dim].
            values: likewise.
            memory_keys: of the source that was read, [batch, layers, heads, source, head_dim].
            memory_values: likewise.
            memory_mask: bool [batch, source], true where there is no padding.
        """
        mask = self.network.source_mask(source)
        read = self.network.start(self.network.encode(source, mask), mask)
        state = DecoderState(
            keys,
            values,
            torch.cat((memory_keys, read.memory_keys), dim=3),
            torch.cat((memory_values, read.memory_values), dim=3),
            torch.cat((memory_mask[:, None, None, :], read.memory_mask), dim=3),
        )
        logits, state, attention = self.network.step_with_weights(tokens, position, state)
        mask = state.memory_mask[:, 0, 0]
        floats = (logits, attention, state.keys, state.values, state.memory_keys, state.memory_values)
        return *(part.float() for part in floats), mask


def export_graph(saved: SavedRun[Config]) -> ExportGraph:
    """Returns a finished run's network as it is exported."""
    tokenizer = Tokenizer.from_json((saved.directory / TOKENIZER).read_text(encoding="utf-8"))
    network = build(saved.config, tokenizer.size)
    TeacherForcing(network, 0.0, torch.float32).load_state_dict(saved.weights())
    return decoding_graph(network, saved.config, tokenizer)


def decoding_graph(network: Transformer, config: Config, tokenizer: Tokenizer) -> ExportGraph:
    """Returns a network as a graph; what a `Translator` must know is in the metadata."""
    head_dim = config.dim // config.heads

    def cache(tokens: int) -> np.ndarray:
        return np.zeros((2, config.decoder_layers, config.heads, tokens, head_dim), np.float32)

    example: dict[str, np.ndarray] = {
        "source": np.full((2, 3), 4, np.int64),
        "tokens": np.full((2, 2), 4, np.int64),
        "position": np.full(2, 3, np.int64),
        "keys": cache(5),
        "values": cache(5),
        "memory_keys": cache(6),
        "memory_values": cache(6),
        "memory_mask": np.ones((2, 6), np.bool_),
    }
    metadata = {
        "tokenizer": tokenizer.to_json(),
        "source": config.source,
        "target": config.target,
        "decoder": f"{config.decoder_layers} {config.heads} {head_dim}",
        "network": f"{config.encoder_layers} + {config.decoder_layers} layers of {config.dim}",
    }
    dynamic = {
        "source": {1: "read"},
        "tokens": {1: "new"},
        **{name: {3: "past"} for name in ("keys", "values")},
        **{name: {3: "memory"} for name in ("memory_keys", "memory_values")},
        "memory_mask": {1: "memory"},
    }
    outputs = ("logits", "attention", *(f"next_{name}" for name in GRAPH_STATE))
    return ExportGraph(Step(network).eval(), example, outputs, metadata, quantization="dynamic", dynamic=dynamic)
