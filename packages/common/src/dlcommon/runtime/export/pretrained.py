"""Installs the exported model that a package carries, so that every command works on a fresh clone."""

from pathlib import Path
from typing import Any

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.run_directory import EXPORTED

LARGEST_PRETRAINED = 10_000_000
"""Bytes of a model that a package may carry."""
INT8, FLOAT16 = "model.int8.onnx", "model.float16.onnx"


def install(capstone: Capstone[Any], run: Path, name: str) -> Path:
    """Copies an exported run's model into the package, with its record beside it; returns the model's path.

    Takes the first of float32, float16 weights and int8 that is small enough.

    Raises:
        UserError: none of them is small enough.
    """
    candidates = [run / kind for kind in (EXPORTED, FLOAT16, INT8) if (run / kind).is_file()]
    small = [path for path in candidates if path.stat().st_size <= LARGEST_PRETRAINED]
    if not small:
        sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in candidates)
        raise UserError(f"no exported model is at most {LARGEST_PRETRAINED / 1e6:.0f} MB: {sizes}")
    target = capstone.folder / "pretrained"
    model = target / f"{name}.onnx"
    record = "export.json" if name == capstone.name else f"{name}.json"
    write_bytes(model, small[0].read_bytes())
    write_bytes(target / record, (run / "export.json").read_bytes())
    return model
