"""Detectors that ultralytics configures, made to predict as our YOLOv8 does."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from dlcommon.runtime.errors import UsageError
from dlcommon.testing.ultralytics_import import ultralytics_settings
from dlcommon.vision.yolo_v8 import Predictions, decode
from torch import nn

from yolo_detector.config import STRIDE

SUGGESTION = "take yolov8n, yolov8s, yolo11n, yolo12n, yolov9t, …"


@contextmanager
def quiet_ultralytics() -> Iterator[None]:
    """Lets ultralytics be imported offline, with settings that are thrown away, and undoes what that changes."""
    with tempfile.TemporaryDirectory(prefix="ultralytics-") as folder, ultralytics_settings(Path(folder)):
        yield


class UltralyticsNetwork(nn.Module):
    """Wraps a detector of ultralytics; its parameters keep their names, `model.0.conv.weight` and so on.

    Args:
        name: that of a configuration, such as `yolo11n`.
        num_classes: number of classes.

    Raises:
        UsageError: ultralytics has no such configuration, or its head is of another kind.
    """

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        with quiet_ultralytics():
            from ultralytics.nn.modules.head import Detect
            from ultralytics.nn.tasks import DetectionModel, yaml_model_load

            try:
                if not re.fullmatch(r"[a-z0-9-]+", name):  # neither a path nor an address
                    raise FileNotFoundError(name)
                built: Any = DetectionModel(yaml_model_load(f"{name}.yaml"), ch=3, nc=num_classes, verbose=False)
            except (FileNotFoundError, KeyError, AssertionError) as error:
                raise UsageError(f"--model {name}: ultralytics has no such detector; {SUGGESTION}") from error
        head = built.model[-1]
        if type(head) is not Detect or head.reg_max == 1 or getattr(head, "one2one_cv2", None) is not None:
            raise UsageError(f"--model {name}: its head is not YOLOv8's, which the loss is made for; {SUGGESTION}")
        self.strides = [int(stride) for stride in head.stride]
        if max(self.strides) > STRIDE:
            raise UsageError(f"--model {name}: its cells are wider than {STRIDE} pixels; {SUGGESTION}")
        self.model = built.model

    def forward(self, images: torch.Tensor) -> Predictions:
        """Predicts boxes and classes; see `YoloV8.forward`."""
        kept: list[Any] = []
        x: Any = images
        *layers, head = self.model
        for layer in layers:
            if layer.f != -1:
                x = kept[layer.f] if isinstance(layer.f, int) else [x if f == -1 else kept[f] for f in layer.f]
            x = layer(x)
            kept.append(x)
        maps = [kept[f] for f in head.f]
        raw = head.forward_head(maps, **head.one2many)
        sizes = [(each.size(2), each.size(3)) for each in maps]
        bins = head.dfl.conv.weight.flatten()  # the distances 0, 1, …
        return decode(raw["boxes"], raw["scores"], sizes, self.strides, bins)
