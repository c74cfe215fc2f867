"""The service: finds and counts the objects in pictures, and in the frames of videos."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, ClassVar

import numpy as np
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.images import SUFFIXES as PICTURES
from dlcommon.runtime.serving.images import Base64Image, ImageLimits, decode_image
from dlcommon.runtime.serving.media import encode_png
from dlcommon.runtime.serving.service import BatchedService, Item
from pydantic import Field

from yolo_detector.detections import OVERLAP, detections_of
from yolo_detector.examples import scene
from yolo_detector.findings import Findings
from yolo_detector.letterbox import Letterbox, letterbox
from yolo_detector.slicing import candidates, cut, merge, no_tiles
from yolo_detector.video import SUFFIXES as VIDEOS
from yolo_detector.video import VideoLimits, frames, is_video
from yolo_detector.video_writer import VideoWriter

CONFIDENCE, LEAST_CONFIDENCE = 0.25, 0.01
AT_ONCE = 16
"""Pictures or tiles that go through the model together."""


class Picture(Item):
    """A picture of any size, and what counts as found."""

    image: Base64Image
    confidence: Annotated[float, Field(ge=LEAST_CONFIDENCE, le=1)] | None = Field(
        None, description="Score above which an object counts; by default the one that suits the model."
    )
    iou: Annotated[float, Field(ge=0, le=1)] = Field(
        OVERLAP, description="Greatest overlap (intersection over union) of two objects of one class."
    )
    slices: bool = Field(
        False, description="Whether the picture is looked at in overlapping tiles too: for small objects in large ones."
    )
    annotated: bool = Field(False, description="Whether the answer holds the picture with boxes drawn on it.")
    time: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Of a frame: seconds from the start of its video; handed back."
    )


class DetectorService(BatchedService[Picture, Findings]):
    item = Picture
    answer = Findings
    example: ClassVar = {"image": base64.b64encode(encode_png(scene(3))).decode()}
    upload = "image"
    suffixes: ClassVar[Sequence[str]] = (*PICTURES, *VIDEOS)
    part = "frame"
    video_limits = VideoLimits()
    """Of the videos that `predict` reads."""

    def __init__(self, model: OnnxModel) -> None:
        super().__init__(model)
        self.side = int(model.metadata["image_size"])
        self.confidence = float(model.metadata.get("confidence", CONFIDENCE))

    def prepare(self, item: Picture) -> dict[str, np.ndarray]:
        image = decode_image(item.image, self.image_limits)
        whole, fitted = letterbox(image, self.side)
        tiles = cut(image, self.side) if item.slices else no_tiles(self.side)
        return {
            "images": whole,
            "confidence": np.asarray(self.confidence if item.confidence is None else item.confidence, np.float32),
            "iou": np.asarray(item.iou, np.float32),
            "fitted": np.array(astuple(fitted), np.float64),
            "tiles": tiles.images,
            "corners": tiles.corners,
            "tiled_size": tiles.size,
        }

    def run(self, model: OnnxModel, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Looks at pictures, [batch, height, width, 3], and at their tiles, [batch, tiles, side, side, 3]."""
        images, tiles = arrays["images"], arrays["tiles"]
        batch, count = tiles.shape[:2]
        rows = detect(model, images, arrays["confidence"], arrays["iou"])
        of_tiles = np.zeros((batch, 0, *rows.shape[1:]), np.float32)
        if count:
            thresholds = (np.repeat(arrays[name], count) for name in ("confidence", "iou"))
            flat = detect(model, tiles.reshape(-1, *tiles.shape[2:]), *thresholds)
            of_tiles = flat.reshape(batch, count, *rows.shape[1:])
        geometry = {name: arrays[name] for name in ("fitted", "corners", "tiled_size")}
        return {"rows": rows, "rows_of_tiles": of_tiles, **geometry}

    def answer_for(self, item: Picture, outputs: dict[str, np.ndarray]) -> Findings:
        scale, *rest = outputs["fitted"].tolist()
        fitted = Letterbox(scale, *(int(number) for number in rest))
        found = detections_of(outputs["rows"], fitted)
        tiles = len(outputs["corners"])
        if tiles:
            size = outputs["tiled_size"]
            shrunk = np.array([fitted.width, fitted.height]) / size
            found = merge(candidates(found, outputs["rows_of_tiles"], outputs["corners"], self.side, size, shrunk))
        findings = Findings.of(found, self.model.labels, (fitted.width, fitted.height), tiles, item.time)
        if item.annotated:
            drawn = findings.drawn_on(decode_image(item.image, self.image_limits))
            findings.annotated_picture = encode_png(drawn)
        return findings

    def cells(self, answer: Findings) -> dict[str, Any]:
        """Returns the counts, and the detections in JSON."""
        return {
            "time": answer.time,
            **{f"count.{label}": count for label, count in answer.counts.items()},
            "width": answer.width,
            "height": answer.height,
            "detections": "[" + ", ".join(each.model_dump_json() for each in answer.detections) + "]",
        }

    def files(self, item: Picture, answer: Findings) -> dict[str, bytes]:
        """Returns the annotated picture, and its boxes as a YOLO label file, which can be trained on."""
        drawn = answer.drawn_on(decode_image(item.image, self.image_limits))
        return {".png": encode_png(drawn), ".txt": answer.yolo_rows().encode()}

    def parts(self, file: BinaryIO, head: bytes) -> Iterator[dict[str, Any]] | None:
        """Returns the frames of a video; None for a file that is none."""
        if not is_video(head):
            return None
        return ({"image": frame.content, "time": frame.time} for frame in frames(file, self.video_limits))

    def joint_file(self, stem: Path) -> "AnnotatedFrames":
        """Returns what annotates a video's frames and joins them into a video again."""
        return AnnotatedFrames(VideoWriter(stem.with_name(f"{stem.name}.mp4")), self.image_limits)


@dataclass(frozen=True)
class AnnotatedFrames:
    """Writes the frames of a video with what was found in them."""

    video: VideoWriter
    limits: ImageLimits

    @property
    def path(self) -> Path:
        return self.video.path

    def write(self, item: Picture, answer: Findings) -> None:
        self.video.add(answer.drawn_on(decode_image(item.image, self.limits)), answer.time or 0.0)

    def close(self) -> None:
        self.video.close()


def detect(model: OnnxModel, images: np.ndarray, confidence: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """Runs the model, in whose batches the largest IoU counts for all, so that each picture's own one does.

    Args:
        images: uint8 [pictures, height, width, 3].
        confidence: float32 [pictures].
        iou: float32 [pictures].

    Returns:
        float32 [pictures, 300, 6]: left, top, right, bottom, score and class; score 0 is padding.
    """
    order = np.argsort(iou, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(iou[order])) + 1)
    batches = [group[start : start + AT_ONCE] for group in groups for start in range(0, len(group), AT_ONCE)]
    inputs = {"images": images, "confidence": confidence, "iou": iou}
    found = [model({name: array[batch] for name, array in inputs.items()})["detections"] for batch in batches]
    rows = np.concatenate(found)
    rows[order] = rows.copy()
    return rows
