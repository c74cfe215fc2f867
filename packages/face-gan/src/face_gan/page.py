"""The page: draw faces by seed, walk from one to another, mix two, turn the directions of the latent space."""

import base64
import io
import random
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.serving.service import PagePredict
from dlcommon.runtime.serving.theme import page_frame
from PIL import Image
from pydantic import ValidationError

from face_gan.latents import COMPONENTS
from face_gan.nearest import TrainingFaces

if TYPE_CHECKING:
    from face_gan.service import Drawing, Faces, FaceService

CSS = """
.faces img { width: 100%; max-width: 36rem; display: block; margin: 0 auto; border-radius: .5rem; }
.faces img.one { max-width: 18rem; }
.faces { min-height: 4rem; }
"""
EMPTY = '<div class="faces"></div>'
LARGEST = 2**31 - 1
"""Seeds that the page draws at random; larger ones can be typed in requests."""
FRAMES, MILLISECONDS = 32, 60
"""Of the animation of a walk, which goes there and back."""
SHOWN_DIRECTIONS = 8


def image_tag(content: bytes, media: str = "image/png", one: bool = False) -> str:
    """Renders a picture's bytes as HTML."""
    data = base64.b64encode(content).decode()
    return f'<div class="faces"><img class="{"one" if one else ""}" src="data:{media};base64,{data}" alt=""></div>'


def animation(pictures: list[bytes]) -> bytes:
    """Joins PNG files into a WebP that plays there and back for ever."""
    frames = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    frames += frames[-2:0:-1]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0, quality=85)
    return file.getvalue()


def build_page(
    title: LocalizedText, summary: LocalizedText, service: "FaceService", predict: "PagePredict[Faces, Drawing]"
) -> gr.Blocks:
    training = TrainingFaces.of(service.model)

    async def drawn(**fields: Any) -> "Drawing":
        try:
            item = service.item.model_validate({name: value for name, value in fields.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            raise gr.Error(f"{first['loc'][0]}: {first['msg']}", title="", print_exception=False) from None
        return await predict(item)

    async def draw(seed: float, count: float, truncation: float) -> str:
        return image_tag((await drawn(seed=seed, count=count, truncation=truncation)).picture)

    async def draw_others(count: float, truncation: float) -> tuple[int, str]:
        seed = random.randrange(LARGEST)
        return seed, await draw(seed, count, truncation)

    async def walk(seed: float, to_seed: float, share: float, truncation: float) -> str:
        fields = {"seed": seed, "to_seed": to_seed, "share": share, "truncation": truncation}
        return image_tag((await drawn(**fields)).picture, one=True)

    async def animate(seed: float, to_seed: float, truncation: float) -> str:
        fields = {"seed": seed, "to_seed": to_seed, "truncation": truncation}
        answer = await drawn(**fields, count=FRAMES, separate=True)
        return image_tag(animation(answer.pictures), "image/webp", one=True)

    async def mix(seed: float, mix_seed: float, mix_from: float, truncation: float) -> str:
        fields = {"seed": seed, "mix_seed": mix_seed, "mix_from": mix_from, "truncation": truncation}
        return image_tag((await drawn(**fields)).picture, one=True)

    async def turn(seed: float, truncation: float, *components: float) -> str:
        answer = await drawn(seed=seed, truncation=truncation, components=list(components))
        return image_tag(answer.picture, one=True)

    async def nearest(seed: float, truncation: float) -> str:
        assert training is not None
        answer = await drawn(seed=seed, truncation=truncation)
        face = np.asarray(Image.open(io.BytesIO(answer.picture)).convert("RGB"))
        return image_tag(training.beside(face), one=True)

    def seed_field(label: str, value: int, name: str) -> gr.Number:
        return gr.Number(value, label=label, precision=0, elem_id=name)

    quick: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
    with page_frame(title, summary, service.model) as page:
        gr.HTML(f"<style>{CSS}</style>", padding=False)
        truncation = gr.Slider(
            0, 1, 0.7, step=0.05, elem_id="truncation",
            label="Truncation: typical … varied · 截断：典型 … 多样",
        )  # fmt: skip
        with gr.Tab("Draw · 生成"):
            with gr.Row():
                seed = seed_field("Seed of the first · 第一张的种子", 1, "seed")
                count = gr.Slider(1, 36, 16, step=1, label="Faces · 张数", elem_id="count")
            with gr.Row():
                start = gr.Button("Draw · 生成", elem_id="draw")
                others = gr.Button("Others · 换一批", variant="primary", elem_id="others")
            faces = gr.HTML(EMPTY, padding=False, elem_id="faces")
            start.click(draw, [seed, count, truncation], faces, **quick)
            others.click(draw_others, [count, truncation], [seed, faces], **quick)
            page.load(draw, [seed, count, truncation], faces, show_progress="hidden")
        with gr.Tab("Walk · 渐变"):
            with gr.Row():
                first = seed_field("From seed · 起点种子", 1, "from")
                second = seed_field("To seed · 终点种子", 2, "to")
            share = gr.Slider(0, 1, 0.5, step=0.02, label="On the way · 路程", elem_id="share")
            play = gr.Button("Animate · 播放", variant="primary", elem_id="animate")
            walked = gr.HTML(EMPTY, padding=False, elem_id="walked")
            for part in (first, second, share):
                part.input(walk, [first, second, share, truncation], walked, **quick)
            play.click(animate, [first, second, truncation], walked, show_progress="minimal")
        if service.latents.blocks > 1:
            with gr.Tab("Mix · 混合"):
                with gr.Row():
                    coarse = seed_field("Shape from seed · 轮廓取自", 1, "coarse")
                    fine = seed_field("Details and colours from seed · 细节与颜色取自", 2, "fine")
                boundary = gr.Slider(
                    1, service.latents.blocks - 1, service.latents.blocks // 2, step=1, elem_id="boundary",
                    label="Details begin at block · 细节起始层",
                )  # fmt: skip
                mixed = gr.HTML(EMPTY, padding=False, elem_id="mixed")
                for part in (coarse, fine, boundary):
                    part.input(mix, [coarse, fine, boundary, truncation], mixed, **quick)
        with gr.Tab("Directions · 特征方向"):
            gr.Markdown(
                "The directions in which faces differ most, in standard deviations; the network found them, nobody "
                "named them. · 人脸变化最大的方向，以标准差计；由网络自行得出，没有人为命名。"
            )
            with gr.Row():
                with gr.Column(min_width=280):
                    turned_seed = seed_field("Seed · 种子", 1, "turned-seed")
                    sliders = [
                        gr.Slider(-4, 4, 0, step=0.25, label=f"Direction {n} · 方向 {n}", elem_id=f"direction-{n}")
                        for n in range(1, min(SHOWN_DIRECTIONS, COMPONENTS) + 1)
                    ]
                    reset = gr.Button("Reset · 复位", elem_id="reset")
                turned = gr.HTML(EMPTY, padding=False, elem_id="turned")
            numbers: list[gr.Number | gr.Slider] = [turned_seed, *sliders]
            for number in numbers:
                number.change(turn, [turned_seed, truncation, *sliders], turned, **quick)
            reset.click(lambda: [0] * len(sliders), None, sliders, show_progress="hidden")
        if training is not None:
            with gr.Tab("Nearest training face · 最近的训练图"):
                gr.Markdown(
                    "The drawn face, and the training picture that is nearest in colours of 16×16 pixels: a copy would "
                    "look the same. · 生成的脸，与训练集中颜色最接近的一张（按 16×16 像素比较）：若是照抄，两者会一样。"
                )
                copied_seed = seed_field("Seed · 种子", 1, "copied-seed")
                compare = gr.Button("Compare · 比较", variant="primary", elem_id="compare")
                beside = gr.HTML(EMPTY, padding=False, elem_id="beside")
                compare.click(nearest, [copied_seed, truncation], beside, show_progress="minimal")
    return page
