"""The page: a board to draw on; the digit, what the network saw and ten bars beside it."""

import base64
import io
from pathlib import Path

import gradio as gr
import numpy as np
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.serving.service import PagePredict
from dlcommon.runtime.serving.theme import page_frame
from PIL import Image
from pydantic import ValidationError

from mnist_classifier.service import Digit, DigitService, Reading

PAGE = Path(__file__).parent / "page"

NAMES = {
    "0": LocalizedText("zero", "零"),
    "1": LocalizedText("one", "一"),
    "2": LocalizedText("two", "二"),
    "3": LocalizedText("three", "三"),
    "4": LocalizedText("four", "四"),
    "5": LocalizedText("five", "五"),
    "6": LocalizedText("six", "六"),
    "7": LocalizedText("seven", "七"),
    "8": LocalizedText("eight", "八"),
    "9": LocalizedText("nine", "九"),
}

EXAMPLES = {
    "2": "M 30 32 C 34 14 70 14 70 36 C 70 52 44 66 28 82 L 74 82",
    "4": "M 56 14 L 24 58 L 76 58 M 62 38 L 60 88",
    "5": "M 70 16 L 38 16 L 34 46 C 60 36 76 52 68 70 C 60 88 36 86 28 74",
    "8": "M 64 24 C 52 8 30 20 38 36 C 46 50 70 54 68 72 C 64 92 30 88 34 68 C 38 52 70 42 64 24",
    "9": "M 68 32 C 60 12 34 16 34 36 C 34 56 62 54 68 32 C 68 54 66 72 60 90",
}
"""Digits as strokes on a board of 100×100 (SVG paths)."""


def as_picture(seen: list[list[int]]) -> str:
    """Encodes pixels as a data URL of a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(seen, dtype=np.uint8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def shown(reading: Reading | None, labels: list[str]) -> str:
    """Renders the answer's half of the page; its empty form before there is a digit."""
    probabilities = reading.probabilities if reading else dict.fromkeys(labels, 0.0)
    bars = "".join(
        f'<li class="{"best" if reading and label == reading.digit else ""}"><b>{label}</b>'
        f'<span class="bar"><i style="width:{100 * value:.1f}%"></i></span>'
        f"<span>{f'{100 * value:.1f} %' if reading else ''}</span></li>"
        for label, value in probabilities.items()
    )
    digit, name, sure = "?", "Draw a digit · 请写一个数字", ""
    picture = ""
    if reading:
        digit, name = reading.digit, str(NAMES.get(reading.digit, ""))
        sure = f"{100 * probabilities[digit]:.1f} %"
        picture = f'<img src="{as_picture(reading.seen)}" alt="28 × 28">'
    return (
        f'<div class="top"><div class="digit">{digit}</div><div class="name">{name}<strong>{sure}</strong></div>'
        f'<figure><div class="seen">{picture}</div><figcaption>Network\'s input · 网络所见</figcaption></figure></div>'
        f'<ol aria-label="Probabilities · 概率">{bars}</ol>'
    )


def build_page(
    title: LocalizedText, summary: LocalizedText, service: DigitService, predict: PagePredict[Digit, Reading]
) -> gr.Blocks:
    model = service.model

    async def read(drawing: str | None) -> str:
        if not drawing:
            return shown(None, model.labels)
        try:
            digit = Digit.model_validate({"image": drawing})
        except ValidationError as error:
            raise gr.Error(error.errors()[0]["msg"], title="", print_exception=False) from None
        return shown(await predict(digit), model.labels)

    buttons = "".join(
        f'<button type="button" class="example" data-strokes="{strokes}" aria-label="{NAMES[label]}">'
        f'<svg viewBox="0 0 100 100"><path d="{strokes}"/></svg></button>'
        for label, strokes in EXAMPLES.items()
    )
    css = (PAGE / "page.css").read_text(encoding="utf-8")
    with page_frame(title, summary, model) as page:
        with gr.Row():
            with gr.Column(min_width=300):
                board = gr.HTML(
                    "", elem_id="board", apply_default_css=False, css_template=css,
                    html_template=(PAGE / "board.html").read_text(encoding="utf-8").replace("@examples", buttons),
                    js_on_load=(PAGE / "board.js").read_text(encoding="utf-8"),
                )  # fmt: skip
            with gr.Column(min_width=300):
                answer = gr.HTML(shown(None, model.labels), elem_id="answer", apply_default_css=False, css_template=css)
        board.input(
            read, inputs=board, outputs=answer, show_progress="hidden", trigger_mode="always_last",
            api_visibility="private",
        )  # fmt: skip
    return page
