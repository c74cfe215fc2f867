"""Options of `char-lm train`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from dlcommon.runtime.bounds import Count, Fraction, Ge, Gt, Lt, MinLen, NotNegative, Positive
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning
from dlcommon.training.search_space import Uniform


@dataclass(frozen=True)
class Config(TrainConfig):
    """Configures a training; the default is the GPT recipe for Tiny Shakespeare, measured in RESULTS.md."""

    renamed: ClassVar = {
        **TrainConfig.renamed,
        "contexts": "context_lengths",
        "vocabulary": "vocab_size",
        "adam_rate": "adam_lr",
    }
    text: str | None = None
    """A text file, or a folder of .txt files, in UTF-8, to learn instead of a data set."""
    validation_share: Fraction = 0.0
    """Share of the training text, its end, kept out of training to validate on; `tune` chooses by it."""
    epochs: float = 2.0
    """Passes over the training text."""
    min_steps: Annotated[int, Ge(0)] = 400
    """Optimizer steps at least: a short text is passed over more often than `epochs` says."""
    batch_size: int = 16
    """Windows of the longest context for one optimizer step; of a shorter one proportionally more."""
    evaluate_every: float = 1.0
    """Epochs between evaluations on the test text."""
    tokens: Literal["characters", "bytes", "bpe"] = "characters"
    """What a token is."""
    vocab_size: Annotated[int, Ge(257)] = 1024
    """Tokens of a BPE vocabulary: the 256 bytes and more."""
    model: Literal["gpt", "lstm"] = "gpt"
    """Architecture; the preset `lstm` has the width and the rates that suit the LSTM."""
    layers: Count = 6
    """Blocks of the GPT, layers of the LSTM."""
    dim: Count = 256
    """Width of the features, and of the LSTM's state."""
    heads: Count = 4
    """Attention heads of the GPT."""
    dropout: Fraction = 0.0
    """Share of activations zeroed while training."""
    context_lengths: Annotated[tuple[Annotated[int, Ge(2)], ...], MinLen(1)] = (64, 128, 256)
    """Tokens in a window, from the first stretch of training to the last."""
    stages: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.4, 0.7)
    """Shares of training at which the window grows."""
    learning_rate: Positive = 0.03
    """Muon's, for the matrices of the GPT's blocks."""
    adam_lr: Positive = 0.005
    """AdamW's, for everything else."""
    weight_decay: NotNegative = 0.1
    """Decoupled, of all matrices, in units of the learning rate."""
    warmup: Fraction = 0.02
    """Share of training in which the learning rates rise, before they fall to zero."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.stages) != len(self.context_lengths) - 1:
            raise ValueError("stages must be one fewer than context_lengths")
        for name in ("stages", "context_lengths"):
            if list(getattr(self, name)) != sorted(getattr(self, name)):
                raise ValueError(f"{name} must rise, not {getattr(self, name)}")
        if any(self.context_lengths[-1] % context for context in self.context_lengths):
            lengths = self.context_lengths
            raise ValueError(f"every context length must divide the longest, {lengths[-1]}, not so in {lengths}")
        if self.model == "gpt" and self.dim % (2 * self.heads):
            raise ValueError(f"dim {self.dim} must be a multiple of twice the {self.heads} heads")


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {
        "epochs": 1.0,
        "layers": 4,
        "dim": 192,
        "context_lengths": (32, 64, 128),
        "batch_size": 16,
        "dropout": 0.0,
        "weight_decay": 0.0,
        "evaluate_every": 0.125,
    },
    # Dropout against learning so small a text by heart.
    "best": {"epochs": 5.0, "dropout": 0.1},
    # In fp32, since backward through torch's LSTM takes twice as long under bf16 autocast on a CPU.
    "lstm": {
        "model": "lstm",
        "epochs": 8.0,
        "layers": 2,
        "dim": 384,
        "dropout": 0.2,
        "stages": (0.5, 0.85),
        "adam_lr": 0.003,
        "max_grad_norm": 1.0,
        "precision": "fp32",
    },
}

TUNING = Tuning(
    metric=Metric("validation_loss", "minimize", unit="plain"),
    space={
        "learning_rate": Uniform(0.005, 0.1, log=True),
        "adam_lr": Uniform(0.0005, 0.02, log=True),
        "weight_decay": Uniform(0.0, 0.3),
        "dropout": Uniform(0.0, 0.3),
        "warmup": Uniform(0.0, 0.2),
    },
    settings={"validation_share": 0.1},
)
