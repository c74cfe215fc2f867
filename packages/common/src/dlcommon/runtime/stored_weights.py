"""Which tensors of a model are stored: those that training can change, each once.

A pretrained part whose weights are frozen is not stored: it comes from an asset, which the run names. A tensor that two
layers share is stored under its first name only.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

ALIASES = "tied"
"""Key of a safetensors file's metadata: JSON object from each tied name to the name that is stored."""


@dataclass(frozen=True)
class StoredWeights:
    """Lists which names of a model's state dict are stored, which are aliases of them, and which are omitted."""

    names: tuple[str, ...]
    aliases: Mapping[str, str]
    """Name of a shared tensor to the name that it is stored under."""
    omitted: frozenset[str]
    """Frozen parameters of pretrained parts."""

    @classmethod
    def of(cls, model: nn.Module, pretrained: Iterable[nn.Module] = ()) -> "StoredWeights":
        """Decides by the model as it is now: what requires no gradient in a pretrained part is frozen."""
        frozen = {id(p) for part in pretrained for p in part.parameters() if not p.requires_grad}
        first: dict[int, str] = {}
        names, aliases, omitted = [], {}, set()
        for name, tensor in model.state_dict(keep_vars=True).items():
            if id(tensor) in frozen:
                omitted.add(name)
            elif id(tensor) in first:
                aliases[name] = first[id(tensor)]
            else:
                first[id(tensor)] = name
                names.append(name)
        return cls(tuple(names), aliases, frozenset(omitted))

    def select(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Selects the model's tensors that are stored, by name."""
        state = model.state_dict()
        return {name: state[name] for name in self.names}

    def complete(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns the stored tensors under all of their names, the tied ones included."""
        return {**weights, **{name: weights[stored] for name, stored in self.aliases.items()}}

    def load(self, model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
        """Gives the model its stored tensors; frozen pretrained ones stay as they are.

        Raises:
            RuntimeError: a tensor is missing, unknown or of another shape.
        """
        frozen = {name: value for name, value in model.state_dict().items() if name in self.omitted}
        model.load_state_dict({**frozen, **self.complete(weights)})

    def to_bytes(self, model: nn.Module) -> bytes:
        """Serializes the stored tensors as a safetensors file; its metadata maps tied names to stored ones."""
        tensors = self.select(model).items()
        # Copies, since safetensors refuses tensors that share memory or are not contiguous.
        copies = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors}
        return save(copies, {ALIASES: json.dumps(self.aliases)} if self.aliases else None)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads a file that `to_bytes` made: every stored tensor, under all of its names.

    Raises:
        OSError, SafetensorError: the file is missing or damaged.
    """
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — it is no dict
        aliases = json.loads((file.metadata() or {}).get(ALIASES, "{}"))
    return {**weights, **{name: weights[stored] for name, stored in aliases.items()}}
