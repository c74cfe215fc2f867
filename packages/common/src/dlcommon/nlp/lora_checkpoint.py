"""Adapters as files in peft's format: peft loads what is saved here, and what peft has saved is loaded.

A folder holds `adapter_model.safetensors`, the matrices alone, and `adapter_config.json`, what they are.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from dlcommon.nlp.dora import DoRALinear
from dlcommon.nlp.lora import LoRAConfig, LoRALinear, load_lora_state_dict, lora_layers, wrap_layers
from dlcommon.nlp.pissa import PiSSALinear

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_NAMES = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "magnitude": "lora_magnitude_vector"}
"""Ours to peft's."""
_WITHOUT_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode", "init_lora_weights",
    "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core", "peft_type", "peft_version",
    "qalora_group_size", "r", "revision", "target_modules", "task_type", "use_dora", "use_rslora",
}  # fmt: skip
"""Settings that are read, or that do not matter once the names of the matrices are known."""
_KEEPS_WEIGHTS = (True, False, "gaussian", "orthogonal", "eva", "mica")
"""Values of `init_lora_weights` that leave the pretrained weights as they are."""


def save_adapter(
    model: nn.Module, directory: Path, *, base_model: str | None = None, task_type: str | None = None
) -> None:
    """Stores a network's adapters, not its weights. Each file is replaced at once or not at all.

    Args:
        model: with the adapters of `add_lora`; they may be merged.
        directory: is made if it does not exist.
        base_model: name of the pretrained network on the hub, or its folder, noted for peft's `AutoPeftModel`.
        task_type: peft's, such as `CAUSAL_LM`.

    Raises:
        ValueError: there are no adapters, or they differ in rank, scaling or kind.
    """
    layers = lora_layers(model)
    if not layers:
        raise ValueError("this network has no adapters; call add_lora(model, config) first")
    kinds = {(type(layer), layer.config.rank, layer.scaling, layer.config.rank_stabilized) for layer in layers.values()}
    if len(kinds) > 1:
        raise ValueError(f"adapters that are stored together have one rank, scaling and kind, but these have {kinds}")
    (kind, rank, scaling, rank_stabilized), *_ = kinds
    stored_rank = 2 * rank if issubclass(kind, PiSSALinear) else rank
    content = {
        "peft_type": "LORA",
        "task_type": task_type,
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": stored_rank,
        "lora_alpha": scaling * (stored_rank**0.5 if rank_stabilized else stored_rank),
        "lora_dropout": next(iter(layers.values())).config.dropout,
        "use_rslora": rank_stabilized,
        "use_dora": issubclass(kind, DoRALinear),
        "target_modules": _target_modules(model, layers),
        "bias": "none",
        "init_lora_weights": True,
    }
    matrices = {
        f"base_model.model.{name}.{_NAMES[ours]}": matrix.cpu().contiguous()
        for name, layer in layers.items()
        for ours, matrix in stored_matrices(layer).items()
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, CONFIG):
        temporary = directory / f".{name}.{os.getpid()}"
        try:
            if name == WEIGHTS:
                save_file(matrices, temporary, metadata={"format": "pt"})
            else:
                temporary.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")
            temporary.replace(directory / name)
        finally:
            temporary.unlink(missing_ok=True)


def load_adapter(model: nn.Module, directory: Path, *, dropout: float | None = None) -> LoRAConfig:
    """Puts stored adapters, ours or peft's, into a network that has none, and freezes the rest of it.

    Args:
        model: the pretrained network, with the layers' names as when the adapters were stored.
        directory: holds the two files.
        dropout: for further training; `None`: as stored.

    Returns:
        What the adapters are; `targets` are the names of all layers.

    Raises:
        ValueError: the files are damaged, do not fit the network, or use a feature of peft's that this module does not
            implement; nothing has been changed.
        OSError: a file cannot be read.
    """
    if lora_layers(model):
        raise ValueError("this network has adapters already; call merge_lora(model) and unload_lora(model) first")
    content = _read_config(directory / CONFIG)
    path = directory / WEIGHTS
    try:
        matrices = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}; copy it again") from error
    state: dict[str, torch.Tensor] = {}
    pattern = re.compile(rf"base_model\.model\.(.+)\.({'|'.join(map(re.escape, _NAMES.values()))})")
    ours = {theirs: name for name, theirs in _NAMES.items()}
    names: dict[str, None] = {}  # in order, each once
    for key, matrix in matrices.items():
        found = pattern.fullmatch(key)
        if found is None:
            raise ValueError(f"{path}: {key} is no matrix of an adapter of a linear layer, which is all that is loaded")
        names[found[1]] = None
        state[f"{found[1]}.{ours[found[2]]}"] = matrix
    layer = DoRALinear if content.get("use_dora") else LoRALinear
    try:
        config = LoRAConfig(
            rank=int(content["r"]),
            alpha=float(content["lora_alpha"]),
            targets=tuple(names),
            rank_stabilized=bool(content.get("use_rslora")),
            dropout=float(content.get("lora_dropout", 0.0)) if dropout is None else dropout,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{directory / CONFIG} describes no adapter: {error}") from error
    _require_fit(model, state, config, layer, path)
    wrap_layers(model, names, config, layer)
    load_lora_state_dict(model, state)
    return config


def stored_matrices(layer: LoRALinear) -> dict[str, torch.Tensor]:
    """Returns an adapter's matrices as they are stored; those of PiSSA as LoRA of twice the rank."""
    if isinstance(layer, PiSSALinear):  # B A − B₀ A₀ = [B, −B₀] [A; A₀]
        return {
            "lora_a": torch.cat((layer.lora_a.detach(), layer.initial_a)),
            "lora_b": torch.cat((layer.lora_b.detach(), -layer.initial_b), dim=1),
        }
    return {name: getattr(layer, name).detach() for name in layer.trained}


def _target_modules(model: nn.Module, layers: Mapping[str, LoRALinear]) -> list[str] | str:
    """Names the layers for peft: by the last parts of their names where these say it all, else by an expression."""
    last = {name.rpartition(".")[2] for name in layers}
    inside = tuple(f"{name}." for name in layers)
    modules = [name for name, _ in model.named_modules() if not name.startswith(inside)]
    if {name for name in modules if name.rpartition(".")[2] in last} == set(layers):
        return sorted(last)
    return "|".join(re.escape(name) for name in layers)


def _read_config(path: Path) -> dict[str, Any]:
    """Reads the settings.

    Raises:
        ValueError: it is no JSON object, or a setting is not implemented here.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("peft_type") != "LORA":
        raise ValueError(f"{path} does not describe LoRA; its peft_type must be 'LORA'")
    for setting, value in content.items():
        if setting not in _WITHOUT_EFFECT and value and value != "none":
            raise ValueError(f"{path}: {setting} is {value!r}, which is not implemented here; load it with peft")
    if (start := content.get("init_lora_weights", True)) not in _KEEPS_WEIGHTS:
        raise ValueError(
            f"{path}: init_lora_weights {start!r} has changed the pretrained weights as well; store the adapter with "
            f"peft's save_pretrained(…, path_initial_model_for_weight_conversion=…)"
        )
    return content


def _require_fit(
    model: nn.Module, state: Mapping[str, torch.Tensor], config: LoRAConfig, layer: type[LoRALinear], path: Path
) -> None:
    """Raises ValueError unless every adapter has a linear layer, and all of its matrices in the shapes for it."""
    modules = dict(model.named_modules())
    for name in config.targets:
        linear = modules.get(name)
        if not isinstance(linear, nn.Linear):
            raise ValueError(
                f"{path}: the network has no linear layer {name}; is it the pretrained one it was made for?"
            )
        shapes = {
            "lora_a": [config.rank, linear.in_features],
            "lora_b": [linear.out_features, config.rank],
            "magnitude": [linear.out_features],
        }
        expected = {matrix: shapes[matrix] for matrix in layer.trained}
        found = {matrix: list(state[f"{name}.{matrix}"].shape) for matrix in _NAMES if f"{name}.{matrix}" in state}
        if found != expected:
            raise ValueError(f"{path}: the matrices of {name} have the shapes {found}, but {expected} are needed")
