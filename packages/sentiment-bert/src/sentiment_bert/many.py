"""Many texts on the page: read from lines or a CSV file, judged, and shown as a table, a chart and a file."""

import csv
import html
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlcommon.runtime.data import DamagedDataError
from dlcommon.runtime.data.delimited import column_names, records, text_lines
from dlcommon.runtime.data.text_encoding import Note, say
from dlcommon.runtime.errors import UserError

MOST_TEXTS, SHOWN = 2_000, 50
COLOURS = {"positive": "#16a34a", "negative": "#dc2626", "neutral": "#94a3b8"}
OTHER_COLOURS = ("#2563eb", "#ea580c", "#7c3aed", "#0891b2", "#ca8a04")
CHINESE = {"positive": "正面", "negative": "负面", "neutral": "中性", "refused": "未判断"}
REFUSED = "refused"

CSS = """
.shares { display: flex; flex-direction: column; gap: .35rem; }
.shares div { display: grid; grid-template-columns: 9rem 1fr 5.5rem; align-items: center; gap: .5rem; }
.shares i { display: block; height: 1.1rem; border-radius: .25rem; min-width: 1px; }
.judged { overflow-x: auto; max-height: 26rem; }
.judged table { border-collapse: collapse; width: 100%; font-size: .9rem; }
.judged td, .judged th { padding: .2rem .5rem; text-align: left; border-bottom: 1px solid var(--border-color-primary);
  vertical-align: top; }
.judged td:nth-child(2) { overflow-wrap: anywhere; min-width: 12rem; }
"""


@dataclass(frozen=True)
class Judged:
    """One text of many, and what became of it."""

    line: int
    text: str
    sentiment: str
    """A label, neutral, or `REFUSED`."""
    confidence: float | None
    note: str = ""
    """Why it was refused."""


def label_of(sentiment: str) -> str:
    """Returns a label in both languages, where there is a Chinese one."""
    chinese = CHINESE.get(sentiment)
    return f"{sentiment} · {chinese}" if chinese else sentiment


def colour_of(sentiment: str, labels: Sequence[str]) -> str:
    """Returns the color of a label."""
    if sentiment in COLOURS:
        return COLOURS[sentiment]
    return OTHER_COLOURS[labels.index(sentiment) % len(OTHER_COLOURS)] if sentiment in labels else "#cbd5e1"


def texts_of_lines(content: str) -> list[tuple[int, str]]:
    """Returns the lines that are not blank, numbered from 1.

    Raises:
        UserError: there are none, or too many.
    """
    return _checked([(number, line.strip()) for number, line in enumerate(content.splitlines(), 1) if line.strip()])


def columns_of(path: Path) -> list[str]:
    """Returns the names of a CSV file's columns.

    Raises:
        UserError: it is no CSV file.
    """
    with path.open("rb") as file:
        _, header = next(records(text_lines(file, path, lambda text: None), path, _separator(path)), (1, []))
    if not header:
        raise DamagedDataError(path, "the file is empty")
    return column_names(header)


def texts_of_column(path: Path, column: str, note: Note = say) -> list[tuple[int, str]]:
    """Returns the cells of a column, numbered by the line that their row begins in.

    Args:
        note: is told if the file is not UTF-8.

    Raises:
        UserError: the file is no CSV, a row has too many or too few cells, or there are no texts or too many.
    """
    place = columns_of(path).index(column)
    texts = []
    with path.open("rb") as file:
        rows = records(text_lines(file, path, note), path, _separator(path))
        _, header = next(rows)
        for line, cells in rows:
            if len(cells) != len(header):
                problem = f"has {len(cells)} cells where the header names {len(header)} columns"
                raise DamagedDataError(path, problem, line)
            texts.append((line, cells[place].strip()))
    return _checked(texts)


def _separator(path: Path) -> str | None:
    return "\t" if path.suffix.lower() == ".tsv" else None


def _checked(texts: list[tuple[int, str]]) -> list[tuple[int, str]]:
    if not texts:
        raise UserError("there are no texts; paste one in each line, or choose a file")
    if len(texts) > MOST_TEXTS:
        raise UserError(
            f"{len(texts):,} texts are more than the page takes ({MOST_TEXTS:,}); use `sentiment-bert predict`"
        )
    return texts


def chart(judged: Sequence[Judged], labels: Sequence[str]) -> str:
    """Draws how many texts have each sentiment."""
    counts = Counter(one.sentiment for one in judged)
    names = [*labels, *(name for name in ("neutral", REFUSED) if counts[name])]
    rows = "".join(
        f"<div><span>{html.escape(label_of(name))}</span><i style='width:{100 * counts[name] / len(judged):.1f}%;"
        f"background:{colour_of(name, labels)}'></i><span>{counts[name]:,} "
        f"({counts[name] / len(judged):.0%})</span></div>"
        for name in names
    )
    return f"<div class='shares' role='img' aria-label='texts by sentiment'>{rows}</div>"


def table(judged: Sequence[Judged]) -> str:
    """Draws the first texts with their sentiment."""
    rows = "".join(
        f"<tr><td>{one.line}</td><td>{html.escape(one.text[:300])}</td>"
        f"<td>{html.escape(one.note or label_of(one.sentiment))}</td>"
        f"<td>{'' if one.confidence is None else f'{one.confidence:.0%}'}</td></tr>"
        for one in judged[:SHOWN]
    )
    head = "<tr><th>line · 行</th><th>text · 文本</th><th>sentiment · 情感</th><th>confidence · 置信度</th></tr>"
    note = f"<p>{len(judged):,} texts; the first {SHOWN} are shown. · 共 {len(judged):,} 条，显示前 {SHOWN} 条。</p>"
    return f"<div class='judged'><table>{head}{rows}</table></div>{note if len(judged) > SHOWN else ''}"


def as_csv(judged: Sequence[Judged]) -> bytes:
    """Returns a CSV file of all texts, with a byte-order mark, without which Excel misreads Chinese.

    A cell that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(("line", "text", "sentiment", "confidence", "note"))
    for one in judged:
        text = f"'{one.text}" if one.text.startswith(("=", "+", "-", "@", "\t")) else one.text
        confidence = "" if one.confidence is None else f"{one.confidence:.4f}"
        writer.writerow((one.line, text, one.sentiment, confidence, one.note))
    return b"\xef\xbb\xbf" + file.getvalue().encode("utf-8", "replace")
