"""Options of `face-gan train`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from dlcommon.runtime.bounds import Count, Fraction, Ge, Lt, NotNegative, Positive
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning
from dlcommon.training.search_space import Choice, Uniform

Augmentation = Literal["colour", "translation", "cutout"]
VALIDATION_FIGURE = "validation_kernel_distance"
"""Logged where `validation_share` keeps pictures back."""


@dataclass(frozen=True)
class Config(TrainConfig):
    """Configures a training; the default is the recipe for an hour on two CPU cores."""

    data_folder: str | None = None
    """Folder of own pictures instead of a data set, with those below it; cropped to squares of 64×64 pixels."""
    epochs: Positive = 40.0
    """Passes over the training pictures; `max_minutes` may end the training before."""
    min_steps: Annotated[int, Ge(0)] = 2000
    """Optimizer steps at least: few pictures are passed over more often than `epochs` says."""
    max_minutes: Positive | None = 60.0
    """Time budget: the schedule ends with whichever of epochs and minutes ends first."""
    batch_size: Count = 32
    """Real pictures in a batch, and as many generated ones."""
    network: Literal["style", "dcgan"] = "style"
    """style: a small StyleGAN2; dcgan: the baseline of 2016, with batch norm."""
    generator_width: Annotated[int, Ge(4)] = 48
    """The generator's channels at half of the pictures' size."""
    discriminator_width: Annotated[int, Ge(4)] = 32
    """The discriminator's channels at half of the pictures' size."""
    noise_dim: Count = 128
    """Numbers that a picture is drawn from."""
    loss: Literal["non-saturating", "hinge", "relativistic"] = "relativistic"
    """What discriminator and generator minimize."""
    gradient_penalty: NotNegative = 1.0
    """γ of R1 and R2, the penalties of the discriminator's slope at real and generated pictures; 0 turns them off."""
    penalty_every: Count = 16
    """Steps between two gradient penalties, which are that much stronger: they take longer than a step without."""
    augment: tuple[Augmentation, ...] = ()
    """Differentiable augmentations of what the discriminator sees, for few pictures: colour, translation, cutout."""
    learning_rate: Positive = 3e-4
    """Of both networks."""
    beta1: Fraction = 0.0
    """Adam's decay of the mean gradient."""
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.99
    """Adam's decay of the mean squared gradient."""
    final_learning_rate: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Share of the learning rates that is left at the end."""
    ema_decay: Fraction = 0.998
    """Decay per step of the generator's moving average, which is the generator that is kept."""
    evaluate_every: Positive = 0.5
    """Epochs between grids of samples and figures about both networks."""
    validation_share: Fraction = 0.0
    """Share of the training pictures kept back to validate on; 0 trains on all."""
    checkpoint_minutes: NotNegative = 5.0
    """Minutes between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience is not None and not self.validation_share:
            raise ValueError("patience needs pictures to validate on; set validation_share, for example to 0.1")
        if self.network == "dcgan" and self.gradient_penalty:
            raise ValueError(
                "gradient_penalty must be 0 with the network dcgan, whose batch norm mixes the pictures of a batch"
            )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"max_minutes": 10.0, "ema_decay": 0.995},
    "dcgan": {
        "network": "dcgan",
        "batch_size": 64,
        "generator_width": 64,
        "discriminator_width": 64,
        "noise_dim": 100,
        "loss": "non-saturating",
        "gradient_penalty": 0.0,
        "learning_rate": 2e-4,
        "beta1": 0.5,
        "beta2": 0.999,
        "final_learning_rate": 0.999,
        "ema_decay": 0.0,
    },
}

TUNING = Tuning(
    metric=Metric(VALIDATION_FIGURE, "minimize", unit="plain"),
    space={
        "learning_rate": Uniform(1e-4, 1e-3, log=True),
        "gradient_penalty": Uniform(0.1, 10.0, log=True),
        "beta2": Choice((0.9, 0.99, 0.999)),
        "ema_decay": Choice((0.99, 0.995, 0.998, 0.999)),
    },
    settings={"validation_share": 0.1},
)
