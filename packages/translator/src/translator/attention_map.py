"""Attention weights as a table of shaded cells."""

import html
from collections.abc import Sequence

import numpy as np

from translator.tokenizer import SPACE

CSS = """
.attention { overflow-x: auto; }
.attention table { border-collapse: collapse; font-size: .85rem; }
.attention th { font-weight: 400; padding: .1rem .3rem; text-align: right; white-space: nowrap; }
.attention thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
.attention td { min-width: 1.5rem; height: 1.5rem; border: 1px solid var(--border-color-primary); }
.attention-pieces span { display: inline-block; margin: .1rem; padding: .05rem .35rem; border-radius: .35rem;
  border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary); }
"""


def shown(piece: str) -> str:
    """Returns a piece as a reader expects it: the space before a word as ␣."""
    return html.escape(piece.replace(SPACE, "␣"))


def attention_table(weights: np.ndarray, pieces: Sequence[str], source_pieces: Sequence[str]) -> str:
    """Draws weights [target, source] as a table: a row for each piece of the translation, the darker the more.

    A cell's tooltip states its weight.
    """
    head = "".join(f'<th scope="col">{shown(piece)}</th>' for piece in source_pieces)
    rows = []
    for piece, row in zip(pieces, weights.tolist(), strict=True):
        cells = "".join(
            f'<td style="background:rgba(37,99,235,{weight:.3f})" '
            f'title="{shown(piece)} → {shown(source)}: {100 * weight:.0f} %"></td>'
            for source, weight in zip(source_pieces, row, strict=True)
        )
        rows.append(f'<tr><th scope="row">{shown(piece)}</th>{cells}</tr>')
    head = f"<thead><tr><th></th>{head}</tr></thead>"
    return f'<div class="attention"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def pieces_list(pieces: Sequence[str]) -> str:
    """Draws pieces as a row of labels."""
    return f'<div class="attention-pieces">{"".join(f"<span>{shown(piece)}</span>" for piece in pieces)}</div>'


def chosen(attention: Sequence[object], layer: str, head: str) -> np.ndarray:
    """Returns the weights [target, source] of one layer and head, or their mean over `all`."""
    weights = np.asarray(attention, np.float32)  # [layers, heads, target, source]
    weights = weights.mean(axis=0, keepdims=True) if layer == "all" else weights[[int(layer) - 1]]
    weights = weights.mean(axis=1) if head == "all" else weights[:, int(head) - 1]
    selected: np.ndarray = weights[0]
    return selected
