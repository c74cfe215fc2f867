"""The page: one text and what moved its answer, or many texts with a table, a chart and a file."""

import asyncio
import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.serving.service import PagePredict
from dlcommon.runtime.serving.theme import page_frame
from dlcommon.runtime.tables.page import shown_error, written

from sentiment_bert import colouring, many
from sentiment_bert.many import Judged, colour_of, label_of
from sentiment_bert.service import MAX_CHARACTERS, NEUTRAL_BELOW

if TYPE_CHECKING:
    from dlcommon.runtime.onnx_model import OnnxModel

    from sentiment_bert.service import JudgedText, SentimentService, Text

EXAMPLES = {
    "en": (
        "The story is slow, but the actors are wonderful. I loved the ending.",
        "It could have been a masterpiece.",
        "Not a single joke works, and it goes on for two and a half hours.",
        "An unexpected gem: funny, warm and never dull.",
    ),
    "zh": ("房间很干净，服务也很好。", "买来三天就坏了，客服也不理人。"),
}
CSS = (
    colouring.CSS
    + many.CSS
    + """
.verdict { display: flex; flex-wrap: wrap; align-items: baseline; gap: .75rem; margin-bottom: .5rem; }
.verdict b { font-size: 1.4rem; }
.legend mark { color: inherit; padding: 0 .4rem; border-radius: .25rem; }
"""
)
BY_LANGUAGE = ""
"""The choice that leaves the model to the text's language."""
TOGETHER = 16
"""Texts that are asked for at once."""


def described(name: str, model: "OnnxModel") -> str:
    """Labels a model in the choice: its data and network."""
    sample = " (sample data · 样例数据)" if model.data_is_builtin else ""
    return f"{model.data_name}{sample}, {model.metadata['network']} ({name})"


def verdict(answer: "JudgedText", labels: list[str]) -> str:
    """Draws the sentiment of the whole text, and the probability of each label."""
    colour = colour_of(answer.sentiment, labels)
    bars = "".join(
        f"<div><span>{html.escape(label_of(label))}</span><i style='width:{100 * share:.1f}%;"
        f"background:{colour_of(label, labels)}'></i><span>{share:.1%}</span></div>"
        for label, share in answer.probabilities.items()
    )
    return (
        f"<div class='verdict'><b style='color:{colour}'>{html.escape(label_of(answer.sentiment))}</b>"
        f"<span>confidence {answer.confidence:.0%} · 置信度</span></div><div class='shares'>{bars}</div>"
    )


def sentences(answer: "JudgedText") -> str:
    """Draws each sentence colored by what moved its answer; one scale for all, so that they can be compared."""
    words = [word for sentence in answer.sentences for word in sentence.words or ()]
    largest = max((abs(word.weight) for word in words), default=0.0)
    rows = []
    for sentence in answer.sentences:
        given = sentence.words or []
        first = given[0].start - (len(sentence.text) - len(sentence.text.lstrip())) if given else 0
        spans = [(word.start - first, word.start - first + len(word.text)) for word in given]
        text = colouring.coloured(sentence.text, spans, [word.weight for word in given], largest)
        rows.append(
            f"<div class='sentence'>{text}<span class='said'>{html.escape(label_of(sentence.sentiment))} "
            f"{sentence.confidence:.0%}</span></div>"
        )
    explained = {sentence.explained for sentence in answer.sentences}
    towards = label_of(explained.pop() or "") if len(explained) == 1 else "the sentence's label · 该句的标签"
    legend = (
        f"<p class='legend'><mark style='background:rgba({colouring.TOWARDS},.5)'>towards · 支持</mark> "
        f"<mark style='background:rgba({colouring.AGAINST},.5)'>against · 反对</mark> {html.escape(towards)}; "
        f"integrated gradients · 积分梯度</p>"
    )
    return f"<div class='coloured'>{''.join(rows)}</div>{legend}"


def build_page(
    title: LocalizedText,
    summary: LocalizedText,
    service: "SentimentService",
    predict: "PagePredict[Text, JudgedText]",
) -> gr.Blocks:
    item = service.item

    def labels_of(name: str) -> list[str]:
        return service.models[name or service.model.name].labels

    async def judge(text: str, neutral_below: float, any_language: bool, model: str) -> tuple[str, str]:
        asked = {"text": text, "neutral_below": neutral_below, "any_language": any_language, "model": model or None}
        answer = await predict(item.model_validate({**asked, "explain": True}))
        return verdict(answer, labels_of(answer.model)), sentences(answer)

    async def judge_one(line: int, text: str, options: dict[str, Any]) -> Judged:
        try:
            if len(text) > MAX_CHARACTERS:
                raise UserError(f"longer than {MAX_CHARACTERS:,} characters")
            answer = await predict(item.model_validate({"text": text, **options}))
        except (gr.Error, UserError) as refusal:
            return Judged(line, text, many.REFUSED, None, str(getattr(refusal, "message", refusal)))
        return Judged(line, text, answer.sentiment, answer.confidence)

    async def judge_many(
        pasted: str, path: str | None, column: str | None, neutral_below: float, any_language: bool, model: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 — gradio's own way
    ) -> tuple[str, str, gr.File]:  # fmt: skip
        try:
            if path is not None and column:
                texts = await asyncio.to_thread(many.texts_of_column, Path(path), column, gr.Info)
            else:
                texts = many.texts_of_lines(pasted)
        except UserError as error:
            raise shown_error(error, path) from None
        options = {"neutral_below": neutral_below, "any_language": any_language, "model": model or None}
        judged: list[Judged] = []
        for start in range(0, len(texts), TOGETHER):
            group = texts[start : start + TOGETHER]
            judged += await asyncio.gather(*(judge_one(line, text, options) for line, text in group))
            progress((len(judged), len(texts)), unit="texts")
        file = written("sentiments.csv", many.as_csv(judged))
        return many.chart(judged, labels_of(model)), many.table(judged), gr.File(value=file, visible=True)

    def choose_column(path: str | None) -> gr.Dropdown:
        if path is None:
            return gr.Dropdown([], value=None, visible=False)
        try:
            names = list(dict.fromkeys(many.columns_of(Path(path))))
        except UserError as error:
            raise shown_error(error, path) from None
        likely = next((name for name in names if name.lower() in ("text", "review", "sentence", "comment")), names[0])
        return gr.Dropdown(names, value=likely, visible=True)

    with page_frame(title, summary, service.model) as page:
        gr.HTML(f"<style>{CSS}</style>", padding=False)
        choices = [(described(name, one), name) for name, one in service.models.items()]
        if len(service.by_language) > 1:
            languages = ", ".join(service.by_language)
            choices.insert(0, (f"by the text's language ({languages}) · 按文字的语言", BY_LANGUAGE))
        model = gr.Dropdown(
            choices, value=choices[0][1], label="Model · 模型", elem_id="model", visible=len(choices) > 1
        )
        with gr.Accordion("Options · 选项", open=False):
            neutral = gr.Slider(
                0, 1, NEUTRAL_BELOW, step=0.05, label="Neutral below this confidence · 低于此置信度为中性"
            )
            anyway = gr.Checkbox(False, label="Judge other languages as well · 其他语言也判断")
        examples = [one for language in service.by_language for one in EXAMPLES.get(language, ())] or [""]
        with gr.Tab("One text · 一段文字"):
            text = gr.Textbox(
                value=examples[0], label="Text · 文本", lines=4, max_lines=12, max_length=MAX_CHARACTERS, elem_id="text"
            )
            start = gr.Button("Judge · 判断", variant="primary", elem_id="judge")
            said = gr.HTML("", padding=False, elem_id="verdict")
            moved = gr.HTML("", padding=False, elem_id="sentences")
            gr.Examples([[one] for one in examples], [text], label="Examples · 例句")
        with gr.Tab("Many texts · 多条文本"):
            with gr.Row():
                pasted = gr.Textbox(
                    label="One text a line · 每行一条", lines=6, max_lines=12, max_length=2_000_000, elem_id="pasted"
                )
                with gr.Column(min_width=220):
                    upload = gr.File(label="CSV, TSV", file_types=[".csv", ".tsv"], height=120, elem_id="texts-csv")
                    column = gr.Dropdown([], label="Column · 列", visible=False, elem_id="column")
            start_many = gr.Button("Judge all · 全部判断", variant="primary", elem_id="judge-all")
            shares = gr.HTML("", padding=False, elem_id="shares")
            listed = gr.HTML("", padding=False, elem_id="judged")
            download = gr.File(label="Download · 下载", interactive=False, visible=False, elem_id="download")
        options = [neutral, anyway, model]
        gr.on(
            [start.click, text.submit], judge, [text, *options], [said, moved], trigger_mode="once",
            show_progress="minimal",
        )  # fmt: skip
        upload.change(choose_column, [upload], [column], show_progress="hidden")
        start_many.click(
            judge_many, [pasted, upload, column, *options], [shares, listed, download], trigger_mode="once"
        )
    return page
