"""The page: what is found in a picture, before a camera and in a video, with boxes, counts and files."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.serving.images import decode_image
from dlcommon.runtime.serving.media import encode_png
from dlcommon.runtime.serving.picture_input import camera_input, picture_input
from dlcommon.runtime.serving.service import PagePredict
from dlcommon.runtime.serving.theme import page_frame
from dlcommon.runtime.tables.page import written

from yolo_detector import exports
from yolo_detector.detections import OVERLAP
from yolo_detector.examples import large_scene, scene
from yolo_detector.overlay import CSS, EMPTY, FILTER, SHOWN_FROM, overlay
from yolo_detector.video_page import video_tab

if TYPE_CHECKING:
    from yolo_detector.findings import Findings
    from yolo_detector.service import DetectorService, Picture

EXAMPLES = (range(3, 4), range(7, 8), range(11, 12), range(20, 29))
"""Numbers of the scenes of each example: the last is large, for slices."""
CAMERA_SECONDS = 0.3
"""Between two pictures of the camera."""
CAMERA = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}}


def example(place: int) -> np.ndarray:
    """Draws an example."""
    return large_scene(EXAMPLES[place], columns=3) if len(EXAMPLES[place]) > 1 else scene(EXAMPLES[place].start)


async def chosen(event: gr.SelectData) -> np.ndarray:
    """Returns the example that was clicked."""
    return example(event.index)


def build_page(
    title: LocalizedText, summary: LocalizedText, service: "DetectorService", predict: "PagePredict[Picture, Findings]"
) -> gr.Blocks:
    item = service.item

    async def shown(content: Any, confidence: float, iou: float, slices: bool) -> str:
        asked = item(image=content, confidence=SHOWN_FROM, iou=iou, slices=slices)
        answer = await predict(asked)
        image = await asyncio.to_thread(decode_image, asked.image, service.image_limits)
        return await asyncio.to_thread(overlay, image, answer, confidence)

    async def look(path: str | None, confidence: float, iou: float, slices: bool) -> tuple[str, gr.File]:
        no_files = gr.File(value=None, visible=False)
        if path is None:
            return EMPTY, no_files
        return await shown(content_of(path), confidence, iou, slices), no_files

    async def see(frame: str | None, confidence: float, iou: float) -> str:
        return EMPTY if frame is None else await shown(frame, confidence, iou, False)

    async def files(path: str | None, confidence: float, iou: float, slices: bool) -> gr.File:
        if path is None:
            raise gr.Error("choose a picture first · 请先选择图片", title="", print_exception=False)
        asked = item(image=content_of(path), confidence=SHOWN_FROM, iou=iou, slices=slices)
        found = (await predict(asked)).above(confidence)  # just what the page shows
        image = await asyncio.to_thread(decode_image, asked.image, service.image_limits)
        contents = {
            "annotated.png": await asyncio.to_thread(lambda: encode_png(found.drawn_on(image))),
            "objects.csv": exports.objects_csv(found),
            "objects.json": exports.objects_json(found),
            "labels.txt": found.yolo_rows().encode(),
        }
        return gr.File(value=[written(name, content) for name, content in contents.items()], visible=True)

    with page_frame(title, summary, service.model) as page:
        gr.HTML(f"<style>{CSS}</style>", padding=False)
        with gr.Row():
            confidence = gr.Slider(
                SHOWN_FROM, 0.95, max(service.confidence, SHOWN_FROM), step=0.01, elem_id="confidence",
                label="Confidence at least · 最低置信度",
            )  # fmt: skip
            iou = gr.Slider(
                0.1, 0.95, OVERLAP, step=0.05, elem_id="iou", label="Overlap of two objects (IoU) at most · 最大重叠"
            )
        with gr.Tab("Picture · 图片"):
            slices = gr.Checkbox(
                False, elem_id="slices",
                label="Slices: look at a large picture in tiles as well · 切片：大图分块检测，找出小目标",
            )  # fmt: skip
            with gr.Row():
                with gr.Column(min_width=280):
                    picture = picture_input(
                        label="Drop or paste a picture · 拖放或粘贴图片", sources=["upload", "clipboard", "webcam"],
                        height=300,
                    )  # fmt: skip
                    examples = gr.Gallery(
                        [example(place) for place in range(len(EXAMPLES))], label="Examples · 示例", show_label=False,
                        elem_id="examples", columns=2, rows=2, height=300, allow_preview=False,
                        interactive=False, buttons=[],
                    )  # fmt: skip
                with gr.Column(min_width=280, scale=2):
                    found = gr.HTML(EMPTY, padding=False, elem_id="found")
                    make = gr.Button("Files: picture, CSV, JSON, YOLO · 生成文件", elem_id="make-files")
                    download = gr.File(
                        label="Download · 下载", interactive=False, visible=False, file_count="multiple",
                        elem_id="files",
                    )  # fmt: skip
        with gr.Tab("Camera · 摄像头"), gr.Row():
            camera = camera_input(
                label="Camera · 摄像头", height=300, elem_id="camera",
                webcam_options=gr.WebcamOptions(mirror=False, constraints=CAMERA),
            )  # fmt: skip
            seen = gr.HTML(EMPTY, padding=False, elem_id="seen")
        video_tab(service, predict, confidence, iou)
        examples.select(chosen, outputs=picture, show_progress="hidden")
        settings = [picture, confidence, iou, slices]
        for change in (picture.change, iou.release, slices.input):
            change(look, settings, [found, download], show_progress="minimal", trigger_mode="always_last")
        confidence.input(None, [confidence], None, js=FILTER)
        make.click(files, settings, download, show_progress="minimal", trigger_mode="once")
        camera.stream(
            see, [camera, confidence, iou], seen, stream_every=CAMERA_SECONDS, time_limit=600, show_progress="hidden",
            concurrency_limit=4,
        )  # fmt: skip
    return page


def content_of(path: str) -> bytes:
    """Reads an uploaded file, which the server deletes after a while."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        said = "the upload is no longer kept; choose the file again · 文件已过期，请重新选择"
        raise gr.Error(said, title="", print_exception=False) from None
