"""Parts of a page about rows of a table: a field for each column, what moved an answer, a file of rows."""

import asyncio
import html
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from pydantic import ValidationError

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.tables.columns import Column, parse_rows, unusual_values
from dlcommon.runtime.tables.items import Row

CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
MOST_ROWS = 20_000
"""Rows that an uploaded file may have."""
MOST_LEVELS = 12
"""Largest range of whole numbers that is offered as a list."""
SHOWN_ROWS = 20


def field(column: Column, label: str, value: Any) -> gr.components.Component:
    """Makes the form field of one column; nothing chosen means that the value is unknown."""
    common: dict[str, Any] = {"label": label, "min_width": 120, "elem_id": f"field-{column.name}"}
    if column.is_date:
        shown = column.shown(value) if isinstance(value, float) else value
        return gr.Textbox(value=shown or "", max_length=100, **common)
    unknown = ("not known · 未知", "")
    if column.kind == "category":
        return gr.Dropdown([unknown, *column.categories], value=value or "", **common)
    low, high = column.low or 0, column.high or 0
    if column.kind == "number" and column.whole and high - low <= MOST_LEVELS:
        levels: list[Any] = [unknown, *[(f"{n}", float(n)) for n in range(int(low), int(high) + 1)]]
        return gr.Dropdown(levels, value=None if value is None else float(value), **common)
    if column.kind == "number":
        return gr.Number(value=value, minimum=0 if low >= 0 else None, **common)
    return gr.Textbox(value=value or "", max_length=200, **common)


def row_of(item: type[Row], names: Sequence[str], values: Sequence[Any]) -> Row:
    """Makes the row that the fields hold, asking for an explanation.

    Raises:
        gr.Error: a value is invalid; the message names its column.
    """
    given = {name: value for name, value in zip(names, values, strict=True) if value not in (None, "")}
    try:
        return item.model_validate({**given, "explain": True})
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{first['loc'][0]}: " if first["loc"] else ""
        raise gr.Error(
            f"{place}{first['msg'].removeprefix('Value error, ')}", title="", print_exception=False
        ) from None


def moved_list(
    contributions: Mapping[str, float], names: Mapping[str, LocalizedText], shown: Callable[[float], str]
) -> str:
    """Renders contributions as HTML bars, to the right (up) or the left (down), the largest first."""
    longest = max([abs(value) for value in contributions.values()] or [1.0]) or 1.0
    rows = []
    for player, value in sorted(contributions.items(), key=lambda item: -abs(item[1])):
        width = 50 * abs(value) / longest
        left = 50 if value >= 0 else 50 - width
        rows.append(
            f'<li class="{"up" if value >= 0 else "down"}"><span>{html.escape(str(names.get(player, player)))}</span>'
            f'<span class="track"><i style="left:{left:.1f}%;width:{width:.1f}%"></i></span>'
            f"<span>{html.escape(shown(value))}</span></li>"
        )
    return f"<ol class='moved'>{''.join(rows)}</ol>"


def unusual_note(texts: Sequence[str]) -> str:
    """Renders what a row holds that was not trained on, as a warning; nothing where there is nothing."""
    if not texts:
        return ""
    listed = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    return f"<div class='unusual'>Trust this answer less · 此结果可信度较低<ul>{listed}</ul></div>"


def html_table(frame: pd.DataFrame) -> str:
    """Renders a small table that scrolls by itself where it is wider than the page."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in frame.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in frame.itertuples(index=False, name=None)
    )
    return f"<div class='scroll'><table><tr>{head}</tr>{rows}</table></div>"


def file_tab(columns: Sequence[Column], answered: "Callable[[pd.DataFrame], pd.DataFrame]") -> None:
    """Adds the tab that takes a CSV file of rows and shows their answers, as a table and as a file.

    Args:
        answered: rows, indexed by their line in the file, to a table of answers.
    """

    def answer(path: str) -> tuple[str, str]:
        frame = parse_rows(Path(path).read_bytes(), Path(path), columns, gr.Info)
        if len(frame) > MOST_ROWS:
            raise UserError(f"the file has {len(frame):,} rows; at most {MOST_ROWS:,} are taken")
        answers = answered(frame)
        if any(outside := unusual_values(frame, columns)):
            answers["outside what was trained on"] = outside
        answers.insert(0, "line", frame.index)
        count = f"{len(answers):,}"
        note = f"{count} rows; the first {SHOWN_ROWS} are shown. · 共 {count} 行，显示前 {SHOWN_ROWS} 行。"
        table = f"{html_table(answers.head(SHOWN_ROWS))}<p class='note'>{note}</p>"
        return table, written("predictions.csv", answers.to_csv(index=False).encode())

    async def answer_file(path: str | None) -> tuple[str, gr.File]:
        if path is None:
            return "", gr.File(value=None, visible=False)
        try:
            table, file = await asyncio.to_thread(answer, path)
            return table, gr.File(value=file, visible=True)
        except UserError as error:
            raise shown_error(error, path) from None

    names = ", ".join(column.name for column in columns)
    gr.Markdown(
        f"A CSV file with the columns {names}; empty cells are values not known. · "
        f"CSV 文件，包含以上各列；空单元格表示未知。",
        elem_id="file-help",
    )
    upload = gr.File(label="CSV", file_types=[".csv"], height=120, elem_id="rows-csv")
    table = gr.HTML("", elem_id="predicted", apply_default_css=False, css_template=CSS)
    result = gr.File(label="Predictions · 预测结果", interactive=False, visible=False, elem_id="predictions-file")
    upload.change(
        answer_file, inputs=upload, outputs=[table, result], show_progress="minimal", api_visibility="private"
    )


def shown_error(error: Exception, path: str | None = None) -> gr.Error:
    """Turns an error about an uploaded file into Gradio's, without the file's path on the server."""
    message = str(error).replace(f"{path}, ", "").replace(f"{path}: ", "") if path else str(error)
    return gr.Error(message, title="", print_exception=False)


def written(name: str, content: bytes) -> str:
    """Writes a file for download from the page, in the folder that the server clears; returns its path."""
    folder = tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR"))
    path = Path(folder) / name
    path.write_bytes(content)
    return str(path)
