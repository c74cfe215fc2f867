"""Opens a GGUF file, the format of llama.cpp, and reads a Llama's weights from it without torch.

Sizes, weights and vocabulary are in one file. Weights have transformers' names here, and its order of coordinates.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import gguf
import numpy as np

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
"""Modules as llama.cpp names them, and transformers."""


def open_gguf(source: Path | gguf.GGUFReader) -> gguf.GGUFReader:
    """Opens a GGUF file, which takes seconds where the vocabulary is large; returns an open one as it is.

    Raises:
        ValueError: it is no GGUF.
        OSError: it cannot be read.
    """
    return source if isinstance(source, gguf.GGUFReader) else gguf.GGUFReader(source)


class GGUFWeights(Mapping[str, np.ndarray]):
    """Maps the names that a Llama's weights have in transformers to float32 arrays, each dequantized when it is read.

    Args:
        source: a GGUF file's path, or the opened file.

    Raises:
        ValueError: it is no GGUF, or a tensor has no place in a Llama; says which.
        OSError: it cannot be read.
    """

    def __init__(self, source: Path | gguf.GGUFReader) -> None:
        reader = open_gguf(source)
        self._head_dim = head_dim(reader)
        self._tensors = {transformers_name(tensor.name): tensor for tensor in reader.tensors}

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        weight = np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        return pair_by_halves(weight, self._head_dim) if is_rotated(name) else weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def head_dim(reader: gguf.GGUFReader) -> int:
    """Returns the width of one attention head.

    Raises:
        ValueError: the file does not say it.
    """

    def size(name: str) -> int | None:
        field = reader.get_field(f"llama.{name}")
        return None if field is None else int(field.contents())

    if (width := size("attention.key_length")) is not None:
        return width
    dim, heads = size("embedding_length"), size("attention.head_count")
    if not dim or not heads:
        raise ValueError("the GGUF file does not describe a Llama: it lacks the width or the number of heads")
    return dim // heads


def transformers_name(name: str) -> str:
    """Translates the name of a tensor.

    Raises:
        ValueError: it has no place in a Llama.
    """
    layer, _, kind = name.removeprefix("blk.").rpartition(".")
    number, _, module = layer.rpartition(".")
    if module not in MODULES:
        raise ValueError(f"the tensor {name} of the GGUF file has no place in a Llama")
    prefix = f"model.layers.{number}." if number else ""
    return f"{prefix}{MODULES[module]}.{kind}"


def is_rotated(name: str) -> bool:
    """Tells whether a weight, by transformers' name, makes coordinates that RoPE rotates: queries and keys."""
    return ".q_proj." in name or ".k_proj." in name


def pair_by_halves(weight: np.ndarray, head_dim: int) -> np.ndarray:
    """Reorders each head's rows, [heads · head_dim, …], from llama.cpp's pairs (2i, 2i + 1) to (i, i + half)."""
    heads = weight.reshape(-1, head_dim // 2, 2, *weight.shape[1:])  # [heads, pairs, 2, …]
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(weight.shape)
