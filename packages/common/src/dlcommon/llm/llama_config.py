"""Describes a Llama-like language model, and reads the description from transformers' `config.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlcommon.llm.rope_scaling import RopeScaling


@dataclass(frozen=True)
class LlamaConfig:
    """Describes the architecture of a `Llama`.

    Raises:
        ValueError: a size is not positive, or the sizes do not fit each other; says which.
    """

    vocab_size: int
    dim: int
    """Width of the features."""
    num_layers: int
    num_heads: int
    """Heads of queries."""
    num_kv_heads: int
    """Heads of keys and values: `num_heads` for multi-head attention, 1 for multi-query, between for grouped-query."""
    head_dim: int
    """Width of one head; num_heads · head_dim need not be `dim`."""
    feedforward_dim: int
    """Hidden width of the feed-forward network, or of each expert."""
    context_length: int = 2048
    """Largest number of tokens that the model is trained to attend to."""
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    tie_embeddings: bool = False
    """Whether the output layer is the matrix of the token embedding."""
    qkv_bias: bool = False
    """Whether queries, keys and values have a bias, as in Qwen 2."""
    qk_norm: bool = False
    """Whether each head's queries and keys pass an RMSNorm, as in Qwen 3."""
    num_experts: int = 0
    """Feed-forward networks in each layer among which a router chooses; 0 for one network and no router."""
    experts_per_token: int = 2
    """How many of them each token passes through."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "dim", "num_layers", "num_heads", "num_kv_heads", "head_dim", "feedforward_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} must be a multiple of num_kv_heads {self.num_kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for rotary embedding, not {self.head_dim}")
        if self.num_experts and not 1 <= self.experts_per_token <= self.num_experts:
            raise ValueError(f"experts_per_token must be from 1 to {self.num_experts}, not {self.experts_per_token}")

    @classmethod
    def from_json(cls, path: Path) -> "LlamaConfig":
        """Reads the `config.json` that stands beside a model's weights on the hub.

        Raises:
            ValueError: it is no JSON object, lacks a size, or describes an architecture that `Llama` has not.
            OSError: it cannot be read.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds no JSON object")
        try:
            return cls.from_transformers(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def from_transformers(cls, content: Mapping[str, Any]) -> "LlamaConfig":
        """Translates the content of a `config.json`, or of `to_dict()` of transformers' configuration.

        Raises:
            ValueError: a size is missing, or the architecture is not one of Llama, Mistral, Mixtral, Qwen 2 or Qwen 3
                as `Llama` implements them; says which setting.
        """
        family = content.get("model_type")
        _require_supported(content)
        sizes = {ours: content.get(theirs) for ours, theirs in _SIZES.items()}
        for ours, size in sizes.items():
            if not isinstance(size, int) or isinstance(size, bool):
                raise ValueError(f"{_SIZES[ours]} must be an integer, not {size!r}")
        values: dict[str, Any] = {**sizes}
        values["num_kv_heads"] = content.get("num_key_value_heads") or values["num_heads"]
        values["head_dim"] = content.get("head_dim") or values["dim"] // max(values["num_heads"], 1)
        values["norm_eps"] = content.get("rms_norm_eps", 1e-6)
        rope = _rope(content)
        values["rope_theta"] = float(rope.get("rope_theta", 10_000.0))
        values["rope_scaling"] = _scaling(rope, values["context_length"])
        values["tie_embeddings"] = bool(content.get("tie_word_embeddings", False))
        if family == "mixtral":
            values["num_experts"], values["experts_per_token"] = (
                content["num_local_experts"],
                content["num_experts_per_tok"],
            )
        return cls(**values, qkv_bias=family == "qwen2", qk_norm=family == "qwen3")


_SIZES = {
    "vocab_size": "vocab_size",
    "dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "feedforward_dim": "intermediate_size",
    "context_length": "max_position_embeddings",
}
_FAMILIES = ("llama", "mistral", "mixtral", "qwen2", "qwen3")


def _require_supported(content: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the setting, where the architecture has something that `Llama` lacks."""
    family = content.get("model_type")
    if family not in _FAMILIES:
        raise ValueError(f"model_type is {family!r}; a Llama reads {', '.join(_FAMILIES)}")
    if (activation := content.get("hidden_act", "silu")) != "silu":
        raise ValueError(f"hidden_act is {activation!r}; a Llama has silu")
    for setting in ("attention_bias", "mlp_bias", "use_sliding_window"):
        if content.get(setting):
            raise ValueError(f"{setting} is set, which a Llama does not implement")
    if family in ("mistral", "mixtral") and content.get("sliding_window"):
        raise ValueError("sliding_window is set, which a Llama does not implement")


def _rope(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of rotary embedding: one object in new files, two entries in those before transformers 5."""
    if (parameters := content.get("rope_parameters")) is not None:
        return dict(parameters)
    return {"rope_theta": content.get("rope_theta", 10_000.0), **(content.get("rope_scaling") or {})}


def _scaling(rope: Mapping[str, Any], context_length: int) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if float(rope.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ValueError("partial_rotary_factor is set, which a Llama does not implement")
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", float(rope["factor"]))
    if kind != "llama3":
        raise ValueError(f"rope_type is {kind!r}; a Llama has default, linear and llama3")
    return RopeScaling(
        "llama3",
        float(rope["factor"]),
        float(rope["low_freq_factor"]),
        float(rope["high_freq_factor"]),
        int(rope.get("original_max_position_embeddings", context_length)),
    )
