"""Reads a Llama from a GGUF file, the format of llama.cpp: sizes, weights and vocabulary in one file.

Quantized weights are turned into float32.
"""

from pathlib import Path
from typing import Any

import gguf
import torch

from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.llm.llama_weights import llama_from_weights

MODULES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Modules as llama.cpp names them, and ours."""


def open_gguf(source: Path | gguf.GGUFReader) -> gguf.GGUFReader:
    """Opens a GGUF file, which takes seconds where the vocabulary is large; returns an open one as it is.

    Raises:
        ValueError: it is no GGUF.
        OSError: it cannot be read.
    """
    return source if isinstance(source, gguf.GGUFReader) else gguf.GGUFReader(source)


def load_gguf(source: Path | gguf.GGUFReader) -> Llama:
    """Builds the model of a GGUF file of architecture `llama`, in float32 and in evaluation mode.

    Args:
        source: its path, or the opened file.

    Raises:
        ValueError: it is no GGUF, of another architecture, or its weights do not fit its sizes; says which.
        OSError: it cannot be read.
    """
    reader = open_gguf(source)
    names = {tensor.name for tensor in reader.tensors}
    config = _config(reader, tie_embeddings="output.weight" not in names)
    weights: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        weight = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        layer, _, kind = tensor.name.removeprefix("blk.").rpartition(".")
        number, _, module = layer.rpartition(".")
        if module not in MODULES:
            raise ValueError(f"the tensor {tensor.name} of the GGUF file has no place in a Llama")
        if module in ("attn_q", "attn_k"):
            weight = _pair_by_halves(weight, config.head_dim)
        prefix = f"model.layers.{number}." if number else ""
        weights[f"{prefix}{MODULES[module]}.{kind}"] = weight
    return llama_from_weights(config, weights)


def _config(reader: gguf.GGUFReader, tie_embeddings: bool) -> LlamaConfig:
    def value(name: str, default: Any = None) -> Any:
        field = reader.get_field(name)
        return default if field is None else field.contents()

    if (architecture := value("general.architecture")) != "llama":
        raise ValueError(f"the GGUF file holds the architecture {architecture!r}, not llama")
    if value("llama.rope.scaling.type", "none") != "none" or value("llama.expert_count", 0):
        raise ValueError("a GGUF file with RoPE scaling or experts is not read; use the model's safetensors")
    tokens = reader.get_field("tokenizer.ggml.tokens")
    if tokens is None:
        raise ValueError("the GGUF file holds no vocabulary")
    heads, dim = value("llama.attention.head_count"), value("llama.embedding_length")
    return LlamaConfig(
        vocab_size=len(tokens.data),
        dim=dim,
        num_layers=value("llama.block_count"),
        num_heads=heads,
        num_kv_heads=value("llama.attention.head_count_kv", heads),
        head_dim=value("llama.attention.key_length", dim // heads),
        feedforward_dim=value("llama.feed_forward_length"),
        context_length=value("llama.context_length"),
        norm_eps=value("llama.attention.layer_norm_rms_epsilon"),
        rope_theta=value("llama.rope.freq_base", 10_000.0),
        tie_embeddings=tie_embeddings,
    )


def _pair_by_halves(weight: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Reorders each head's rows, [heads · head_dim, dim], from llama.cpp's pairs (2i, 2i + 1) to (i, i + half)."""
    heads: torch.Tensor = weight.unflatten(0, (-1, head_dim // 2, 2))  # [heads, pairs, 2, dim]
    return heads.transpose(1, 2).flatten(0, 2)
