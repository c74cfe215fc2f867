"""Finds the models that a service can offer side by side."""

from typing import Any

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.locate_model import packaged_models
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.output import warn


def available_models(capstone: Capstone[Any], model: OnnxModel) -> dict[str, OnnxModel]:
    """Returns models by the names of their files: this one first, then those beside it, then those of the package.

    Of two models with the same name the first is kept. Skips models of other capstones and, with a warning, damaged
    files.
    """
    models = {model.path.stem: model}
    for path in (*sorted(model.path.parent.glob("*.onnx")), *packaged_models(capstone)):
        if path.stem in models:
            continue
        try:
            other = OnnxModel(path, model.threads)
        except UserError as error:
            warn(f"{error}; it is not offered")
            continue
        if other.metadata.get("capstone") == capstone.name:
            models[path.stem] = other
    return models
