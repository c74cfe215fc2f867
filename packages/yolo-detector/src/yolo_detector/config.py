"""Options of `yolo-detector train`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from dlcommon.runtime.bounds import Count, Fraction, Ge, Le, Lt, NotNegative, Positive
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning
from dlcommon.training.search_space import Choice, Uniform

STRIDE = 32
"""Pixels of the largest cell: both sides of what the network sees are multiples of it."""
HEADLINE = "map50"
"""Mean average precision at an IoU of 0.5, by COCO's rule."""
VALIDATION_FIGURE = "validation_map50"
"""Logged where the validation pictures are not trained on."""
Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class Config(TrainConfig):
    """Configures a training; the default is the recipe for blood cells, half an hour of one CPU core."""

    data_folder: str | None = None
    """Folder of own pictures with boxes instead of a data set, in YOLO's, VOC's or COCO's format."""
    epochs: Positive = 150.0
    """Passes over the training pictures."""
    min_steps: Annotated[int, Ge(0)] = 1500
    """Optimizer steps at least."""
    batch_size: Count = 16
    """Pictures for one optimizer step (over all processes), before accumulation."""
    model: str = "yolov8n"
    """yolov8n, s, m, l, x, or a detector of ultralytics, such as yolo11n."""
    weights: str | None = None
    """File of .safetensors to start from."""
    image_size: Annotated[int, Ge(STRIDE), Le(2048)] = 320
    """Longer side of what the network sees, in pixels."""
    train_on: Literal["train", "all"] = "all"
    """all: on the validation pictures too."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """Of kernels; the rest takes AdamW."""
    muon_learning_rate: Positive = 0.05
    """Muon's largest step for a kernel."""
    learning_rate: Positive = 1e-3
    """AdamW's largest step."""
    weight_decay: NotNegative = 5e-4
    """Of convolution kernels."""
    warmup: Fraction = 0.05
    """Share of training in which rates rise."""
    final_learning_rate: Fraction = 0.01
    """Share of the rates left at the end."""
    max_grad_norm: Positive | None = 10.0
    """Clip the gradient's global norm to this."""
    ema_decay: Fraction = 0.998
    """Decay per step of the weights' moving average, which is what is kept."""
    mosaic: Share = 1.0
    """Share of pictures put together from four."""
    close_mosaic: Share = 0.1
    """Share of training, its end, without any."""
    mixup: Share = 0.0
    """Share of pictures mixed with another."""
    scale: Annotated[float, Ge(0), Lt(1)] = 0.5
    """Largest random change of size, relative."""
    translate: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Largest random shift, as a share of the side."""
    rotate: Share = 0.0
    """Share of pictures turned by 90 degrees."""
    flip: Share = 0.5
    """Share of pictures mirrored left to right."""
    flip_vertical: Share = 0.5
    """Share of pictures mirrored upside down."""
    hue: Annotated[float, Ge(0), Le(0.5)] = 0.015
    """Largest turn of the hue, in circles."""
    saturation: Annotated[float, Ge(0), Lt(1)] = 0.7
    """Largest relative change of saturation."""
    brightness: Annotated[float, Ge(0), Lt(1)] = 0.4
    """Largest relative change of brightness."""
    evaluate_every: Positive = 20.0
    """Epochs between evaluations on the validation pictures."""
    checkpoint_minutes: NotNegative = 5.0
    """Minutes between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % STRIDE:
            near = max(STRIDE, round(self.image_size / STRIDE) * STRIDE)
            raise ValueError(f"image_size must be a multiple of {STRIDE}, such as {near}, not {self.image_size}")
        if self.patience is not None and self.train_on == "all":
            raise ValueError('patience needs pictures to validate on; set train_on to "train"')

    @property
    def kept_side(self) -> int:
        """Longer side in pixels at which training pictures are kept: more than the network sees, to enlarge from."""
        return round(1.5 * self.image_size)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"epochs": 40.0, "min_steps": 400, "image_size": 256, "ema_decay": 0.99},
    "best": {"epochs": 400.0, "image_size": 416, "ema_decay": 0.999},
    "photographs": {"flip_vertical": 0.0},
}

TUNING = Tuning(
    metric=Metric(VALIDATION_FIGURE),
    space={
        "learning_rate": Uniform(3e-4, 4e-3, log=True),
        "scale": Uniform(0.1, 0.9),
        "mosaic": Choice((0.0, 0.5, 1.0)),
        "mixup": Choice((0.0, 0.1, 0.2)),
        "ema_decay": Choice((0.99, 0.995, 0.998, 0.999)),
    },
    settings={"train_on": "train"},
)
