"""The page's tab for videos: frame after frame through the model; an annotated video and counts over time out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import gradio as gr
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.serving.service import PagePredict
from dlcommon.runtime.tables.page import written

from yolo_detector import exports
from yolo_detector.counts_chart import CSS, chart
from yolo_detector.examples import clip
from yolo_detector.video import KINDS, SUFFIXES, Frame, VideoLimits, frames, is_video
from yolo_detector.video_writer import VideoWriter

if TYPE_CHECKING:
    from yolo_detector.findings import Findings
    from yolo_detector.service import DetectorService, Picture

LIMITS = VideoLimits(max_seconds=60.0, max_frames=3600)
AT_ONCE = 6
"""Frames that go to the model together."""
VIDEOS_AT_ONCE = 2
Result = TypeVar("Result")


class VideoJob:
    """Reads one video and writes another, on one thread, where all of FFmpeg's work is done."""

    def __init__(self, source: Path, target: Path, limits: VideoLimits, rate: float) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="video")
        self._file: BinaryIO = source.open("rb")
        self._frames: Iterator[Frame] = frames(self._file, limits, rate)
        self._writer, self.target = VideoWriter(target), target
        self.ended: InvalidInputError | None = None
        """Why there are no further frames, if it is not the video's end."""

    async def read(self) -> list[Frame]:
        """Returns the next frames; none at the end, or where the video cannot be read further."""
        return await self._do(self._read)

    async def write(self, images: Sequence[Frame], found: "Sequence[Findings]") -> None:
        """Adds frames with what was found in them."""
        await self._do(lambda: self._write(images, found))

    async def finish(self) -> None:
        """Ends the written video."""
        await self._do(self._writer.close)

    def stop(self, keep: bool) -> None:
        """Ends the work after the step that it is in, and removes what was written unless it is kept."""

        def clean() -> None:
            try:
                self._writer.close()
            finally:
                self._frames.close()  # type: ignore[attr-defined]
                self._file.close()
                if not keep:
                    self.target.unlink(missing_ok=True)

        self._thread.submit(clean)
        self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _read(self) -> list[Frame]:
        taken: list[Frame] = []
        try:
            while len(taken) < AT_ONCE and (frame := next(self._frames, None)) is not None:
                taken.append(frame)
        except InvalidInputError as error:
            self.ended = error
        return taken

    def _write(self, images: Sequence[Frame], found: "Sequence[Findings]") -> None:
        for frame, findings in zip(images, found, strict=True):
            self._writer.add(findings.drawn_on(frame.image), frame.time)


def refused(message: str) -> gr.Error:
    return gr.Error(message, title="", print_exception=False)


def check_is_video(path: Path) -> None:
    """Checks by its first bytes that a file is a video.

    Raises:
        gr.Error: it is none.
    """
    with path.open("rb") as file:
        if not is_video(file.read(12)):
            raise refused(f"this is not a video in {KINDS} · 这不是支持的视频格式")


def video_tab(
    service: "DetectorService", predict: "PagePredict[Picture, Findings]", confidence: gr.Slider, iou: gr.Slider
) -> None:
    """Adds the tab to the page that is being built."""
    item = service.item

    async def count(
        path: str | None, confidence: float, iou: float, rate: float
    ) -> AsyncIterator[tuple[str, Any, Any, Any]]:
        if path is None or not Path(path).is_file():
            raise refused("choose a video first · 请先选择视频")
        check_is_video(Path(path))
        limits = VideoLimits(
            LIMITS.max_seconds, LIMITS.max_frames, min(LIMITS.max_pixels, service.image_limits.max_pixels)
        )
        job = VideoJob(Path(path), Path(written("annotated.mp4", b"")), limits, rate)
        seen: list[Findings] = []
        done = False
        try:
            while group := await job.read():
                asked = [item(image=one.content, confidence=confidence, iou=iou, time=one.time) for one in group]
                answers = await asyncio.gather(*(predict(one) for one in asked))
                await job.write(group, answers)
                seen += answers
                # Whoever has left the page is noticed here, and the work ends.
                yield progress(seen), gr.skip(), gr.skip(), gr.skip()
            if not seen:
                raise refused(str(job.ended))
            await job.finish()
            done = True
        finally:
            job.stop(keep=done)
        files = [
            written("counts.csv", exports.counts_csv(seen)),
            written("frames.json", exports.counts_json(seen)),
        ]
        note = f" {job.ended}" if job.ended else ""
        yield (
            progress(seen, "done · 完成" + note),
            gr.Video(value=str(job.target), visible=True),
            chart(seen),
            gr.File(value=files, visible=True),
        )

    with gr.Tab("Video · 视频"):
        gr.HTML(f"<style>{CSS}</style>", padding=False)
        with gr.Row():
            with gr.Column(min_width=280):
                upload = gr.File(
                    label=f"Video of at most {LIMITS.max_seconds:g} s ({KINDS}) · 短视频", file_types=list(SUFFIXES),
                    height=130, elem_id="video",
                )  # fmt: skip
                rate = gr.Slider(1, 60, 12, step=1, label="Frames of a second at most · 每秒最多帧数", elem_id="rate")
                with gr.Row():
                    start = gr.Button("Count · 计数", variant="primary", elem_id="count-video")
                    stop = gr.Button("Stop · 停止", elem_id="stop-video")
                    example = gr.Button("Example · 示例", elem_id="example-video")
                said = gr.HTML("", padding=False, elem_id="video-progress")
            with gr.Column(min_width=280, scale=2):
                shown = gr.Video(
                    label="Annotated · 标注视频", interactive=False, visible=False, elem_id="annotated-video", loop=True
                )  # fmt: skip
                counts = gr.HTML("", padding=False, elem_id="video-counts")
                download = gr.File(
                    label="Download · 下载", interactive=False, visible=False, file_count="multiple",
                    elem_id="video-files",
                )  # fmt: skip
        work = start.click(
            count, [upload, confidence, iou, rate], [said, shown, counts, download], show_progress="hidden",
            trigger_mode="once", concurrency_limit=VIDEOS_AT_ONCE,
        )  # fmt: skip
        stop.click(None, cancels=[work])
        example.click(lambda: str(clip(Path(written("cells.mp4", b"")))), None, upload, show_progress="minimal")


def progress(seen: "Sequence[Findings]", end: str = "") -> str:
    """Says how far it is, and what is in the newest frame."""
    newest = seen[-1]
    counted = ", ".join(f"{name} {count}" for name, count in newest.counts.items())
    return f'<p role="status">{newest.time or 0:.1f} s · {len(seen):,} frames · 帧 · {end or counted}</p>'
