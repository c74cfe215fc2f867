"""Writes pictures as a video that browsers play: H.264 in MP4, each frame at its own time."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from yolo_detector.letterbox import resize, scaled_size

TIME_BASE = Fraction(1, 90_000)
"""Unit of the timestamps, in seconds: that of MPEG, in which the usual frame rates are whole numbers."""
LONGEST = 1920
"""Pixels of the longer side; larger pictures are shrunk."""


class VideoWriter:
    """Takes the frames of one video in order. The file is there, whole, once it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._last = -1

    def add(self, image: np.ndarray, time: float) -> None:
        """Adds a frame, uint8 [height, width, 3], of the size of the first, at this second."""
        pixels = _even(_shrunk(image))
        height, width = pixels.shape[:2]
        if self._container is None or self._stream is None:
            self._container = av.open(self.path, "w", format="mp4", options={"movflags": "+faststart"})
            self._stream = self._container.add_stream("h264", rate=30, options={"preset": "veryfast", "crf": "22"})
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.codec_context.time_base = TIME_BASE
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._last = max(round(time / TIME_BASE), self._last + 1)
        frame.pts, frame.time_base = self._last, TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Ends the file; there is none if no frame was added."""
        if self._container is not None and self._stream is not None:
            try:
                self._container.mux(self._stream.encode(None))
            finally:
                self._container.close()
                self._container = None


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    if max(width, height) <= LONGEST:
        return pixels
    return resize(pixels, *scaled_size(width, height, LONGEST))


def _even(pixels: np.ndarray) -> np.ndarray:
    """Repeats the last row or column where their number is odd, since colors are stored for two by two pixels."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else pixels
