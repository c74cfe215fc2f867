"""The page: would this row be of that class and why, an explorer of any table, and a file of rows to predict."""

import asyncio
import functools
import html
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
from dlcommon.runtime import data
from dlcommon.runtime.data.own_table import read_own_table
from dlcommon.runtime.data.table import Table
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.serving.service import PagePredict
from dlcommon.runtime.serving.theme import page_frame
from dlcommon.runtime.tables.columns import as_arrays
from dlcommon.runtime.tables.items import Row
from dlcommon.runtime.tables.page import CSS as TABLE_CSS
from dlcommon.runtime.tables.page import (
    MOST_ROWS,
    field,
    file_tab,
    moved_list,
    row_of,
    shown_error,
    unusual_note,
    written,
)

from eda_titanic.report import page as report_page
from eda_titanic.report import pictures
from eda_titanic.service import Prediction, RowService

FOLDER = Path(__file__).parent
CSS = TABLE_CSS + "".join((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "report/charts.css"))
NONE = "—"

NAMES = {
    "Pclass": LocalizedText("Class", "舱位等级"),
    "Name": LocalizedText("Name", "姓名"),
    "Sex": LocalizedText("Sex", "性别"),
    "Age": LocalizedText("Age", "年龄"),
    "SibSp": LocalizedText("Siblings, spouse aboard", "同船兄弟姐妹/配偶"),
    "Parch": LocalizedText("Parents, children aboard", "同船父母/子女"),
    "Fare": LocalizedText("Fare in pounds", "票价 (英镑)"),
    "Embarked": LocalizedText("Port", "登船港口"),
    "Cabin": LocalizedText("Cabin", "船舱"),
    "Ticket": LocalizedText("Ticket", "船票"),
}
PLAYERS = {
    "Sex and title": LocalizedText("Sex and title", "性别与称谓"),
    "Class": NAMES["Pclass"],
    "Age": NAMES["Age"],
    "Family aboard": LocalizedText("Family aboard", "同船家人"),
    "Ticket": NAMES["Ticket"],
    "Fare": LocalizedText("Fare", "票价"),
    "Cabin": NAMES["Cabin"],
    "Port": NAMES["Embarked"],
    "Other columns": LocalizedText("Other columns", "其他列"),
}
ANSWERS = {"survived": LocalizedText("survived", "生还"), "died": LocalizedText("died", "遇难")}

EXAMPLES: dict[LocalizedText, dict[str, Any]] = {
    LocalizedText("Young man, 3rd class", "三等舱青年男子"): {
        "Pclass": 3,
        "Name": "Dawson, Mr. Jack",
        "Sex": "male",
        "Age": 20,
        "SibSp": 0,
        "Parch": 0,
        "Fare": 8,
        "Embarked": "S",
    },
    LocalizedText("Young lady, 1st class", "一等舱年轻女士"): {
        "Pclass": 1,
        "Name": "Bukater, Miss. Rose",
        "Sex": "female",
        "Age": 17,
        "SibSp": 1,
        "Parch": 1,
        "Fare": 110,
        "Cabin": "B52",
        "Embarked": "S",
    },
    LocalizedText("Mother of two, 2nd class", "二等舱两孩母亲"): {
        "Pclass": 2,
        "Name": "Miller, Mrs. Anna",
        "Sex": "female",
        "Age": 32,
        "SibSp": 0,
        "Parch": 2,
        "Fare": 26,
        "Embarked": "S",
    },
    LocalizedText("Boy with five siblings, 3rd class", "三等舱有五个兄弟姐妹的男孩"): {
        "Pclass": 3,
        "Name": "Svensson, Master. Karl",
        "Sex": "male",
        "Age": 6,
        "SibSp": 5,
        "Parch": 2,
        "Fare": 31,
        "Embarked": "S",
    },
}


def verdict(prediction: "Prediction") -> str:
    """Renders the answer's half of the page."""
    explained = prediction.explained or prediction.answer
    share, base = prediction.probabilities[explained], prediction.baseline or 0.0
    label = ANSWERS.get(explained, LocalizedText(explained, explained))
    others = "".join(
        f"<small>{html.escape(str(ANSWERS.get(name, name)))}: {p:.1%}</small>"
        for name, p in prediction.probabilities.items() if name != explained
    )  # fmt: skip
    moved = moved_list(prediction.contributions or {}, PLAYERS, lambda value: f"{100 * value:+.1f}")
    return (
        f'<div class="verdict"><div class="share">{100 * share:.0f} %</div>'
        f'<div class="words">{html.escape(str(label))}{others}</div></div>'
        f'<div class="bar"><i style="width:{100 * share:.1f}%"></i><b style="left:{100 * base:.1f}%"></b></div>'
        f"{unusual_note(prediction.unusual)}"
        f"<h4>What moved the answer, in points · 影响因素（百分点）</h4>{moved}"
        f'<p class="note">Exact Shapley values: {100 * base:.1f} % on average (the mark) and these points add up to '
        f"{100 * share:.1f} %. · 精确 Shapley 值：平均 {100 * base:.1f} %（竖线）加上各项等于 {100 * share:.1f} %。</p>"
    )


@functools.lru_cache(maxsize=4)
def subject_at(path: str, target: str | None) -> pictures.Subject:
    """Reads an uploaded file as the report sees it.

    Raises:
        UserError: it is damaged, or the target cannot be used.
    """
    read = read_own_table(Path(path), lambda text: None, MOST_ROWS, wanted=[target] if target is not None else [])
    if target is None:
        return pictures.without_target(read.frame, read.readers, read.notes)
    return pictures.subject_of(Table(read.frame, None, target, None, read.readers, read.notes))


@functools.lru_cache(maxsize=2)
def own_subject(name: str) -> tuple[str, pictures.Subject]:
    """Loads the model's own data if it is on this machine, else the list that a library ships."""
    located = data.find(name) if name in data.DATA_SETS else None
    located = located or data.find("titanic-sample")
    assert located is not None
    return located.title, pictures.subject_of(located.load())


def build_page(
    title: LocalizedText, summary: LocalizedText, service: "RowService", predict: "PagePredict[Row, Prediction]"
) -> gr.Blocks:
    with page_frame(title, summary, service.model) as page:
        # Short names: on a phone Gradio hides the tabs that do not fit.
        with gr.Tab("Survive? · 生还" if service.passengers else "Ask · 询问", id="ask"):
            ask_tab(service, predict)
        with gr.Tab("Explorer · 探索", id="explore"):
            explore_tab(service)
        with gr.Tab("File · 批量", id="file"):
            file_tab(service.columns, functools.partial(predictions, service))
    return page


def own_field(service: "RowService", name: str) -> gr.components.Component:
    column = next(column for column in service.columns if column.name == name)
    label = str(NAMES[name]) if service.passengers and name in NAMES else name
    return field(column, label, EXAMPLES[next(iter(EXAMPLES))].get(name) if service.passengers else column.typical)


def ask_tab(service: "RowService", predict: "PagePredict[Row, Prediction]") -> None:
    order = [name for name in NAMES if service.passengers and name in {c.name for c in service.columns}]
    names = order or sorted((c.name for c in service.columns), key=lambda name: -service.importance.get(name, 0.0))

    async def ask(*values: Any) -> str:
        item = row_of(service.item, names, values)
        return verdict(await predict(item))

    gr.Markdown(
        "### Would I have survived? · 我能生还吗？"
        if service.passengers
        else f"### {service.model.metadata['question']}"
    )
    with gr.Row():
        with gr.Column(min_width=300):
            fields = []
            for start in range(0, len(names), 2):
                with gr.Row():
                    fields += [own_field(service, name) for name in names[start : start + 2]]
            button = gr.Button("Ask · 询问", variant="primary", elem_id="ask")
            examples = list(EXAMPLES.items()) if service.passengers else []
            buttons = []
            for start in range(0, len(examples), 2):
                with gr.Row():
                    buttons += [gr.Button(str(label), size="sm", min_width=120, elem_classes="example")
                                for label, _ in examples[start : start + 2]]  # fmt: skip
        with gr.Column(min_width=300):
            answer = gr.HTML("", elem_id="answer", apply_default_css=False, css_template=CSS)
    events: dict[str, Any] = {"outputs": answer, "show_progress": "hidden", "api_visibility": "private"}
    button.click(ask, inputs=fields, **events)
    for example, (_, values) in zip(buttons, examples, strict=True):

        async def fill(values: dict[str, Any] = values) -> list[Any]:
            return [values.get(name, "") for name in names]

        example.click(fill, outputs=fields, show_progress="hidden", api_visibility="private").then(
            ask, inputs=fields, **events
        )


def explore_tab(service: "RowService") -> None:
    own_title, own = own_subject(service.model.data_name)

    def columns_of(subject: pictures.Subject) -> list[str]:
        return [column.name for column in subject.columns]

    async def subject(path: str | None, target: str | None) -> pictures.Subject:
        if path is None:
            return own
        try:
            return await asyncio.to_thread(subject_at, path, None if target in (None, NONE) else target)
        except UserError as error:
            raise shown_error(error, path) from None

    async def opened(path: str | None) -> tuple[Any, ...]:
        made = await subject(path, None)
        names = columns_of(made)
        first, second = (names[0], NONE) if path else ("Sex", "Pclass")
        targets = [NONE, *names] if path else [own.target or NONE]
        return (
            gr.Dropdown(choices=names, value=first), gr.Dropdown(choices=[NONE, *names], value=second),
            gr.Dropdown(choices=targets, value=targets[0], interactive=bool(path)),
            await draw(path, targets[0], first, second), gr.File(value=None, visible=False),
        )  # fmt: skip

    async def draw(path: str | None, target: str | None, first: str, second: str) -> str:
        made = await subject(path, target)
        names = columns_of(made)
        if first not in names:
            return "<p class='note'>The target is not among the columns to look at. · 目标列不能同时作为查看的列。</p>"
        return await asyncio.to_thread(picture, made, first, second if second in names else NONE)

    async def whole_report(path: str | None, target: str | None) -> gr.File:
        made = await subject(path, target)
        name = own_title if path is None else Path(path).name
        content = await asyncio.to_thread(report_page.render, made, name)
        return gr.File(value=written("report.html", content.encode()), visible=True)

    first, second = ("Sex", "Pclass") if {"Sex", "Pclass"} <= set(columns_of(own)) else (columns_of(own)[0], NONE)
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            upload = gr.File(label="Your own CSV · 上传自己的 CSV", file_types=[".csv"], height=120, elem_id="own-csv")
            x = gr.Dropdown(columns_of(own), value=first, label="Column · 列", elem_id="explore-x")
            y = gr.Dropdown([NONE, *columns_of(own)], value=second, label="Against · 对比列", elem_id="explore-y")
            target = gr.Dropdown([own.target or NONE], value=own.target, label="Target · 目标列", interactive=False)
        with gr.Column(scale=2, min_width=300):
            shown = gr.HTML(picture(own, first, second), elem_id="picture", apply_default_css=False, css_template=CSS)
            gr.Markdown(f"{html.escape(own_title)} · {len(own.frame):,} rows · 行", elem_id="own-title")
            make = gr.Button("Make the whole report · 生成完整报告", elem_id="make-report")
            file = gr.File(label="Report · 报告", interactive=False, visible=False, elem_id="report-file")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    upload.change(opened, inputs=upload, outputs=[x, y, target, shown, file], **quiet)
    for control in (x, y, target):
        control.input(draw, inputs=[upload, target, x, y], outputs=shown, **quiet)
    make.click(whole_report, inputs=[upload, target], outputs=file, show_progress="minimal", api_visibility="private")


def picture(subject: pictures.Subject, first: str, second: str) -> str:
    """Draws one column, or two against each other, as inline SVG."""
    by_target = pictures.by_target(subject, first) or ""
    if second in (NONE, first):
        return f"<figure>{pictures.distribution(subject, first)}{by_target}</figure>"
    return f"<figure>{pictures.two_columns(subject, first, second)}{by_target}</figure>"


def predictions(service: "RowService", frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the most probable class of each row, and the probability of every class."""
    probabilities = service.model(as_arrays(frame, service.columns))["probabilities"]
    labels = np.array(service.model.labels)
    answers = pd.DataFrame({"answer": labels[probabilities.argmax(axis=1)]})
    for place, label in enumerate(labels):
        answers[f"P({label})"] = probabilities[:, place].round(4)
    return answers
