"""Weights that an ONNX file leaves out because a pretrained asset holds them: which they are, and their values.

The format is ONNX's own: such an initializer has external data. Its location is `ASSET/FILE/TENSOR` instead of a path;
the asset's file (see `weight_files`) is found wherever this machine has it, and the values are handed to ONNX Runtime.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from dlcommon.runtime.data import LocatedAsset
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.weight_files import open_weights


@dataclass(frozen=True)
class FileHeader:
    """What an ONNX file says about itself, before a runtime loads it."""

    metadata: dict[str, str]
    external: dict[str, tuple[str, str, str]]
    """Initializers that it leaves out: name to asset, file and tensor."""


def read_header(path: Path) -> FileHeader:
    """Reads the metadata of a file, and what it leaves out.

    Raises:
        UserError: it is not an ONNX file.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # of protobuf, which is onnx's own affair
        raise UserError(f"{path} is not a whole ONNX model; export it again, or name another with --model") from error
    external: dict[str, tuple[str, str, str]] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            asset, _, rest = location.partition("/")
            file, _, name = rest.partition("/")
            external[tensor.name] = (asset, file, name)
    return FileHeader({prop.key: prop.value for prop in model.metadata_props}, external)


def read_external(
    path: Path, names: Mapping[str, tuple[str, str, str]], assets: Mapping[str, LocatedAsset]
) -> dict[str, np.ndarray]:
    """Reads what a file leaves out, by the initializers' names.

    Args:
        path: of the ONNX file, which errors name.
        names: `FileHeader.external`.
        assets: that the file says it requires, by name.

    Raises:
        UserError: the file names a tensor that its assets do not hold.
    """
    values: dict[str, np.ndarray] = {}
    opened: dict[tuple[str, str], Mapping[str, np.ndarray]] = {}
    for name, (asset, file, tensor) in names.items():
        # Only files of the asset itself are opened, whatever a model from elsewhere may say.
        if asset not in assets or file not in assets[asset].form.files:
            raise UserError(f"{path}: its weights {name!r} are in none of the assets that it names; export it again")
        try:
            if (asset, file) not in opened:
                opened[asset, file] = open_weights(assets[asset].path / file)
            values[name] = np.ascontiguousarray(opened[asset, file][tensor])
        except (KeyError, ValueError, OSError) as error:
            raise UserError(f"{path}: {assets[asset].path / file} lacks {tensor!r} ({error})") from error
    return values
