"""How classes are called and colored where people see them."""

from collections.abc import Sequence

CHINESE = {"RBC": "红细胞", "WBC": "白细胞", "Platelets": "血小板"}
"""Of the classes whose Chinese name is known; others keep the name that they have."""

COLORS = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (86, 180, 233),
    (240, 228, 66),
)
"""Red, green and blue of the colors that color-blind people can tell apart (Okabe and Ito, 2008), without black."""


def shown_name(name: str, separator: str = " · ") -> str:
    """Returns a class's name in both languages, where the Chinese one is known."""
    return f"{name}{separator}{CHINESE[name]}" if name in CHINESE else name


def color_of(name: str, names: Sequence[str]) -> tuple[int, int, int]:
    """Returns the color of a class, always the same one for its place among the model's classes."""
    return COLORS[names.index(name) % len(COLORS)]
