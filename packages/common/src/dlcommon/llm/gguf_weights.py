"""Builds a Llama from a GGUF file; quantized weights are turned into float32."""

from pathlib import Path
from typing import Any

import gguf
import torch

from dlcommon.llm.gguf_file import GGUFWeights, head_dim, open_gguf
from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.llm.llama_weights import llama_from_weights


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
    weights = {name: torch.from_numpy(weight) for name, weight in GGUFWeights(reader).items()}
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
        head_dim=head_dim(reader),
        feedforward_dim=value("llama.feed_forward_length"),
        context_length=value("llama.context_length"),
        norm_eps=value("llama.attention.layer_norm_rms_epsilon"),
        rope_theta=value("llama.rope.freq_base", 10_000.0),
        tie_embeddings=tie_embeddings,
    )
