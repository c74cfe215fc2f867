"""Writing the ONNX file: dynamic batch, metadata inside."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import onnx
import torch

from dlcommon.runtime.capstone import ExportGraph
from dlcommon.runtime.errors import UserError


def write_onnx(graph: ExportGraph, metadata: dict[str, str], path: Path) -> None:
    """Exports the graph with torch's exporter, its batch axis (and `graph.dynamic`) left open.

    Raises:
        UserError: torch cannot export the module, or it is tied to the batch size that it was traced with.
    """
    tensors = tuple(torch.from_numpy(array) for array in graph.example.values())
    batch = torch.export.Dim("batch", min=1)
    shapes = []
    for name in graph.example:
        named = {axis: torch.export.Dim(symbol) for axis, symbol in graph.dynamic.get(name, {}).items()}
        shapes.append({0: batch, **named})
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    quiet = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph.module,
                tensors,
                dynamo=True,
                dynamic_shapes=tuple(shapes),
                input_names=list(graph.example),
                output_names=list(graph.outputs),
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"torch cannot export this module with a dynamic batch: {reason}") from error
    assert program is not None
    model = program.model_proto
    set_metadata(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def set_metadata(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    """Replaces the file's metadata."""
    del model.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
