"""Stores weights as float16, for a file that must be small."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dlcommon.runtime.export.onnx_file import add_metadata

LEAST = 256
"""Elements below which a tensor is not worth a cast."""


def store_as_float16(source: Path, target: Path) -> None:
    """Writes the graph with its float32 weights stored as float16, each followed by a cast back.

    ONNX Runtime casts once, while it loads: it computes in float32 and as fast as before, only the file is half as
    large. A weight changes by at most 2⁻¹¹ of itself, or 3e-8 (bfloat16, in which networks are trained, keeps 2⁻⁸); a
    tensor that float16 cannot hold, with values beyond 65504 or many below 6e-8, stays as it is, as do those that the
    file leaves out. An input with a default is then of float16 itself, and cast in each run.
    The metadata is the source's, and `precision`.
    """
    model = onnx.load(source, load_external_data=False)
    inputs = {value.name: value for value in model.graph.input}
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.data_location == TensorProto.EXTERNAL:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < LEAST or not np.isfinite(half).all() or ((half == 0) & (values != 0)).mean() > 1e-3:
            continue
        if tensor.name in inputs:  # its name is the caller's, so that the cast gets another
            stored, read = tensor.name, f"{tensor.name}.float32"
            inputs[stored].type.tensor_type.elem_type = TensorProto.FLOAT16
            _rename_uses(model.graph, stored, read)
        else:
            stored, read = f"{tensor.name}.float16", tensor.name
        casts.append(helper.make_node("Cast", [stored], [read], to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(half, stored))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    onnx.save(model, target)
    add_metadata(target, {"precision": "float32, weights stored as float16"})
    if not any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
        onnx.checker.check_model(model)  # which would look for what is left out


def _rename_uses(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
