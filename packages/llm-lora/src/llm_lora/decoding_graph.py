"""One step of decoding as an ONNX graph: a base that several adapters share, each row of the batch with its own.

The base's weights are those of the asset, which the exported file leaves out. The adapter is one matrix [rank, size]: a
row holds, for every adapted layer, a row of A and a column of scaling · B. It is an input with a default, so that a
server can put the matrices of several adapters on top of each other and give each row of the batch its share of them
(`lora_scale`): all ones for this adapter, all zeros for the base alone.

Shapes: batch and `new` are the rows and the new tokens; `past` the capacity of the cache, of which each row has filled
`past_lengths`; `wanted` the tokens whose logits are asked for.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from dlcommon.llm.llama import Block, GroupedQueryAttention, Llama
from dlcommon.llm.mixture_of_experts import MixtureOfExperts
from dlcommon.nlp.dora import DoRALinear
from dlcommon.nlp.lora import LoRALinear, lora_layers, merge_lora, unload_lora
from dlcommon.nlp.lora_checkpoint import stored_matrices
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.transformer.rotary_embedding import apply_rotary_emb, rotary_cos_sin
from torch import nn
from torch.nn import functional as F

from llm_lora.adapter_matrix import ADAPTER, SCALE, AdapterLayout
from llm_lora.tokenizer import Tokenizer

OUTPUTS = ("logits", "new_keys", "new_values")


class DecodingStep(nn.Module):
    """Reads new tokens after cached ones, and computes the logits of the wanted ones and what the cache is to hold.

    Args:
        model: in evaluation mode; its adapters stay unmerged, and are what `adapter` is by default.
    """

    adapter: torch.Tensor

    def __init__(self, model: Llama) -> None:
        super().__init__()
        layers = lora_layers(model)
        self.layout = adapter_layout(layers)
        self.register_buffer("adapter", torch.from_numpy(adapter_matrix(layers, self.layout)))
        self.rank = self.adapter.size(0)
        self.network = model
        for name, layer in layers.items():
            layer.dotted_name = name  # type: ignore[assignment]  # by which its part of the adapter is found

    def forward(
        self,
        tokens: torch.Tensor,
        past_lengths: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        wanted: torch.Tensor,
        lora_scale: torch.Tensor | None = None,
        adapter: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Computes one step.

        Args:
            tokens: int64 [batch, new]; a row with fewer new tokens is filled up behind them with any.
            past_lengths: int64 [batch], how many cached tokens each row has.
            keys: float32 [batch, layers, kv heads, past, head_dim]; what lies behind a row's length is not read.
            values: shaped like `keys`.
            wanted: int64 [batch, wanted], places among the new tokens.
            lora_scale: float32 [batch, rank], the share that each row has in each row of `adapter`.
            adapter: float32 [rank, size].

        Returns:
            Logits [batch, wanted, vocabulary], and keys and values of the new tokens, each [batch, layers, kv heads,
            new, head_dim].
        """
        config, model = self.network.config, self.network.model
        parts = self._parts(self.adapter if adapter is None else adapter)
        new, past = tokens.size(1), keys.size(3)
        order = torch.arange(new, device=tokens.device)
        positions = past_lengths[:, None] + order  # [batch, new]
        cos, sin = rotary_cos_sin(
            positions[:, None], config.head_dim, frequencies=self.network.frequencies(tokens.device)
        )
        filled = torch.arange(past, device=tokens.device) < past_lengths[:, None]  # [batch, past]
        zero = keys.new_zeros(())
        past_bias = torch.where(filled, zero, -torch.inf)[:, None, None, None]  # [batch, 1, 1, 1, past]
        new_bias = torch.where(order <= order[:, None], zero, -torch.inf)  # [new, new]
        x = model.embed_tokens(tokens)
        new_keys, new_values = [], []
        for number, block in enumerate(model.layers):
            assert isinstance(block, Block)  # which a ModuleList does not say
            step = _BlockStep(block, parts, lora_scale)
            x, key, value = step(x, cos, sin, (past_bias, new_bias), keys[:, number], values[:, number])
            new_keys.append(key)
            new_values.append(value)
        features = model.norm(x)
        chosen = features.gather(1, wanted[:, :, None].expand(-1, -1, features.size(2)))
        return self.network.logits(chosen), torch.stack(new_keys, dim=1), torch.stack(new_values, dim=1)

    def _parts(self, adapter: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Cuts the adapter: name of a layer to A [rank, in] and scaling · Bᵀ [rank, out]."""
        pieces = iter(adapter.split(self.layout.sizes, dim=1)) if self.layout.names else iter(())
        return {name: (next(pieces), next(pieces)) for name in self.layout.names}


class _BlockStep:
    """Computes a block of the network with the cache's capacity apart from the new tokens, and with a row's adapters.

    The same as `Block.forward`, but keys and values are not joined with the cached ones, whose copy would take longer
    than attending to them; only the scores are.
    """

    def __init__(
        self, block: Block, parts: Mapping[str, tuple[torch.Tensor, torch.Tensor]], scale: torch.Tensor | None
    ) -> None:
        self._block, self._parts, self._scale = block, parts, scale

    def __call__(
        self,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        biases: tuple[torch.Tensor, torch.Tensor],
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        block = self._block
        attended, key, value = self._attend(block.self_attn, block.input_layernorm(x), cos, sin, biases, keys, values)
        x = x + attended
        return x + self._feed_forward(block.mlp, block.post_attention_layernorm(x)), key, value

    def _linear(self, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, new, in] to [batch, new, out]."""
        if not isinstance(layer, LoRALinear):
            output: torch.Tensor = layer(x)
            return output
        a, b = self._parts[layer.dotted_name]  # type: ignore[index]
        assert self._scale is not None
        adapted: torch.Tensor = layer.base(x) + ((x @ a.T) * self._scale[:, None]) @ b
        return adapted

    def _feed_forward(self, mlp: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if isinstance(mlp, MixtureOfExperts):
            output: torch.Tensor = mlp(x)
            return output
        gate, up = self._linear(mlp.gate_proj, x), self._linear(mlp.up_proj, x)  # type: ignore[arg-type]
        return self._linear(mlp.down_proj, F.silu(gate) * up)  # type: ignore[arg-type]

    def _attend(
        self,
        layer: GroupedQueryAttention,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        biases: tuple[torch.Tensor, torch.Tensor],
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch, new = x.size(0), x.size(1)
        query, key, value = (
            self._linear(projection, x).view(batch, new, -1, layer.head_dim).transpose(1, 2)
            for projection in (layer.q_proj, layer.k_proj, layer.v_proj)
        )  # each [batch, heads, new, head_dim]
        query = apply_rotary_emb(layer.q_norm(query), cos, sin) * layer.head_dim**-0.5
        key = apply_rotary_emb(layer.k_norm(key), cos, sin)
        kv_heads, past = key.size(1), keys.size(2)
        groups = query.size(1) // kv_heads
        # The queries that share a head of keys and values are rows of one matrix.
        query = query.reshape(batch, kv_heads, groups * new, layer.head_dim)
        scores = torch.cat(
            (
                (query @ keys.mT).view(batch, kv_heads, groups, new, past) + biases[0],
                (query @ key.mT).view(batch, kv_heads, groups, new, new) + biases[1],
            ),
            dim=-1,
        )
        weights = scores.softmax(dim=-1).view(batch, kv_heads, groups * new, past + new)
        attended = weights[..., :past] @ values + weights[..., past:] @ value  # [batch, kv heads, groups · new, …]
        heads = attended.view(batch, kv_heads * groups, new, layer.head_dim)
        return self._linear(layer.o_proj, heads.transpose(1, 2).reshape(batch, new, -1)), key, value


def adapter_layout(layers: Mapping[str, LoRALinear]) -> AdapterLayout:
    """Returns where each layer's matrices are in the adapter."""
    return AdapterLayout(
        tuple((name, layer.lora_a.size(1), layer.lora_b.size(0)) for name, layer in sorted(layers.items()))
    )


def adapter_matrix(layers: Mapping[str, LoRALinear], layout: AdapterLayout) -> np.ndarray:
    """Returns all adapters of a network as one matrix, float32 [rank, size]."""
    rows: list[torch.Tensor] = []
    for name in layout.names:
        matrices = stored_matrices(layers[name])
        rows += [matrices["lora_a"], layers[name].scaling * matrices["lora_b"].T]
    return torch.cat(rows, dim=1).float().numpy() if rows else np.zeros((0, 0), np.float32)


def decoding_graph(
    model: Llama,
    tokenizer: Tokenizer,
    base: str,
    requires: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> ExportGraph:
    """Returns a tuned network as a graph; what a `Decoder` must know is in the metadata.

    DoRA scales the outputs of the base, which a matrix that is added cannot: it is merged into the weights, as is an
    adapter of a layer outside of the blocks. Then the graph has no `lora_scale`.

    Args:
        model: with its adapters, if it has any; it is changed.
        tokenizer: the base's.
        base: name of the base.
        requires: names of the assets that hold the base's weights.
        metadata: more of it.
    """
    model.eval().float()
    fingerprint = weights_fingerprint(model)
    layers = lora_layers(model)
    if any(isinstance(layer, DoRALinear) or ".layers." not in name for name, layer in layers.items()):
        merge_lora(model)
        unload_lora(model)
    step, config = DecodingStep(model).eval(), model.config
    shape = (2, config.num_layers, config.num_kv_heads, 3, config.head_dim)
    example: dict[str, np.ndarray] = {
        "tokens": np.array([[0, 1], [1, 2]], np.int64),
        "past_lengths": np.array([3, 2], np.int64),
        "keys": np.zeros(shape, np.float32),
        "values": np.zeros(shape, np.float32),
        "wanted": np.array([[0, 1], [1, 1]], np.int64),
    }
    dynamic = {"tokens": {1: "new"}, "keys": {3: "past"}, "values": {3: "past"}, "wanted": {1: "wanted"}}
    defaults: dict[str, np.ndarray] = {}
    if step.rank:
        example[SCALE] = np.ones((2, step.rank), np.float32)
        dynamic |= {SCALE: {1: "rank"}, ADAPTER: {0: "rank"}}
        defaults[ADAPTER] = step.adapter.numpy()
    known: dict[str, Any] = {
        "base": base,
        "base_fingerprint": fingerprint,
        "context": str(config.context_length),
        "cache": json.dumps([config.num_layers, config.num_kv_heads, config.head_dim]),
        "adapter_layout": step.layout.to_json(),
        "rank": str(step.rank),
        "network": f"{base}, {config.num_layers} layers of {config.dim}",
    }
    if not requires:  # else it is the asset's
        known["tokenizer"] = tokenizer.to_json()
    return ExportGraph(
        step,
        example,
        OUTPUTS,
        {**known, **(metadata or {})},
        quantization="dynamic",
        requires=tuple(requires),
        dynamic=dynamic,
        defaults=defaults,
    )


def weights_fingerprint(model: Llama) -> str:
    """Returns a sha256 over the weights of the base, whatever its adapters: graphs of the same base can share it."""
    digest = hashlib.sha256()
    adapters = lora_layers(model)
    trained = {f"{name}.{matrix}" for name, layer in adapters.items() for matrix in layer.trained}
    for name, weight in sorted(model.named_parameters(), key=lambda pair: pair[0].replace(".base.", ".")):
        if name not in trained:
            digest.update(name.replace(".base.", ".").encode())
            digest.update(weight.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
