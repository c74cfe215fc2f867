"""Weights to start from: a file of safetensors, with the names that ultralytics gives them."""

from pathlib import Path

from dlcommon.runtime.errors import UsageError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

CONVERSION = (
    'python -c "from safetensors.torch import save_file; from ultralytics import YOLO; '
    "save_file(YOLO('yolov8n.pt').model.state_dict(), 'yolov8n.safetensors')\""
)
"""Makes such a file from a checkpoint of ultralytics, which is a pickle: it runs whatever is in it."""


def load_matching(network: nn.Module, path: Path) -> list[str]:
    """Loads the tensors of a file whose name and shape the network has; a head for other classes starts anew.

    Returns:
        Names of the network's tensors that the file does not have, or in another shape.

    Raises:
        UsageError: the file is missing, of another kind, or of another network.
    """
    if not path.is_file():
        raise UsageError(f"--weights {path}: there is no such file")
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"--weights {path}: not a file of safetensors ({error}); make one with: {CONVERSION}"
        ) from error
    own = network.state_dict()
    fitting = {name: value for name, value in stored.items() if name in own and own[name].shape == value.shape}
    if len(fitting) < len(own) / 2:
        raise UsageError(
            f"--weights {path}: only {len(fitting)} of the network's {len(own)} tensors are in it; "
            f"name the --model that they are of"
        )
    network.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]
