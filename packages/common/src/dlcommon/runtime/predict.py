"""A torch module as a `Predict`: arrays in, arrays out, in batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from dlcommon.runtime.arrays import Arrays, Predict
from dlcommon.runtime.export.graph import ConvertedGraph, ExportGraph
from dlcommon.runtime.hardware import choose_device, computes_in_bf16
from dlcommon.runtime.saved_run import SavedRun


class ModulePredictor:
    """Runs the module over arrays of any length.

    Args:
        inputs: names of the arrays, in the order of the module's arguments.
        outputs: names for what it returns.
        bf16: autocast, for speed; float32 otherwise.
        batch_size: samples in one pass.
        metadata: what the graph says about itself.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[str],
        outputs: Sequence[str],
        device: torch.device | str = "cpu",
        bf16: bool = False,
        batch_size: int = 250,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.module = module.eval().to(device)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.device, self.bf16, self.batch_size = torch.device(device), bf16, batch_size
        self.metadata = metadata or {}

    @torch.inference_mode()
    def __call__(self, arrays: Arrays) -> dict[str, np.ndarray]:
        tensors = [torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in self.inputs]
        pieces: list[tuple[torch.Tensor, ...]] = []
        for start in range(0, len(tensors[0]), self.batch_size):
            batch = [tensor[start : start + self.batch_size].to(self.device) for tensor in tensors]
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
                result = self.module(*batch)
            parts = result if isinstance(result, tuple) else (result,)
            pieces.append(tuple(part.float().cpu() if part.is_floating_point() else part.cpu() for part in parts))
        joined = [torch.cat(column).numpy() for column in zip(*pieces, strict=True)]
        return dict(zip(self.outputs, joined, strict=True))

    def __str__(self) -> str:
        return f"torch {self.device} {'bf16' if self.bf16 else 'fp32'}"


@dataclass(frozen=True)
class _Described:
    """Adds the graph's metadata to a predictor."""

    predict: Predict
    metadata: Mapping[str, str]

    def __call__(self, arrays: Arrays) -> dict[str, np.ndarray]:
        return self.predict(arrays)


def original_predictor(
    graph: ExportGraph | ConvertedGraph, device: torch.device | str = "cpu", bf16: bool = False
) -> Predict:
    """Returns the model of a graph, ready to predict in its own library."""
    if isinstance(graph, ConvertedGraph):
        return _Described(graph.original, graph.metadata)
    return ModulePredictor(graph.module, tuple(graph.example), graph.outputs, device, bf16, metadata=graph.metadata)


def fastest_predictor(graph: ExportGraph | ConvertedGraph, saved: SavedRun[Any]) -> Predict:
    """Returns the model of a run's graph on the device, and in the precision, in which this machine is fastest.

    Only a model that was trained in bf16 predicts in it.
    """
    device = choose_device("auto")
    bf16 = saved.summary["training"].get("precision") == "bf16" and computes_in_bf16(device)
    return original_predictor(graph, device, bf16)
