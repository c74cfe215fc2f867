"""Pictures as inline SVG: small, sharp, in the page's own colours, with the numbers as tooltips.

Each function returns the text of one `<svg>`. Texts in it are escaped; colours are CSS classes (c0, c1, …).
"""

import html
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

WIDTH = 520
MOST_POINTS = 1500
CLASSES = 8
"""Colours that are told apart; further classes share the last."""


def tick_step(low: float, high: float, ticks: int = 5) -> float:
    """Chooses a round distance between ticks."""
    raw = (high - low) / ticks or 1.0
    power = 10 ** np.floor(np.log10(raw))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= raw * 0.999))


def _ticks(low: float, high: float) -> np.ndarray:
    step = tick_step(low, high)
    return np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step


def text(x: float, y: float, content: Any, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{html.escape(str(content))}</text>'


def rectangle(x: float, y: float, width: float, height: float, kind: str, tip: str = "", style: str = "") -> str:
    title = f"<title>{html.escape(tip)}</title>" if tip else ""
    styled = f' style="{style}"' if style else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" '
        f'class="{kind}"{styled}>{title}</rect>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def drawing(parts: Sequence[str], height: float, label: str, width: float = WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{html.escape(label)}">'
        + "".join(parts)
        + "</svg>"
    )


def short(value: Any, length: int = 22) -> str:
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def number(value: float) -> str:
    """Formats a number as people write it: thousands separated, few decimals."""
    if np.isnan(value):
        return "–"
    value += 0.0  # no -0
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    decimals = 0 if float(value).is_integer() or abs(value) >= 1000 else 1 if abs(value) >= 100 else 3
    return f"{value:,.{decimals}f}".rstrip("0").rstrip(".") if decimals else f"{value:,.0f}"


def _legend(classes: Sequence[str], y: float) -> list[str]:
    parts, x = [], 46.0
    for place, name in enumerate(classes[:CLASSES]):
        parts += [rectangle(x, y - 9, 10, 10, f"c{place}"), text(x + 14, y, short(name), kind="small")]
        x += 30 + 6.5 * len(short(name))
    return parts


def bin_edges(values: np.ndarray) -> np.ndarray:
    """Chooses the edges of a histogram's bins; fewer where numbers as large cannot be told apart so finely."""
    low, high = float(values.min()), float(values.max())
    bins = min(40, max(8, int(np.sqrt(len(values)))))
    step = 4 * float(np.spacing(max(abs(low), abs(high))))
    if not np.isfinite(high - low) or high - low <= step:
        return np.array([low - max(step, 0.5), high + max(step, 0.5)])
    return np.histogram_bin_edges(values, bins=max(1, min(bins, int((high - low) / step))))


def histogram(
    values: np.ndarray, label: str, classes: Sequence[str] = (), groups: np.ndarray | None = None,
    shown: Callable[[float], str] | None = None,
) -> str:  # fmt: skip
    """Draws a histogram of values [rows], stacked by class where groups [rows] are given.

    Args:
        shown: writes a value, such as a date; by default as a number.
    """
    shown = shown or number
    groups = np.zeros(len(values), int) if groups is None else groups
    known = ~np.isnan(values)
    values, groups = values[known], groups[known]
    if not len(values):
        return drawing([text(WIDTH / 2, 40, "–", "middle")], 80, label)
    whole = shown is number and bool((values % 1 == 0).all()) and np.ptp(values) <= 30 and abs(values).max() < 2**52
    edges = np.arange(values.min() - 0.5, values.max() + 1.5) if whole else bin_edges(values)
    counts = [np.histogram(values[groups == place], edges)[0] for place in range(max(1, len(classes)))]
    top = max(1, int(np.sum(counts, axis=0).max()))
    left, right, base, height = 46.0, WIDTH - 8.0, 178.0, 160.0
    scale = (right - left) / (edges[-1] - edges[0])
    parts = []
    for tick in _ticks(0, top):
        y = base - height * tick / top
        parts += [line(left, y, right, y, "grid"), text(left - 5, y + 4, number(tick), "end", "small")]
    for start, end, *stack in zip(edges[:-1], edges[1:], *counts, strict=True):
        y = base
        for place, count in enumerate(stack):
            if count:
                share = height * count / top
                y -= share
                name = f", {classes[place]}" if len(classes) else ""
                span = f"{start + 0.5:g}" if whole else f"{shown(start)} – {shown(end)}"
                x = left + (start - edges[0]) * scale
                width = (end - start) * scale - (1 if len(edges) < 60 else 0)
                parts.append(rectangle(x, y, width, share, f"c{place}", f"{span}{name}: {count}"))
    for tick in _ticks(edges[0], edges[-1]):
        if edges[0] <= tick <= edges[-1]:
            parts.append(text(left + (tick - edges[0]) * scale, base + 16, shown(tick), "middle", "small"))
    parts.append(line(left, base, right, base))
    parts.append(text((left + right) / 2, base + 34, label, "middle"))
    if len(classes) > 1:
        parts += _legend(classes, base + 54)
    return drawing(parts, base + (62 if len(classes) > 1 else 42), label)


def proportion_bars(
    labels: Sequence[str], values: Sequence[float], counts: Sequence[int], label: str,
    intervals: Sequence[tuple[float, float]] | None = None, average: float | None = None, kind: str = "c1",
) -> str:  # fmt: skip
    """Draws shares as horizontal bars, with their intervals and a dashed line at the average where these are given.

    The axis ends at 1 where either is given, else at the largest share.
    """
    left, right, row = 150.0, WIDTH - 96.0, 24.0
    limit = 1.0 if intervals or average is not None else max([*values, 1e-9])
    parts = []
    if average is not None:
        x = left + (right - left) * average / limit
        parts.append(line(x, 4, x, 8 + row * len(labels), "average"))
    for place, (name, value, count) in enumerate(zip(labels, values, counts, strict=True)):
        y, x = 8 + row * place, left + (right - left) * value / limit
        parts.append(text(left - 6, y + 13, short(name), "end"))
        parts.append(rectangle(left, y, x - left, row - 7, kind, f"{name}: {value:.1%}, n = {count}"))
        if intervals is not None:
            low, high = (left + (right - left) * bound / limit for bound in intervals[place])
            middle = y + (row - 7) / 2
            parts += [line(low, middle, high, middle, "whisker")]
            parts += [line(end, middle - 4, end, middle + 4, "whisker") for end in (low, high)]
        parts.append(text(WIDTH - 4, y + 13, f"{value:.1%} · {count:,}", "end", "small"))
    base = 8 + row * len(labels)
    parts += [line(left, 4, left, base), text((left + right) / 2, base + 16, label, "middle")]
    return drawing(parts, base + 26, label)


def heat(
    rows: Sequence[str], columns: Sequence[str], values: np.ndarray, texts: Sequence[Sequence[str]], label: str,
    low: float = 0.0, high: float = 1.0,
) -> str:  # fmt: skip
    """Draws a heat map of values [rows, columns]: the higher, the deeper the colour; NaN stays empty."""
    left, top = 110.0, 12.0
    width = min(90.0, (WIDTH - left - 6) / len(columns))
    height = min(34.0, max(20.0, 0.5 * width))
    tilted = max(len(short(c, 14)) for c in columns) * 6.8 > width
    parts = []
    for r, name in enumerate(rows):
        parts.append(text(left - 6, top + height * (r + 0.5) + 4, short(name, 16), "end"))
        for c, other in enumerate(columns):
            value = values[r, c]
            if np.isnan(value):
                continue
            share = (value - low) / ((high - low) or 1)
            x, y = left + width * c, top + height * r
            tip = f"{name} × {other}: {texts[r][c]}"
            parts.append(rectangle(x, y, width - 1, height - 1, "heat", tip, f"fill-opacity:{0.06 + 0.94 * share:.2f}"))
            if width > 26:
                kind = "inverse" if share > 0.55 else ""
                shown = texts[r][c].split(" ")[0]
                parts.append(text(x + width / 2, y + height / 2 + 4, shown, "middle", f"small {kind}"))
    base = top + height * len(rows)
    for c, name in enumerate(columns):
        x = left + width * (c + 0.5)
        if tilted:
            shown = html.escape(short(name, 14))
            parts.append(
                f'<text x="{x:.1f}" y="{base + 12:.1f}" text-anchor="end" class="small" '
                f'transform="rotate(-40 {x:.1f} {base + 12:.1f})">{shown}</text>'
            )
        else:
            parts.append(text(x, base + 15, short(name, 14), "middle", "small"))
    below = base + (78 if tilted else 24)
    parts.append(text(left + width * len(columns) / 2, below + 10, label, "middle"))
    return drawing(parts, below + 20, label)


def scatter(
    x: np.ndarray, y: np.ndarray, labels: tuple[str, str], classes: Sequence[str] = (),
    groups: np.ndarray | None = None,
) -> str:  # fmt: skip
    """Draws points, coloured by class; of more than `MOST_POINTS`, every so many."""
    known = ~(np.isnan(x) | np.isnan(y))
    groups = np.zeros(len(x), int) if groups is None else groups
    x, y, groups = x[known], y[known], groups[known]
    step = max(1, -(-len(x) // MOST_POINTS))
    x, y, groups = x[::step], y[::step], groups[::step]
    if not len(x):
        return drawing([text(WIDTH / 2, 40, "–", "middle")], 80, " × ".join(labels))
    left, right, top, base = 56.0, WIDTH - 10.0, 10.0, 268.0
    spans = [(float(v.min()), float(v.max()) if np.ptp(v) else float(v.min()) + 1) for v in (x, y)]
    places = [
        left + (right - left) * (x - spans[0][0]) / (spans[0][1] - spans[0][0]),
        base - (base - top) * (y - spans[1][0]) / (spans[1][1] - spans[1][0]),
    ]
    parts = []
    for tick in _ticks(*spans[1]):
        at = base - (base - top) * (tick - spans[1][0]) / (spans[1][1] - spans[1][0])
        parts += [line(left, at, right, at, "grid"), text(left - 5, at + 4, number(tick), "end", "small")]
    for tick in _ticks(*spans[0]):
        at = left + (right - left) * (tick - spans[0][0]) / (spans[0][1] - spans[0][0])
        parts.append(text(at, base + 16, number(tick), "middle", "small"))
    parts += [
        f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" class="c{min(group, CLASSES - 1)} point"/>'
        for px, py, group in zip(*places, groups, strict=True)
    ]
    parts += [line(left, base, right, base), text((left + right) / 2, base + 34, labels[0], "middle")]
    parts.append(f'<text x="14" y="{(top + base) / 2:.0f}" text-anchor="middle" transform="rotate(-90 14 '
                 f'{(top + base) / 2:.0f})">{html.escape(labels[1])}</text>')  # fmt: skip
    if len(classes) > 1:
        parts += _legend(classes, base + 54)
    return drawing(parts, base + (62 if len(classes) > 1 else 42), " × ".join(labels))


def boxes(groups: Sequence[str], values: Sequence[np.ndarray], label: str) -> str:
    """Draws a box plot with one row for each group: quartiles, median, and the middle 90 % as whiskers."""
    left, right, row = 150.0, WIDTH - 60.0, 30.0
    filled = [v[~np.isnan(v)] for v in values]
    everything = np.concatenate(filled)
    low, high = (np.quantile(everything, q) for q in (0.01, 0.99)) if len(everything) else (0.0, 1.0)
    scale = (right - left) / ((high - low) or 1)
    parts = []
    base = 8 + row * len(groups)
    for tick in _ticks(low, high):
        x = left + (tick - low) * scale
        parts += [line(x, 4, x, base, "grid"), text(x, base + 14, number(tick), "middle", "small")]
    for place, (name, those) in enumerate(zip(groups, filled, strict=True)):
        y = 8 + row * place
        parts.append(text(left - 6, y + 15, short(name), "end"))
        parts.append(text(WIDTH - 4, y + 15, f"{len(those):,}", "end", "small"))
        if not len(those):
            continue
        quantiles = np.quantile(those, [0.05, 0.25, 0.5, 0.75, 0.95])
        q = np.clip(left + (quantiles - low) * scale, left, right)
        middle = y + 10
        tip = f"{name}: median {number(quantiles[2])}, quartiles {number(quantiles[1])} – {number(quantiles[3])}"
        parts += [line(q[0], middle, q[4], middle, "whisker")]
        parts += [rectangle(q[1], y + 1, q[3] - q[1], 18, "c1 box", tip), line(q[2], y + 1, q[2], y + 19, "median")]
    parts.append(text((left + right) / 2, base + 32, label, "middle"))
    return drawing(parts, base + 42, label)


def reliability(points: Sequence[dict[str, float]], label: str) -> str:
    """Draws accuracy over confidence; on the diagonal a model is as often right as it claims."""
    side, left, top = 260.0, 56.0, 10.0
    total = sum(point["count"] for point in points)
    parts = [line(left, top + side, left + side, top, "average")]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = left + side * tick, top + side * (1 - tick)
        parts += [line(left, y, left + side, y, "grid"), text(left - 5, y + 4, f"{tick:.0%}", "end", "small")]
        parts.append(text(x, top + side + 15, f"{tick:.0%}", "middle", "small"))
    for point in points:
        x, y = left + side * point["confidence"], top + side * (1 - point["accuracy"])
        radius = 3 + 12 * np.sqrt(point["count"] / total)
        tip = f"{point['confidence']:.1%} → {point['accuracy']:.1%}, {point['count'] / total:.1%}"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="c1 point"><title>{tip}</title></circle>'
        )
    parts.append(text(left + side / 2, top + side + 34, label, "middle"))
    return drawing(parts, top + side + 44, label, left + side + 20)
