"""The metric that a capstone is judged by: which way is better, and which differences matter."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """Names a figure, its direction, and the loss that a smaller model may cost.

    Args:
        name: as `evaluate` or the training log calls it.
        direction: whether a larger value is better, or a smaller one.
        tolerance: the largest loss with which a quantized model is kept.
        relative: whether the tolerance is a share of the value, as suits a metric without a fixed scale (a Fréchet
            distance, a BLEU score), or in the metric's own units.
        unit: how the value is shown; `percent` also says that it is a share of samples, between 0 and 1.

    Raises:
        ValueError: the tolerance is negative.
    """

    name: str
    direction: Literal["maximize", "minimize"] = "maximize"
    tolerance: float = 0.005
    relative: bool = False
    unit: Literal["percent", "plain"] = "percent"

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise ValueError(f"the tolerance of {self.name} must not be negative, but is {self.tolerance}")

    def loss(self, reference: float, value: float) -> float:
        """Returns by how much a value is worse than the reference; negative where it is better."""
        return reference - value if self.direction == "maximize" else value - reference

    def reaches(self, value: float, threshold: float) -> bool:
        """Tells whether a value is at least as good as a threshold."""
        return self.loss(threshold, value) <= 0

    def allowed_loss(self, reference: float) -> float:
        """Returns the largest loss that is tolerated where the reference has this value."""
        return self.tolerance * abs(reference) if self.relative else self.tolerance

    def tolerates(self, reference: float, value: float) -> bool:
        """Tells whether a smaller model with this value may replace the reference. NaN may not."""
        return self.loss(reference, value) <= self.allowed_loss(reference)

    def allowed_difference(self, reference: float, n: int) -> float:
        """Returns by how much two runtimes of one model may differ, either way, on n samples.

        That is two samples' worth, since those whose best two answers are a rounding apart can swap them; one sample is
        worth 1/n of a share, and 1/n of the value of any other metric. Or a tenth of the tolerance, if that is more.
        """
        scale = 1.0 if self.unit == "percent" else abs(reference)
        return max(2 * scale / n, self.allowed_loss(reference) / 10)

    def agrees(self, reference: float, value: float, n: int) -> bool:
        """Tells whether the values that two runtimes of one model reach on n samples are the same. NaN never is."""
        return abs(reference - value) <= self.allowed_difference(reference, n)

    def show(self, value: float, with_unit: bool = True) -> str:
        """Formats a value: a share in per cent, anything else as it is."""
        if self.unit == "percent":
            return f"{100 * value:.2f}{' %' if with_unit else ''}"
        return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"

    def show_threshold(self, value: float) -> str:
        """Formats a value to be reached, with its direction."""
        sign = "≥" if self.direction == "maximize" else "≤"
        return f"{sign} {100 * value:g} %" if self.unit == "percent" else f"{sign} {value:g}"
