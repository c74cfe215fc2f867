"""Checkpoints: whole or absent, verified by checksum, and nothing in them is ever unpickled.

A checkpoint is a folder `step-00001234` with two files of tensors (`model.safetensors`, `state.safetensors`),
the tree they hang in (`state.json`) and `manifest.json` with the checksum of each.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_json, sha256, whole_folder, write_json

MANIFEST, TREE, MODEL, STATE = "manifest.json", "state.json", "model.safetensors", "state.safetensors"


def flatten(tree: Any, tensors: dict[str, torch.Tensor], path: str = "") -> Any:
    """Converts the tree to JSON, moving its tensors to `tensors` and referring to them by name.

    Raises:
        ValueError: two tensors have the same path.
        TypeError: the tree holds a value that a checkpoint cannot store.
    """
    if isinstance(tree, torch.Tensor):
        # A copy, since safetensors refuses tensors that share memory. The file keeps no strides, and sums over
        # a tensor depend on them in the last bit, so the layout is noted beside it.
        if path in tensors:
            raise ValueError(f"two tensors of the state are called {path}")
        tensors[path] = tree.detach().cpu().clone(memory_format=torch.contiguous_format)
        strided = tree.dim() == 4 and not tree.is_contiguous()
        channels_last = strided and tree.is_contiguous(memory_format=torch.channels_last)
        return {"tensor": path, "channels_last": channels_last}
    if isinstance(tree, dict):
        return {
            "items": [[key, flatten(value, tensors, f"{path}/{key}")] for key, value in tree.items()],
        }
    if isinstance(tree, (list, tuple)):
        kind = "tuple" if isinstance(tree, tuple) else "list"
        return {kind: [flatten(value, tensors, f"{path}/{index}") for index, value in enumerate(tree)]}
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(f"{path or 'state'} holds a {type(tree).__name__}, which a checkpoint cannot store")


def unflatten(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Rebuilds the tree that `flatten` took apart."""
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        tensor = tensors[tree["tensor"]]
        return tensor.contiguous(memory_format=torch.channels_last) if tree["channels_last"] else tensor
    if "items" in tree:
        return {key: unflatten(value, tensors) for key, value in tree["items"]}
    if "tuple" in tree:
        return tuple(unflatten(value, tensors) for value in tree["tuple"])
    return [unflatten(value, tensors) for value in tree["list"]]


def save(folder: Path, step: int, weights: dict[str, torch.Tensor], state: dict[str, Any], keep: int = 2) -> Path:
    """Writes a checkpoint atomically, then removes all but the newest `keep`.

    Args:
        weights: the model's tensors by name.
        state: a tree of dicts, lists, tensors and plain values: optimizers, counters, random states.

    Raises:
        UserError: the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    path = folder / f"step-{step:08d}"
    tensors: dict[str, torch.Tensor] = {}
    tree = flatten(state, tensors)
    plain: dict[str, torch.Tensor] = {}
    flatten(weights, plain)
    with whole_folder(path) as temporary:
        try:
            save_file({name.removeprefix("/"): value for name, value in plain.items()}, temporary / MODEL)
            save_file(tensors, temporary / STATE)
        except SafetensorError as error:  # safetensors puts the operating system's error into words
            if number := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(number[1]), str(error)) from error
            raise
        write_json(temporary / TREE, tree)
        write_json(temporary / MANIFEST, {name: sha256(temporary / name) for name in (MODEL, STATE, TREE)})
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    for leftover in folder.glob(".step-*"):  # of a process that was killed while writing
        shutil.rmtree(leftover, ignore_errors=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the checkpoint folders, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Loads the weights and the state of one checkpoint.

    Raises:
        UserError: a file is missing or damaged.
    """
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or set(manifest) != {MODEL, STATE, TREE}:
        raise UserError(f"{path / MANIFEST} is damaged: it does not name the checkpoint's files")
    for name, expected in manifest.items():
        file = path / name
        if not file.is_file():
            raise UserError(f"{file} is missing")
        if sha256(file) != expected:
            raise UserError(f"{file} is damaged: its checksum differs")
    return load_file(path / MODEL), unflatten(read_json(path / TREE), load_file(path / STATE))


def load_newest(
    folder: Path, say: Callable[[str], None]
) -> tuple[Path, dict[str, torch.Tensor], dict[str, Any]] | None:
    """Loads the newest undamaged checkpoint, reporting damaged ones to `say`; returns None if there is none."""
    for path in reversed(list_checkpoints(folder)):
        try:
            return (path, *load(path))
        except UserError as error:
            say(f"checkpoint {path.name} is damaged and passed over: {error}")
    return None
