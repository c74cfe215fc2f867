"""Findings on the page: the picture under boxes, counts and a table, in which a slider hides what is less sure.

All that was found is in the page at once, so that the slider needs no answer of the server.
"""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from yolo_detector.classes import color_of, shown_name
from yolo_detector.findings import Findings, Found
from yolo_detector.letterbox import resize, scaled_size

SHOWN_FROM = 0.05
"""Score from which on objects are in the page, hidden or not."""
LONGEST = 1280
"""Pixels of the longer side of the picture in the page."""
MOST_ROWS = 200
"""Objects in the table; the files hold all."""
CSS = """
.found .shown { position: relative; line-height: 0; }
.found .shown img { width: 100%; border-radius: .5rem; }
.found .shown svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: hidden; }
.found rect { fill: none; stroke: var(--class); stroke-width: 2px; vector-effect: non-scaling-stroke; }
.found text { fill: white; stroke: var(--class); paint-order: stroke; stroke-linejoin: round; font-weight: 700; }
.found table { border: 0 !important; border-collapse: collapse; width: 100%; font-size: .95rem; margin-top: .6rem; }
.found td, .found th { padding: .2rem .5rem; text-align: left; border: 0 !important; }
.found tr { border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important; }
.found td.number, .found th.number { text-align: right; font-variant-numeric: tabular-nums; }
.found .count { font-weight: 700; font-size: 1.15rem; }
.found i { display: inline-block; width: .9rem; height: .9rem; border-radius: .2rem; background: var(--class);
  margin-right: .5rem; vertical-align: -.1rem; }
.found .objects { max-height: 16rem; overflow-y: auto; }
.found .hidden { display: none; }
"""
EMPTY = '<div class="found"></div>'
FILTER = """
(confidence) => {
  for (const root of document.querySelectorAll('.found')) {
    const counts = {};
    for (const part of root.querySelectorAll('[data-score]')) {
      const kept = Number(part.dataset.score) > confidence;
      part.classList.toggle('hidden', !kept);
      if (kept && part.dataset.class) counts[part.dataset.class] = (counts[part.dataset.class] || 0) + 1;
    }
    for (const cell of root.querySelectorAll('.count')) cell.textContent = counts[cell.dataset.of] || 0;
  }
}
"""
"""Script of the confidence slider."""


def overlay(image: np.ndarray, findings: Findings, confidence: float) -> str:
    """Renders a picture, uint8 [height, width, 3], with what was found in it."""
    names = list(findings.counts)
    counts = findings.above(confidence).counts
    size = max(findings.width, findings.height) * 0.022
    boxes = "".join(_box(each, names, size, confidence) for each in reversed(findings.detections))  # the surest on top
    rows = "".join(
        f"<tr {_style(name, names)}><td><i></i>{html.escape(shown_name(name))}</td>"
        f'<td class="number count" data-of="{html.escape(name)}">{counts[name]}</td></tr>'
        for name in names
    )
    tiles = f"<p>looked at in {findings.tiles} tiles · 分 {findings.tiles} 块检测</p>" if findings.tiles else ""
    return (
        f'<div class="found"><div class="shown"><img src="{_data_url(image)}" alt="">'
        f'<svg viewBox="0 0 {findings.width} {findings.height}" preserveAspectRatio="none">{boxes}</svg></div>'
        f'<table aria-label="counts · 计数">{rows}</table>{_objects(findings, confidence)}{tiles}</div>'
    )


def _box(each: Found, names: Sequence[str], size: float, confidence: float) -> str:
    """Renders one object with its name, whose letters have this size in pixels of the picture."""
    left, top, right, bottom = each.box.left, each.box.top, each.box.right, each.box.bottom
    y = top - 0.3 * size if top > 1.3 * size else top + size  # above the box, or within
    label = html.escape(each.label)
    return (
        f'<g data-score="{each.score}" data-class="{label}" {_style(each.label, names)}'
        f"{_hidden(each.score, confidence)}>"
        f"<title>{html.escape(shown_name(each.label))} {each.score:.2f}</title>"
        f'<rect x="{left}" y="{top}" width="{right - left:.2f}" height="{bottom - top:.2f}"/>'
        f'<text x="{left}" y="{y:.1f}" font-size="{size:.1f}" stroke-width="{0.35 * size:.1f}">'
        f"{label} {each.score:.2f}</text></g>"
    )


def _objects(findings: Findings, confidence: float) -> str:
    """Renders the table of the surest objects."""
    names = list(findings.counts)
    rows = "".join(
        f'<tr data-score="{each.score}" {_style(each.label, names)}{_hidden(each.score, confidence)}>'
        f"<td><i></i>{html.escape(shown_name(each.label))}</td>"
        f'<td class="number">{each.score:.2f}</td>'
        f'<td class="number">{each.box.left:.0f}, {each.box.top:.0f}</td>'
        f'<td class="number">{each.box.right - each.box.left:.0f} × {each.box.bottom - each.box.top:.0f}</td></tr>'
        for each in findings.detections[:MOST_ROWS]
    )
    head = (
        '<tr><th>class · 类别</th><th class="number">score · 置信度</th><th class="number">left, top · 位置</th>'
        '<th class="number">size · 大小</th></tr>'
    )
    return f'<div class="objects"><table>{head}{rows}</table></div>' if findings.detections else ""


def _style(name: str, names: Sequence[str]) -> str:
    red, green, blue = color_of(name, names)
    return f'style="--class: rgb({red}, {green}, {blue})"'


def _hidden(score: float, confidence: float) -> str:
    return "" if score > confidence else ' class="hidden"'


def _data_url(image: np.ndarray) -> str:
    """Returns the picture as a JPEG in a data URL, shrunk to what a page shows."""
    height, width = image.shape[:2]
    if max(width, height) > LONGEST:
        image = resize(image, *scaled_size(width, height, LONGEST))
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
