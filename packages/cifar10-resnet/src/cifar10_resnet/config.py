"""Options of `cifar10-resnet train`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from dlcommon.runtime.bounds import Count, Fraction, Ge, Gt, Le, Lt, Positive
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning
from dlcommon.training.search_space import Integers, Uniform

MODELS = ("fast", "resnet18", "resnet34", "resnet50")


@dataclass(frozen=True)
class Config(TrainConfig):
    """Configures a training; the default is the fast recipe, measured in RESULTS.md."""

    renamed: ClassVar = {**TrainConfig.renamed, "hold_out": "validation_size"}
    epochs: float = 14.0
    """Passes over the training set."""
    batch_size: int = 1000
    """Samples for one optimizer step (over all processes), before accumulation."""
    evaluate_every: float = 1.0
    """Epochs between evaluations on the validation set."""
    model: str = "fast"
    """fast, resnet18, resnet34, resnet50, or timm/NAME."""
    widths: tuple[Count, Count, Count] = (64, 256, 256)
    """Channels of the fast network's three stages."""
    members: Count = 1
    """Networks trained side by side, whose answers are averaged."""
    learning_rate: Positive = 0.15
    """Muon's step for convolution kernels, whose norm is kept at the root of their rows."""
    warmup: Fraction = 0.0
    """Share of training in which the learning rates rise, before they fall to zero."""
    label_smoothing: Fraction = 0.2
    """Share of each label spread over all classes."""
    translate: Annotated[int, Ge(0), Le(16)] = 4
    """Largest random shift in pixels."""
    cutout: Annotated[int, Ge(0), Le(32)] = 0
    """Side of the square blanked in each training image; 0 turns it off."""
    resolutions: tuple[Annotated[int, Ge(8), Le(32)], ...] = (20, 26, 32)
    """Image sizes, from the first stretch of training to the last."""
    stages: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.3, 0.6)
    """Shares of training at which the image size changes."""
    validation_size: Annotated[int, Ge(100)] = 1000
    """Training images, the last ones, kept to fit the probabilities' temperature on."""
    tta: bool = True
    """Test-time augmentation: average the mirrored and shifted views (6 in all)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model not in MODELS and not self.model.startswith("timm/"):
            raise ValueError(f"model must be one of {', '.join(MODELS)} or timm/NAME, not {self.model!r}")
        if len(self.stages) != len(self.resolutions) - 1:
            raise ValueError("stages must be one fewer than resolutions")
        if list(self.stages) != sorted(self.stages):
            raise ValueError(f"stages must rise, not {self.stages}")


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"epochs": 8.0},
    "best": {
        "widths": (128, 384, 512),
        "members": 3,
        "epochs": 40.0,
        "cutout": 12,
        "evaluate_every": 2.0,
        "checkpoint_minutes": 10.0,
    },
}

TUNING = Tuning(
    metric=Metric("validation_loss", "minimize", unit="plain"),
    space={
        "learning_rate": Uniform(0.03, 0.6, log=True),
        "warmup": Uniform(0.0, 0.3),
        "label_smoothing": Uniform(0.0, 0.3),
        "translate": Integers(0, 6),
        "cutout": Integers(0, 16),
    },
)
