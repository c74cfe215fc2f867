"""Options of `sentiment-bert train`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from dlcommon.runtime.bounds import Count, Fraction, Ge, Gt, Le, MinLen, NotNegative, Positive
from dlcommon.runtime.config import TrainConfig

Encoder = Literal["auto", "pretrained", "scratch"]
Adaptation = Literal["lora", "layers"]


@dataclass(frozen=True)
class Config(TrainConfig):
    """Configures a training; the default is the recipe for SST-2 from the pretrained encoder."""

    text: str | None = None
    """Own labelled texts instead of a data set: a CSV or TSV file with a header."""
    column: Annotated[str, MinLen(1)] | None = None
    """Column of `text` that holds the texts."""
    label_column: Annotated[str, MinLen(1)] = "label"
    """Column of `text` that holds the labels."""
    language: Annotated[str, MinLen(2)] = "en"
    """Language of the texts (ISO 639-1); the server refuses others."""
    encoder: Encoder = "auto"
    """pretrained: all-MiniLM-L6-v2; scratch: a small BERT of random weights; auto: the first where it is at hand."""
    adaptation: Adaptation = "lora"
    """What is trained of the pretrained encoder: low-rank updates of all matrices, or the last layers themselves."""
    lora_rank: Count = 16
    """Rank of the updates."""
    lora_alpha: Positive = 32.0
    """The updates are multiplied by lora_alpha / lora_rank."""
    trained_layers: Annotated[int, Ge(0)] = 6
    """Last layers that are adapted; those before, and the embeddings, stay frozen."""
    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0
    """Factor of the learning rate from each layer to the one before it."""
    epochs: Positive = 4.0
    """Passes over the training sentences."""
    min_steps: Annotated[int, Ge(0)] = 300
    """Optimizer steps at least: few sentences are passed over more often than `epochs` says."""
    batch_size: Count = 1024
    """Tokens in a batch, padding included."""
    max_tokens: Annotated[int, Ge(8), Le(512)] = 128
    """Tokens of a text that are read in training; in use, longer sentences are read in parts."""
    validation_share: Fraction = 0.07
    """Share of the training texts that is held out, to calibrate the confidence and to watch the training."""
    train_size: Count | None = None
    """Train on so many texts only, drawn at random with equal classes where they allow it."""
    learning_rate: Positive = 1e-3
    """AdamW's, for the last layer of the encoder."""
    classifier_lr: Positive = 1e-3
    """AdamW's, for the classifier."""
    weight_decay: NotNegative = 0.01
    """Decoupled, of matrices."""
    warmup: Fraction = 0.1
    """Share of training in which the learning rate rises, before it falls to zero."""
    dropout: Fraction = 0.1
    """Share of features zeroed while training."""
    attention_dropout: Fraction = 0.0
    """Share of attention weights zeroed while training."""
    label_smoothing: Fraction = 0.0
    """Share of the target distribution that is spread over all classes."""
    r_drop: NotNegative = 0.0
    """Weight of the divergence between two passes with different dropout (R-Drop); above 0 doubles the time."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass, instead of keeping them: less memory, a third more time."""
    ema_decay: Fraction = 0.99
    """Decay per step of the weights' exponential moving average, which is the model that is kept."""
    max_grad_norm: Positive | None = 1.0
    """Clip the gradient's global norm to this."""
    vocab_size: Annotated[int, Ge(100)] = 8000
    """Pieces of the scratch encoder's WordPiece vocabulary, which is learned from the training texts."""
    dim: Count = 128
    """Width of the scratch encoder."""
    heads: Count = 4
    """Attention heads of the scratch encoder."""
    layers: Count = 2
    """Layers of the scratch encoder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of the {self.heads} heads")
        if self.column is not None and self.text is None:
            raise ValueError("column names a column of the file that --text names; type both")


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "scratch": {
        "encoder": "scratch",
        "epochs": 12.0,
        "dropout": 0.3,
        "attention_dropout": 0.1,
        "learning_rate": 2e-3,
        "weight_decay": 0.1,
        "label_smoothing": 0.1,
    },
}
