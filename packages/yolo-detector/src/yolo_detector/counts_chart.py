"""Counts over the time of a video, as a chart and a table on the page."""

import html
from collections.abc import Sequence

import numpy as np

from yolo_detector.classes import color_of, shown_name
from yolo_detector.findings import Findings

WIDTH, HEIGHT = 600, 180
"""Units of the chart's drawing."""
CSS = """
.counts-chart svg { width: 100%; height: auto; background: var(--background-fill-secondary); border-radius: .5rem; }
.counts-chart polyline { fill: none; stroke: var(--class); stroke-width: 2px; vector-effect: non-scaling-stroke; }
.counts-chart svg text { fill: var(--body-text-color); font-size: 12px; }
.counts-chart table { border: 0 !important; border-collapse: collapse; width: 100%; margin-top: .4rem; }
.counts-chart td, .counts-chart th { padding: .2rem .5rem; text-align: left; border: 0 !important; }
.counts-chart tr { border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important; }
.counts-chart i { display: inline-block; width: .9rem; height: .9rem; border-radius: .2rem; background: var(--class);
  margin-right: .5rem; vertical-align: -.1rem; }
"""


def chart(frames: Sequence[Findings]) -> str:
    """Renders how many objects of each class each frame holds."""
    names = list(frames[0].counts)
    times = np.array([frame.time or 0.0 for frame in frames])
    counts = np.array([[frame.counts[name] for name in names] for frame in frames])  # [frames, classes]
    most, end = max(int(counts.max()), 1), max(float(times[-1]), 1e-9)
    lines, rows = [], []
    for name, column in zip(names, counts.T, strict=True):
        red, green, blue = color_of(name, names)
        style = f'style="--class: rgb({red}, {green}, {blue})"'
        places = (f"{x:.1f},{y:.1f}" for x, y in zip(times / end * WIDTH, (1 - column / most) * HEIGHT, strict=True))
        lines.append(f'<polyline {style} points="{" ".join(places)}"/>')
        rows.append(
            f"<tr {style}><td><i></i>{html.escape(shown_name(name))}</td><td>{column.mean():.1f}</td>"
            f"<td>{column.min()} … {column.max()}</td></tr>"
        )
    head = "<tr><th>class · 类别</th><th>mean · 平均</th><th>least … most · 最少 … 最多</th></tr>"
    return (
        f'<div class="counts-chart"><svg viewBox="-30 -12 {WIDTH + 44} {HEIGHT + 36}" role="img" '
        f'aria-label="counts over time · 数量随时间变化">{"".join(lines)}'
        f'<text x="-24" y="4">{most}</text><text x="-24" y="{HEIGHT}">0</text>'
        f'<text x="{WIDTH - 30}" y="{HEIGHT + 18}">{end:.1f} s</text></svg>'
        f"<table>{head}{''.join(rows)}</table></div>"
    )
