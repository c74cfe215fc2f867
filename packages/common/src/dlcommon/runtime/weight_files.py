"""Weights by name in the files of pretrained assets, whatever their format: safetensors or GGUF. Without torch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError, safe_open

SUFFIXES = (".safetensors", ".gguf")


def open_weights(path: Path) -> Mapping[str, np.ndarray]:
    """Opens a file of weights; each array is read when it is asked for, those of a GGUF dequantized to float32.

    Raises:
        ValueError: it is no such file, or it is damaged.
        OSError: it cannot be read.
    """
    if path.suffix != ".gguf":
        return _Safetensors(path)
    # Only here: capstones that need no GGUF do without the library that reads it.
    from dlcommon.llm.gguf_file import GGUFWeights

    return GGUFWeights(path)


class _Safetensors(Mapping[str, np.ndarray]):
    def __init__(self, path: Path) -> None:
        try:
            self._file = cast(Any, safe_open(path, "np"))  # its methods have no types
        except SafetensorError as error:
            raise ValueError(f"{path} is no whole safetensors file: {error}") from error
        # NumPy has no bfloat16 and cannot read such a tensor; no graph that leaves weights out has one either.
        self._names = [name for name in self._file.keys() if self._file.get_slice(name).get_dtype() != "BF16"]  # noqa: SIM118

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        array: np.ndarray = self._file.get_tensor(name)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
