"""The page: a picture in; five bars, the evidence in the picture and the time taken out."""

import time
from pathlib import Path

import gradio as gr
import numpy as np
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.evaluation.overlay import heat_overlay
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.serving.images import decode_image
from dlcommon.runtime.serving.picture_input import picture_input
from dlcommon.runtime.serving.service import PagePredict
from dlcommon.runtime.serving.theme import page_frame
from PIL import Image

from cifar10_resnet.pictures import EXAMPLES, network_input
from cifar10_resnet.service import Classification, Picture, PictureService

SHOWN = 320
"""Pixels of the square that the evidence is drawn on."""

CHINESE = {
    "airplane": "飞机", "automobile": "汽车", "bird": "鸟", "cat": "猫", "deer": "鹿",
    "dog": "狗", "frog": "青蛙", "horse": "马", "ship": "船", "truck": "卡车",
}  # fmt: skip


def shown_label(label: str) -> str:
    return f"{label} · {CHINESE[label]}" if label in CHINESE else label


def load(path: Path) -> np.ndarray:
    """Reads a picture as uint8 [height, width, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


async def chosen(event: gr.SelectData) -> np.ndarray:
    """Returns the example that was clicked."""
    return load(EXAMPLES[event.index])


def build_page(
    title: LocalizedText, summary: LocalizedText, service: PictureService, predict: PagePredict[Picture, Classification]
) -> gr.Blocks:
    async def classify(path: str | None) -> tuple[dict[str, float] | None, np.ndarray | None, str]:
        if path is None:
            return None, None, ""
        content = Path(path).read_bytes()
        started = time.perf_counter()
        answer = await predict(Picture(image=content))
        milliseconds = 1000 * (time.perf_counter() - started)
        try:
            seen = network_input(decode_image(content, service.image_limits))
        except InvalidInputError as error:
            raise gr.Error(str(error), title="", print_exception=False) from None
        bars = {shown_label(guess.label): guess.probability for guess in answer.top}
        return bars, heat_overlay(seen, np.asarray(answer.activation_map), SHOWN), f"{milliseconds:.0f} ms"

    with page_frame(title, summary, service.model) as page:
        with gr.Row():
            with gr.Column():
                picture = picture_input(
                    label="Drop or paste a picture · 拖放或粘贴图片",
                    sources=["upload", "clipboard", "webcam"], height=SHOWN,
                )  # fmt: skip
                # gr.Examples calls past the queue, which this server keeps closed; a gallery's event does not.
                examples = gr.Gallery(
                    [load(path) for path in EXAMPLES], label="Examples · 示例", show_label=False, elem_id="examples",
                    columns=len(EXAMPLES), rows=1, height=130, allow_preview=False, interactive=False, buttons=[],
                )  # fmt: skip
            with gr.Column():
                bars = gr.Label(num_top_classes=5, label="What it is · 识别结果", elem_id="answer")
                seen = gr.Image(
                    label="Evidence is bright · 亮处为依据",
                    interactive=False, height=SHOWN, buttons=[], elem_id="seen",
                )  # fmt: skip
                taken = gr.Textbox(label="Time taken · 用时", interactive=False)
        examples.select(chosen, outputs=picture, show_progress="hidden")
        picture.change(classify, inputs=picture, outputs=[bars, seen, taken], show_progress="minimal")
    return page
