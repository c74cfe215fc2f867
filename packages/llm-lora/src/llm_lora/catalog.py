"""The models that one base offers: the base itself, and all adapters of it that are found beside the one served."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from dlcommon.llm.gguf_file import open_gguf
from dlcommon.runtime.data import require_asset
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.external_weights import read_header
from dlcommon.runtime.locate_model import exported_runs, packaged_models
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.output import warn
from dlcommon.runtime.run_directory import EXPORTED
from onnx import numpy_helper

from llm_lora.adapter_matrix import ADAPTER, AdapterLayout, stacked
from llm_lora.capstone import CAPSTONE
from llm_lora.tokenizer import Tokenizer

MOST_ADAPTERS = 6
"""Adapters on one base: the ranks of all of them are computed for every row, whichever it has chosen."""


@dataclass(frozen=True)
class Catalog:
    """Holds what a `Decoder` needs to answer with any of the models by name."""

    names: tuple[str, ...]
    """The one that is served first, then the base, then the other adapters."""
    base: str | None
    """Name of the base; None where the served graph is no adapter of one."""
    adapter: np.ndarray | None
    """Matrices of all adapters, [all ranks, size]; None where there is only the graph's own."""
    scales: dict[str, np.ndarray]
    """Name of each adapter to its `lora_scale`."""


def read_catalog(model: OnnxModel) -> Catalog:
    """Finds the adapters beside a model, in exported runs and in the package, that are of the very same base."""
    layout = AdapterLayout.from_json(model.metadata["adapter_layout"])
    if not layout.names:
        return Catalog((model.name,), None, None, {})
    adapters = {model.name: read_adapter(model.path)}
    for path in _others(model):
        if len(adapters) == MOST_ADAPTERS:
            break
        name = path.resolve().parent.name if path.name == EXPORTED else path.stem
        try:
            metadata = read_header(path).metadata
            if name in adapters or not _is_sibling(metadata, model):
                continue
            own = AdapterLayout.from_json(metadata["adapter_layout"])
            if layout.holds(own):
                adapters[name] = layout.widened(read_adapter(path), own)
            else:
                warn(f"{path} adapts layers that {model.path.name} leaves as they are; serve it with --model")
        except UserError as error:
            warn(f"{error}; it is not offered")
    dtype = next(one.dtype for one in model.defaults if one.name == ADAPTER)  # float16 where it is stored so
    matrix, scales = stacked([matrix.astype(dtype) for matrix in adapters.values()])
    base = model.metadata["base"]
    base = base if base not in adapters else f"{base} (base)"
    first, *others = adapters
    only = len(adapters) == 1
    return Catalog((first, base, *others), base, None if only else matrix, dict(zip(adapters, scales, strict=True)))


def read_adapter(path: Path) -> np.ndarray:
    """Reads the adapter that a graph has by default, [rank, size].

    Raises:
        UserError: it has none.
    """
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        if tensor.name == ADAPTER:
            array: np.ndarray = numpy_helper.to_array(tensor)
            return array
    raise UserError(f"{path} holds no adapter; export it again")


def read_tokenizer(metadata: Mapping[str, str]) -> Tokenizer:
    """Reads the tokenizer that a graph carries, else that of its base's asset.

    Raises:
        UserError: the asset is not on this machine, or is damaged.
    """
    if "tokenizer" in metadata:
        return Tokenizer.from_json(metadata["tokenizer"])
    located = require_asset(metadata["base"])
    try:
        if located.form.name == "gguf":
            return Tokenizer.from_gguf(open_gguf(located.files()[0]))
        return Tokenizer.from_folder(located.path)
    except (ValueError, OSError) as error:
        raise UserError(f"{located.describe()} holds no tokenizer that is known here: {error}") from error


def _others(model: OnnxModel) -> Iterator[Path]:
    runs = (saved.directory / EXPORTED for saved in exported_runs(CAPSTONE))
    # Beside a run's model stand smaller copies of itself.
    beside = [] if model.path.name == EXPORTED else sorted(model.path.parent.glob("*.onnx"))
    for path in (*beside, *packaged_models(CAPSTONE), *runs):
        if path.resolve() != model.path.resolve():
            yield path


def _is_sibling(metadata: dict[str, str], model: OnnxModel) -> bool:
    """Tells whether a file holds an adapter of the model's base; a smaller copy of a model is none of its own."""
    return (
        metadata.get("capstone") == CAPSTONE.name
        and metadata.get("base_fingerprint") == model.metadata["base_fingerprint"]
        and metadata.get("precision") != "int8"
        and bool(json.loads(metadata.get("adapter_layout", "[]")))
    )
