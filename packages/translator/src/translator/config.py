"""Options of `translator train`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from dlcommon.runtime.bounds import Count, Fraction, Ge, MinLen, NotNegative, Positive
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning
from dlcommon.training.search_space import Uniform


@dataclass(frozen=True)
class Config(TrainConfig):
    """Configures a training; the default is the recipe for Multi30k."""

    text: tuple[str, ...] = ()
    """Own sentences instead of a data set: two files that translate each other line by line, or one TSV file."""
    source: Annotated[str, MinLen(1)] = "en"
    """Language to translate from."""
    target: Annotated[str, MinLen(1)] = "de"
    """Language to translate into. Multi30k holds en, de and fr, xquad-questions en, de and zh."""
    epochs: Positive = 32.0
    """Passes over the training sentences."""
    min_steps: Annotated[int, Ge(0)] = 400
    """Optimizer steps at least: few sentences are passed over more often than `epochs` says."""
    batch_size: Count = 3072
    """Tokens in a batch, padding included, of whichever language has more."""
    vocab_size: Annotated[int, Ge(8)] = 4000
    """Pieces of the byte-pair encoding that both languages share."""
    dim: Count = 192
    """Width of the features."""
    heads: Count = 3
    """Attention heads of each layer."""
    encoder_layers: Count = 4
    """Layers that read the source."""
    decoder_layers: Count = 3
    """Layers that write the target."""
    feedforward_dim: Count = 768
    """Hidden width of the feed-forward networks."""
    dropout: Fraction = 0.2
    """Share of features zeroed while training, the same ones in all tokens of a sentence."""
    label_smoothing: Fraction = 0.1
    """Share of the target distribution that is spread over all pieces."""
    learning_rate: Positive = 0.02
    """Muon's, for the matrices of the layers."""
    adam_lr: Positive = 0.003
    """AdamW's, for the embedding, norms and biases."""
    weight_decay: NotNegative = 0.1
    """Decoupled, of the matrices of the layers, in units of the learning rate."""
    warmup: Fraction = 0.05
    """Share of training in which the learning rates rise, before they fall to zero."""
    ema_decay: Fraction = 0.995
    """Decay per step of the weights' exponential moving average, which is the model that is kept."""
    max_grad_norm: Positive | None = 1.0
    """Clip the gradient's global norm to this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.text) > 2:
            raise ValueError(f"text must be one TSV file or two files, not {len(self.text)}")
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}; name two languages")
        if self.dim % (2 * self.heads):
            raise ValueError(f"dim {self.dim} must be a multiple of twice the {self.heads} heads")


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"epochs": 6.0, "dropout": 0.1, "ema_decay": 0.99},
}

TUNING = Tuning(
    metric=Metric("validation_loss", "minimize", unit="plain"),
    space={
        "learning_rate": Uniform(0.005, 0.06, log=True),
        "adam_lr": Uniform(0.0005, 0.01, log=True),
        "weight_decay": Uniform(0.0, 0.3),
        "dropout": Uniform(0.0, 0.4),
        "warmup": Uniform(0.0, 0.2),
    },
)
