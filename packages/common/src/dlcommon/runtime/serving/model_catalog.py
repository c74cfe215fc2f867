"""Several models behind one page and one address."""

from typing import Any

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.locate_model import pretrained_models
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.output import warn


def available_models(capstone: Capstone[Any], model: OnnxModel) -> dict[str, OnnxModel]:
    """By the names of their files: this model first, then those beside it, then those that the package carries.

    Of two with the same name the first is offered; other capstones' models are not, and a file that is no whole model
    is warned of.
    """
    models = {model.path.stem: model}
    for path in (*sorted(model.path.parent.glob("*.onnx")), *pretrained_models(capstone)):
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
