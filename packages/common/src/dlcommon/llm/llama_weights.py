"""Loads a `Llama` from files in the layout of transformers, and its weights from transformers' models."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from dlcommon.llm.llama import Llama, LlamaConfig

INDEX_FILE = "model.safetensors.index.json"
"""Names the file that holds each weight, where a model is larger than one file."""


def load_pretrained(directory: Path) -> Llama:
    """Builds the model that a directory's `config.json` describes, with the weights of its safetensors.

    Returns:
        The model in float32, in evaluation mode.

    Raises:
        ValueError: the architecture is another one, or the weights do not fit it; says which.
        OSError: a file cannot be read.
    """
    names = ["model.safetensors"]
    if (index := directory / INDEX_FILE).is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    weights = {name: tensor for file in names for name, tensor in load_file(directory / file).items()}
    return llama_from_weights(LlamaConfig.from_json(directory / "config.json"), weights)


def llama_from_weights(config: LlamaConfig, weights: Mapping[str, torch.Tensor]) -> Llama:
    """Builds a model that holds these weights, by transformers' names, in float32 and in evaluation mode.

    Raises:
        ValueError: they do not fit the architecture; says which.
    """
    with torch.device("meta"):  # allocates nothing and draws no random numbers, since all is overwritten
        model = Llama(config)
    model = model.to_empty(device="cpu")
    load_transformers_weights(model, weights)
    return model.eval()


def load_transformers_weights(model: Llama, weights: Mapping[str, torch.Tensor]) -> None:
    """Copies the weights of transformers' `LlamaForCausalLM` and its kin, from a file or from `state_dict()`.

    Of tied embeddings a `state_dict()` holds the same tensor twice; the second is left out.

    Raises:
        ValueError: a weight is missing, has another shape, or has no place.
    """
    if model.lm_head is None:
        weights = {name: tensor for name, tensor in weights.items() if name != "lm_head.weight"}
    # Old files hold the rotary frequencies of each layer, which are computed here.
    weights = {name: tensor for name, tensor in weights.items() if not name.endswith("rotary_emb.inv_freq")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"these are not the weights of a Llama of this size: {error}") from None
