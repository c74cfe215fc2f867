"""Options of `llm-lora train`, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from dlcommon.runtime.bounds import Count, Fraction, Ge, MinLen, NotNegative, Positive
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning
from dlcommon.training.search_space import Uniform

Method = Literal["lora", "rslora", "dora", "pissa", "full"]
ALL_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Config(TrainConfig):
    """Configures a training; the default tunes SmolLM2-135M-Instruct on the instructions."""

    text: str | None = None
    """Own conversations: .json, .jsonl or .csv."""
    base: Annotated[str, MinLen(1)] = "auto"
    """smollm2-135m-instruct, tiny (random), or OWNER/NAME on the hub; auto: the first, else tiny."""
    stage: Literal["sft", "dpo"] = "sft"
    """Learn answers, or prefer chosen answers to rejected ones."""
    adapter: str | None = None
    """Folder of an adapter to go on from, such as RUN/adapter."""
    method: Method = "lora"
    """Kind of adapter; full: train all weights."""
    quantize: Literal["none", "nf4"] = "none"
    """Store the base in four bits (QLoRA)."""
    rank: Count = 8
    """Rank of the adapters."""
    alpha: Positive = 16.0
    """Their change is scaled by alpha / rank."""
    targets: Annotated[tuple[str, ...], MinLen(1)] = ALL_LAYERS
    """Layers that get an adapter, by the last parts of their names."""
    lora_dropout: Fraction = 0.0
    """Share of features zeroed before an adapter."""
    epochs: Positive = 2.0
    """Passes over the conversations."""
    min_steps: Annotated[int, Ge(0)] = 0
    """Optimizer steps at least."""
    row_length: Annotated[int, Ge(16)] = 1024
    """Tokens of a row, and of the longest conversation."""
    batch_size: Count = 1024
    """Tokens in a batch."""
    validation_share: Fraction = 0.05
    """Share held out to validate on."""
    learning_rate: Positive = 3e-3
    """AdamW's."""
    weight_decay: NotNegative = 0.0
    """Decoupled, of all matrices that are trained."""
    warmup: Fraction = 0.05
    """Share of steps with a rising rate."""
    max_grad_norm: Positive | None = 1.0
    """Clip the gradient's global norm to this."""
    gradient_checkpointing: bool = False
    """Keep no activations inside of layers; slower."""
    beta: Positive = 0.1
    """DPO: how closely to keep to the reference."""
    label_smoothing: Fraction = 0.0
    """DPO: share of wrong preferences."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.row_length:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of row_length {self.row_length}")
        if self.method == "full" and (self.quantize != "none" or self.adapter is not None):
            raise ValueError("method full trains the base itself, which then has no adapter and is not quantized")
        if self.label_smoothing >= 0.5:
            raise ValueError(
                f"label_smoothing {self.label_smoothing} must be below 0.5: at half, preferences say nothing"
            )


PRESETS: dict[str, Mapping[str, Any]] = {
    "fast": {"epochs": 1.0, "targets": ("q_proj", "v_proj")},
    "dpo": {"stage": "dpo", "epochs": 1.0, "learning_rate": 1e-4, "beta": 0.3},
    "qlora": {"quantize": "nf4"},
    "full": {"method": "full", "learning_rate": 5e-5},
}

TUNING = Tuning(
    metric=Metric("validation_loss", "minimize", unit="plain"),
    space={
        "learning_rate": Uniform(1e-4, 1e-2, log=True),
        "alpha": Uniform(4.0, 64.0, log=True),
        "lora_dropout": Uniform(0.0, 0.2),
        "warmup": Uniform(0.0, 0.2),
    },
)
