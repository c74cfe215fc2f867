"""Schematics of structures: boxes and arrows in one style, readable in print and without colour.

Data have round corners, operations are grey, parameters have a dashed edge.
"""

from typing import TYPE_CHECKING, Any, Literal

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["data", "operation", "parameter"]
_STYLES: dict[str, dict[str, Any]] = {
    "data": {"boxstyle": "round,pad=0.02,rounding_size=0.2", "facecolor": "white", "linestyle": "-"},
    "operation": {"boxstyle": "square,pad=0.02", "facecolor": "0.88", "linestyle": "-"},
    "parameter": {"boxstyle": "square,pad=0.02", "facecolor": "white", "linestyle": (0, (4, 3))},
}


class Schematic:
    """Draws on a surface of `width` × `height` units, the origin at the lower left; a box is about 1.6 × 0.6 units."""

    figure: "Figure"

    def __init__(self, width: float, height: float, title: str = "") -> None:

        self.figure, self.axes = plt.subplots(figsize=(width, height))
        self.axes.set(xlim=(0, width), ylim=(0, height), aspect="equal", title=title)
        self.axes.axis("off")
        self._boxes: dict[str, Any] = {}

    def box(
        self,
        name: str,
        x: float,
        y: float,
        text: str | None = None,
        kind: Kind = "operation",
        width: float = 1.6,
        height: float = 0.6,
    ) -> None:
        """Draws a box around (x, y). Arrows refer to its name, which is also its text by default."""
        corner = (x - width / 2, y - height / 2)
        patch = FancyBboxPatch(corner, width, height, edgecolor="black", linewidth=1.2, **_STYLES[kind])
        self._boxes[name] = (self.axes.add_patch(patch), (x, y))
        self.axes.text(x, y, name if text is None else text, ha="center", va="center", fontsize=10)

    def arrow(self, start: str, end: str, label: str = "", bend: float = 0.0, dashed: bool = False) -> None:
        """Draws an arrow between two boxes.

        Args:
            label: text beside the middle of the arrow.
            bend: distance of its middle to the left of the straight line, as a fraction of the arrow's length.
            dashed: for a value that decides something but enters no computation.
        """
        (first, a), (second, b) = self._boxes[start], self._boxes[end]
        style = {
            "arrowstyle": "-|>",
            "connectionstyle": f"arc3,rad={-bend}",
            "linestyle": (0, (4, 3)) if dashed else "-",
            "color": "black",
            "linewidth": 1.2,
            "shrinkA": 2,
            "shrinkB": 2,
        }
        self.axes.annotate("", b, a, arrowprops={**style, "patchA": first, "patchB": second})
        if label:
            x, y = (a[0] + b[0]) / 2 - bend * (b[1] - a[1]) / 2, (a[1] + b[1]) / 2 + bend * (b[0] - a[0]) / 2
            space = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
            self.axes.text(x, y, label, ha="center", va="center", fontsize=9, bbox=space)

    def text(self, x: float, y: float, text: str) -> None:
        """Writes a note, centered on (x, y)."""
        self.axes.text(x, y, text, ha="center", va="center", fontsize=9)
