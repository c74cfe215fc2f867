"""Loads weights in the layout of transformers' BERT models into ours.

Every name is translated by the tables below; a weight without a place, and a place without a weight, are errors.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from dlcommon.transformer.bert import Bert, BertConfig, BertForMaskedLM, BertForSequenceClassification

_ENCODER = {
    "embeddings.word_embeddings": "embeddings.word",
    "embeddings.token_type_embeddings": "embeddings.segment",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.LayerNorm": "embeddings.norm",
    "pooler.dense": "pooler",
}
_LAYER = {
    "attention.self.query": "self_attention.query_proj",
    "attention.self.key": "self_attention.key_proj",
    "attention.self.value": "self_attention.value_proj",
    "attention.output.dense": "self_attention.out_proj",
    "attention.output.LayerNorm": "attention_residual.norm",
    "intermediate.dense": "feed_forward.up_proj",
    "output.dense": "feed_forward.down_proj",
    "output.LayerNorm": "feed_forward_residual.norm",
}
_MASKED_LM = {"cls.predictions.transform.dense": "transform", "cls.predictions.transform.LayerNorm": "norm"}
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}
"""What the first BERTs, ported from TensorFlow, call the parameters of a LayerNorm."""
_CONSTANTS = ("embeddings.position_ids", "embeddings.token_type_ids")
"""Tensors in some files that hold no weights: 0, 1, 2, … and zeros."""
_TIED = {"cls.predictions.decoder.weight": "embeddings.word.weight", "cls.predictions.decoder.bias": "bias"}
"""Second copies in some files of weights that the model has once."""


def load_pretrained(directory: Path) -> Bert:
    """Builds the encoder that a directory's `config.json` describes, with the weights of its `model.safetensors`.

    It has a pooler where the file has one. Heads for pretraining or classification are left out.

    Returns:
        The encoder in float32, in evaluation mode.

    Raises:
        ValueError: the architecture is another one, or the weights do not fit it; says which.
        OSError: a file cannot be read.
    """
    config = BertConfig.from_json(directory / "config.json")
    weights = load_file(directory / "model.safetensors")
    with torch.device("meta"):  # allocates nothing and draws no random numbers, since all is overwritten
        bert = Bert(config, pooler=any("pooler.dense." in name for name in weights))
    bert = bert.to_empty(device="cpu")
    try:
        load_transformers_weights(bert, weights)
    except ValueError as error:
        raise ValueError(f"{directory / 'model.safetensors'}: {error}") from error
    return bert.eval()


def load_transformers_weights(
    model: Bert | BertForSequenceClassification | BertForMaskedLM, weights: Mapping[str, torch.Tensor]
) -> None:
    """Copies the weights of transformers' model of the same name, or of its `BertModel` for a `Bert`.

    Args:
        model: is left unchanged if the weights do not fit.
        weights: state dict of the model. Heads that `model` does not have are left out.

    Raises:
        ValueError: weights are missing, unknown, or of another shape; names them.
    """
    translated: dict[str, torch.Tensor] = {}
    unknown, copies = [], {}
    for name, tensor in weights.items():
        bare = name.removeprefix("bert.")
        if bare in _CONSTANTS:
            continue
        if bare in _TIED and isinstance(model, BertForMaskedLM):
            copies[name] = (_TIED[bare], tensor)
            continue
        if _is_foreign_head(bare, model):
            continue
        ours = translate_name(bare)
        if ours is None:
            unknown.append(name)
        else:
            translated[ours] = tensor
    if unknown:
        raise ValueError(f"unknown weights: {_list(unknown)}")
    for name, (ours, tensor) in copies.items():
        if ours in translated and not torch.equal(translated[ours], tensor):
            raise ValueError(f"{name} differs from the weight that it is tied to")
        translated.setdefault(ours, tensor)
    body = "" if isinstance(model, Bert) else "bert."
    heads = ("classifier.", "transform.", "norm.", "bias")
    placed = {name if name.startswith(heads) else body + name: tensor for name, tensor in translated.items()}
    _require_fit(model, placed)
    model.load_state_dict(placed)


def translate_name(name: str) -> str | None:
    """Translates a weight's name in transformers' models, without `bert.`, to ours; `None` if it is unknown."""
    if name == "cls.predictions.bias":
        return "bias"
    module, _, parameter = name.rpartition(".")
    parameter = _OLD_NAMES.get(parameter, parameter)
    if module == "classifier":
        return name
    if in_layer := re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", module):
        place = _LAYER.get(in_layer[2])
        return None if place is None else f"encoder.layers.{in_layer[1]}.{place}.{parameter}"
    place = (_ENCODER | _MASKED_LM).get(module)
    return None if place is None else f"{place}.{parameter}"


def _is_foreign_head(name: str, model: nn.Module) -> bool:
    """Checks whether a weight belongs to a head that this model does not have."""
    if name.startswith("classifier."):
        return not isinstance(model, BertForSequenceClassification)
    if name.startswith("pooler."):
        return isinstance(model, BertForMaskedLM) and model.bert.pooler is None
    if name.startswith("cls.predictions."):
        return not isinstance(model, BertForMaskedLM)
    return name.startswith("cls.seq_relationship.")  # next-sentence prediction


def _require_fit(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Raises ValueError unless the weights are exactly the model's, by name and shape."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if missing := [name for name in expected if name not in weights]:
        raise ValueError(f"missing weights: {_list(missing)}")
    if unknown := [name for name in weights if name not in expected]:
        raise ValueError(f"weights without a place in the model: {_list(unknown)}")
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            raise ValueError(f"{name} is {tuple(weights[name].shape)}, but the model's is {shape}")


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
