"""Writes the ONNX file: dynamic batch, metadata inside."""

from collections.abc import Collection
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.export.graph import ConvertedGraph, ExportGraph
from dlcommon.runtime.export.suppress_output import first_line, suppress_output


def write_onnx(graph: ExportGraph, metadata: dict[str, str], path: Path) -> None:
    """Exports the graph with torch's exporter, its batch axis (and `graph.dynamic`) left open.

    Raises:
        UserError: torch cannot export the module, or it is tied to the batch size that it was traced with.
    """
    inputs = {**graph.example, **graph.defaults}
    tensors = tuple(torch.from_numpy(array) for array in inputs.values())
    batch = torch.export.Dim("batch", min=1)
    symbols = {symbol for axes in graph.dynamic.values() for symbol in axes.values()}
    sizes = {symbol: torch.export.Dim(symbol) for symbol in symbols}
    shapes = []
    for name in inputs:
        named = {axis: sizes[symbol] for axis, symbol in graph.dynamic.get(name, {}).items()}
        shapes.append(named if name in graph.defaults else {0: batch, **named})
    try:
        with suppress_output():
            program = torch.onnx.export(
                graph.module,
                tensors,
                dynamo=True,
                dynamic_shapes=tuple(shapes),
                input_names=list(inputs),
                output_names=list(graph.outputs),
                # Constants that are computed from an asset's weights could not be told from others.
                optimize=not graph.requires,
                custom_translation_table=dict(graph.translations) or None,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
        # The exporter's own message says which of its steps failed; the cause says why.
        reason = first_line(error.__cause__ or error)
        raise UserError(f"torch cannot export this module with a dynamic batch: {reason}") from error
    assert program is not None
    model = program.model_proto
    check_open(model, graph.dynamic, set(graph.defaults))
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in graph.defaults.items())
    forget_sources(model)
    _save(model, metadata, path)


def write_converted(graph: ConvertedGraph, metadata: dict[str, str], path: Path) -> None:
    """Stores a graph that its converter has made.

    Raises:
        UserError: it is tied to one batch size.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    check_open(model, {})
    _save(model, metadata, path)


def _save(model: onnx.ModelProto, metadata: dict[str, str], path: Path) -> None:
    set_metadata(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def check_open(model: onnx.ModelProto, dynamic: dict[str, dict[int, str]], without_batch: Collection[str] = ()) -> None:
    """Checks that the batch and `dynamic` axes vary: the exporter silently freezes one if the module is tied to a size.

    Args:
        without_batch: inputs that have no batch axis.

    Raises:
        UserError: one of them is fixed.
    """
    for value in model.graph.input:
        sizes = value.type.tensor_type.shape.dim
        batch = {} if value.name in without_batch else {0: "batch"}
        for axis, symbol in {**batch, **dynamic.get(value.name, {})}.items():
            if sizes[axis].dim_value:
                raise UserError(
                    f"this model cannot be exported with a dynamic {symbol}: it only works where input "
                    f"{value.name!r} has {sizes[axis].dim_value} on axis {axis}"
                )


def forget_sources(model: onnx.ModelProto) -> None:
    """Removes what the exporter noted beside each node: stack traces with this machine's paths."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def set_metadata(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    """Replaces the file's metadata."""
    del model.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)


def add_metadata(path: Path, metadata: dict[str, str]) -> None:
    """Adds to the metadata of a file, or changes it."""
    model = onnx.load(path, load_external_data=False)
    set_metadata(model, {prop.key: prop.value for prop in model.metadata_props} | metadata)
    onnx.save(model, path)
