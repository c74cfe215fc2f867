"""Leaves the weights of pretrained assets out of an ONNX file, which becomes an adapter of them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dlcommon.runtime.data import LocatedAsset
from dlcommon.runtime.weight_files import SUFFIXES, open_weights

LEAST = 256
"""Elements below which a tensor stays in the file."""
Place = tuple[str, bool]
"""`ASSET/FILE/TENSOR`, and whether the tensor is stored transposed."""


def leave_out(path: Path, assets: Sequence[LocatedAsset]) -> int:
    """Rewrites a file without the float32 tensors that are, bit for bit, an asset's; returns the bytes that this saves.

    A matrix may be the transpose of the asset's, as exporters store those of linear layers: then the graph transposes
    it, which ONNX Runtime does once, while it loads.
    """
    if not assets:
        return 0
    known: dict[tuple[tuple[int, ...], bytes], Place] = {}
    for located in assets:
        for file in located.form.files:
            if file.endswith(SUFFIXES):
                known.update(_digests(located.path / file, f"{located.name}/{file}"))
    model = onnx.load(path)
    transposes, saved = [], 0
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < LEAST:
            continue
        values = numpy_helper.to_array(tensor)
        if (place := known.get(_digest(values))) is None:
            continue
        location, transposed = place
        shape, name = values.shape, tensor.name
        if transposed:
            shape, name = shape[::-1], f"{tensor.name}.stored"
            transposes.append(helper.make_node("Transpose", [name], [tensor.name], perm=[1, 0]))
        external = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        external.data_location = TensorProto.EXTERNAL
        external.external_data.add(key="location", value=location)
        tensor.CopyFrom(external)
        saved += values.nbytes
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*transposes, *nodes])
    onnx.save(model, path)
    return saved


def _digests(path: Path, prefix: str) -> dict[tuple[tuple[int, ...], bytes], Place]:
    """Returns the places of a file's float32 tensors, and of the transposes of its matrices."""
    places: dict[tuple[tuple[int, ...], bytes], Place] = {}
    for name, values in open_weights(path).items():
        if values.dtype == np.float32 and values.size >= LEAST:
            places.setdefault(_digest(values), (f"{prefix}/{name}", False))
            if values.ndim == 2:
                places.setdefault(_digest(values.T), (f"{prefix}/{name}", True))
    return places


def _digest(values: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return values.shape, hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest()
