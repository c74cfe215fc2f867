"""Options of `mnist-classifier train`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from dlcommon.runtime.bounds import Count, Fraction, Ge, MinLen, NotNegative, Positive
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning
from dlcommon.training.search_space import Uniform


@dataclass(frozen=True)
class Config(TrainConfig):
    """Configures a training; the default trains one convolutional network."""

    renamed: ClassVar = {**TrainConfig.renamed, "hold_out": "validation_size", "head_rate": "head_lr"}
    epochs: float = 16.0
    """Passes over the training digits."""
    batch_size: int = 250
    """Digits for one optimizer step (over all processes), before accumulation."""
    evaluate_every: float = 2.0
    """Epochs between evaluations on the digits held out."""
    model: Literal["cnn", "mlp"] = "cnn"
    """Convolutional network, or multilayer perceptron."""
    widths: Annotated[tuple[Count, ...], MinLen(1)] = (32, 64, 128)
    """Channels of the CNN's stages, or units of the MLP's hidden layers."""
    depths: tuple[Count, ...] = (1, 2, 2)
    """Convolutions in each stage of the CNN."""
    kernels: Annotated[tuple[Count, ...], MinLen(1)] = (3,)
    """Kernel size of each network; several are trained as an ensemble, whose probabilities are averaged."""
    dropout: Fraction = 0.0
    """Share of features zeroed while training."""
    learning_rate: Positive = 0.05
    """Muon's step for kernels and matrices."""
    head_lr: Positive = 0.003
    """AdamW's step for the last layer, norms and biases."""
    label_smoothing: Fraction = 0.05
    """Share of each label spread over all classes."""
    validation_size: Annotated[int, Ge(0)] = 500
    """Training digits, the last ones, kept to validate on."""
    degrees: NotNegative = 15.0
    """Largest random rotation."""
    translate: NotNegative = 0.08
    """Largest random shift, as a share of the width."""
    scale: Fraction = 0.12
    """Largest random change of size, relative."""
    shear: NotNegative = 0.15
    """Largest random shear."""
    elastic: NotNegative = 0.0
    """Typical random bend of a stroke, in pixels; 0 turns it off."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"kernels must be odd numbers such as 3, not {self.kernels}")
        if self.model == "cnn" and len(self.depths) != len(self.widths):
            raise ValueError(f"depths must be one for each of widths, not {self.depths}")
        if self.model == "cnn" and len(self.widths) > 5:
            raise ValueError("widths may be at most five for the cnn: each stage halves the 28 pixels")


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"epochs": 3.0, "widths": (16, 32, 64), "depths": (1, 1, 1), "evaluate_every": 1.0},
    "best": {"epochs": 30.0, "kernels": (3, 3, 3, 5, 5)},
}

TUNING = Tuning(
    metric=Metric("validation_loss", "minimize", unit="plain"),
    space={
        "learning_rate": Uniform(0.01, 0.2, log=True),
        "head_lr": Uniform(5e-4, 0.02, log=True),
        "label_smoothing": Uniform(0.0, 0.15),
        "dropout": Uniform(0.0, 0.4),
        "degrees": Uniform(0.0, 30.0),
        "translate": Uniform(0.0, 0.15),
    },
)
