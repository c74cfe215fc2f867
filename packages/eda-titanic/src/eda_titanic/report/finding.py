"""One finding, and how its numbers are written."""

from dataclasses import dataclass
from typing import Literal

from dlcommon.runtime.localization import LocalizedText

from eda_titanic.report.statistics import Rate

Topic = Literal["target", "quality", "leakage", "models"]


@dataclass(frozen=True)
class Finding:
    """Holds one sentence, what it is about, and whether it asks for something to be done."""

    topic: Topic
    text: LocalizedText
    warns: bool = False


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def with_interval(rate: Rate) -> str:
    return f"{percent(rate.share)} [{100 * rate.low:.0f}–{100 * rate.high:.0f}]"


def probability(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
