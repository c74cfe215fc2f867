"""Options of `sentiment-bert train`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from dlcommon.runtime.bounds import Count, Fraction, Ge, Gt, Le, MinLen, NotNegative, Positive
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning
from dlcommon.training.search_space import Uniform

Encoder = Literal["auto", "pretrained", "scratch"]
Adaptation = Literal["lora", "layers"]
HEAD_DIM = 32
"""Width of an attention head of the scratch encoder, as of all-MiniLM-L6-v2."""


@dataclass(frozen=True)
class Config(TrainConfig):
    """Configures a training; the default is the recipe for SST-2 from the pretrained encoder."""

    text: str | None = None
    """Own labelled texts: CSV or TSV."""
    column: Annotated[str, MinLen(1)] | None = None
    """Its column of texts."""
    label_column: Annotated[str, MinLen(1)] = "label"
    """Its column of labels."""
    language: Annotated[str, MinLen(2)] | None = None
    """Language of the texts (ISO 639-1); by default the data set's, of own texts en."""
    encoder: Encoder = "auto"
    """auto: pretrained (all-MiniLM-L6-v2) for English if at hand, else scratch."""
    adaptation: Adaptation = "layers"
    """Train whole layers, or low-rank updates."""
    lora_rank: Count = 16
    """Rank of the updates."""
    trained_layers: Annotated[int, Ge(0)] = 6
    """Last layers that are trained."""
    layer_decay: Annotated[float, Gt(0), Le(1)] = 0.9
    """Factor of the rate a layer down."""
    members: Count = 6
    """Fine-tunings whose weights are averaged."""
    epochs: Positive = 12.0
    """Passes over the sentences, of all members."""
    min_steps: Annotated[int, Ge(0)] = 300
    """Optimizer steps at least, also on few sentences."""
    batch_size: Count = 832
    """Tokens in a batch, padding included."""
    validation_share: Fraction = 0.07
    """Share held out to calibrate with."""
    train_size: Count | None = None
    """Train on so many texts only."""
    learning_rate: Positive = 2e-4
    """AdamW's, for the last layer."""
    classifier_lr: Positive = 1e-3
    """AdamW's, for the classifier."""
    weight_decay: NotNegative = 0.0
    """Decoupled, of matrices."""
    warmup: Fraction = 0.06
    """Share of steps with a rising rate."""
    dropout: Fraction = 0.1
    """Share of features zeroed in training."""
    label_smoothing: Fraction = 0.0
    """Share spread over all classes."""
    r_drop: NotNegative = 1.0
    """Weight of R-Drop's divergence between two passes."""
    gradient_checkpointing: bool = False
    """Keep no activations; slower."""
    ema_decay: Fraction = 0.0
    """Decay per step of the averaged weights; 0: none."""
    max_grad_norm: Positive | None = 1.0
    """Clip the gradient's global norm to this."""
    vocab_size: Annotated[int, Ge(100)] = 8000
    """Pieces of scratch's vocabulary."""
    dim: Count = 128
    """Width of scratch, multiple of 32."""
    layers: Count = 2
    """Layers of scratch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim % HEAD_DIM:
            raise ValueError(f"dim {self.dim} must be a multiple of {HEAD_DIM}")
        if self.members > 1 and (self.adaptation == "lora" or self.ema_decay or self.shard):
            raise ValueError(
                f"the weights of {self.members} members are averaged, but not those of low-rank updates, of moving "
                f"averages or of split models; add --members 1"
            )
        if self.column is not None and self.text is None:
            raise ValueError("column names a column of the file that --text names; type both")


PRESETS: dict[str, Mapping[str, Any]] = {
    "fast": {"members": 3, "epochs": 6.0, "r_drop": 0.0},
    "lora": {
        "members": 1,
        "epochs": 2.0,
        "adaptation": "lora",
        "learning_rate": 1e-3,
        "layer_decay": 0.95,
        "r_drop": 0.0,
    },
    "scratch": {
        "encoder": "scratch",
        "members": 1,
        "epochs": 5.0,
        "batch_size": 1664,
        "vocab_size": 6000,
        "dropout": 0.3,
        "learning_rate": 2e-3,
        "classifier_lr": 2e-3,
        "layer_decay": 1.0,
        "weight_decay": 0.1,
        "label_smoothing": 0.1,
        "r_drop": 0.0,
        "ema_decay": 0.99,
    },
}
PRESETS["chinese"] = {
    **PRESETS["scratch"],
    "data": "chinese-reviews",
    "epochs": 4.0,
    "vocab_size": 12000,
    "dim": 192,
    "learning_rate": 7e-4,
    "classifier_lr": 7e-4,
    "r_drop": 2.0,
}

TUNING = Tuning(
    metric=Metric("validation_loss", "minimize", unit="plain"),
    space={
        "learning_rate": Uniform(2e-5, 1e-3, log=True),
        "classifier_lr": Uniform(1e-4, 1e-2, log=True),
        "layer_decay": Uniform(0.6, 1.0),
        "dropout": Uniform(0.0, 0.4),
        "r_drop": Uniform(0.0, 4.0),
    },
)
