"""Reads the frames of short videos from untrusted clients: one after the other, bounded by what is decoded."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from dlcommon.runtime.errors import InvalidInputError
from PIL import Image

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
"""Endings of the names of such files."""
KINDS = "MP4, MOV, WebM, MKV or AVI"
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # of which an MP4 or MOV file begins with one
_STILL_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis")  # pictures in the same container
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
"""Formats that name no other files or addresses, as playlists do."""
_FALLBACK_RATE = Fraction(25)


@dataclass(frozen=True)
class VideoLimits:
    """Bounds one video, whatever its header declares."""

    max_seconds: float = 3600.0
    max_frames: int = 108_000
    max_pixels: int = 4096 * 2304
    """Width times height of a frame."""


@dataclass(frozen=True)
class Frame:
    """One picture of a video."""

    image: np.ndarray
    """uint8 [height, width, 3], upright as the video's rotation says."""
    time: float
    """Seconds from the first frame."""

    @cached_property
    def content(self) -> bytes:
        """The picture as a JPEG file, nearly without loss."""
        file = io.BytesIO()
        Image.fromarray(self.image).save(file, "JPEG", quality=95, subsampling=0)
        return file.getvalue()


def is_video(head: bytes) -> bool:
    """Tells by the first 12 bytes of a file whether it is of a kind that `frames` reads."""
    if head[4:8] in _BOXES:
        return head[8:12] not in _STILL_BRANDS
    return head.startswith(b"\x1a\x45\xdf\xa3") or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def frames(file: BinaryIO, limits: VideoLimits, rate: float | None = None) -> Iterator[Frame]:
    """Yields the frames of a video as they are decoded, each with its own time, whether or not their rate varies.

    Args:
        file: read from its beginning.
        limits: hold for what is decoded, not only for what the header declares.
        rate: frames of a second at most; those between are passed over.

    Raises:
        InvalidInputError: before the first frame, or after some: there is no video, it is damaged, or it is too large.
    """
    seen = _Seen()
    try:
        options = {"format_whitelist": _DEMUXERS, "max_pixels": str(limits.max_pixels)}
        with av.open(file, "r", options=options, metadata_errors="replace") as container:
            stream = _video_stream(container, limits)
            for frame in _decoded(container, stream):
                seen.add(frame, stream)
                _check(seen, limits)
                if rate is None or seen.time >= seen.due - 1e-6:
                    seen.due = max(seen.due + 1 / rate, seen.time) if rate is not None else 0.0
                    yield Frame(_upright(frame, seen.size), seen.time)
            _check_end(seen, container, stream)
    except InvalidInputError:
        raise
    except Exception as error:  # FFmpeg's errors are of many classes
        raise InvalidInputError(_damaged(seen.count)) from error


@dataclass
class _Seen:
    """Keeps count of what was decoded."""

    count: int = 0
    first: int | None = None
    time: float = -1.0
    duration: float = 0.0
    """Seconds that the last frame says it is shown for."""
    due: float = 0.0
    """When the next frame is looked at."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the first frame."""

    def add(self, frame: VideoFrame, stream: VideoStream) -> None:
        base = frame.time_base or stream.time_base
        step = float(1 / (stream.average_rate or _FALLBACK_RATE))
        time = 0.0 if self.count == 0 else self.time + step  # where the file has no timestamps
        if frame.pts is not None and base:
            self.first = frame.pts if self.first is None else self.first
            time = float((frame.pts - self.first) * base)
        self.time = max(time, self.time + 0.001) if self.count else 0.0  # damaged ones may repeat or go back
        self.duration = float(frame.duration * base) if base and frame.duration else step
        self.size = self.size if self.count else (frame.width, frame.height)
        self.count += 1


def _video_stream(container: InputContainer, limits: VideoLimits) -> VideoStream:
    """Chooses the video's stream, whose decoder is held to the limits."""
    if not len(container.streams):
        raise InvalidInputError(_damaged(0))
    # The cover of a song is a video stream as well, of one picture.
    videos = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not videos:
        raise InvalidInputError("the file holds no video, only sound or text")
    stream = videos[0]
    if stream.codec_context is None:
        raise InvalidInputError(f"the video is compressed in a way that is not known here; convert it to {KINDS}")
    if stream.width * stream.height > limits.max_pixels:
        raise InvalidInputError(
            f"the video has {stream.width} x {stream.height} pixels; at most {limits.max_pixels:,} are accepted"
        )
    declared = container.duration / av.time_base if container.duration is not None else 0.0
    if declared > limits.max_seconds + 1:
        raise InvalidInputError(_too_long(limits))
    stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}  # the size may change on the way
    return stream


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise ValueError("a packet is cut off")
        for frame in packet.decode():
            if frame.is_corrupt:
                raise ValueError("a frame is damaged")
            yield frame


def _check(seen: _Seen, limits: VideoLimits) -> None:
    if seen.count > limits.max_frames:
        raise InvalidInputError(f"the video has more than {limits.max_frames:,} frames; cut it into shorter ones")
    if seen.time > limits.max_seconds:
        raise InvalidInputError(_too_long(limits))


def _check_end(seen: _Seen, container: InputContainer, stream: VideoStream) -> None:
    """Checks that the video ends where it says: some formats cut off anywhere end without an error."""
    if seen.count == 0:
        raise InvalidInputError("the video holds no frames")
    alone = len(container.streams) == 1  # else the sound may be what lasts longer
    if stream.duration is not None and stream.time_base:
        declared = float(stream.duration * stream.time_base)
    else:
        declared = container.duration / av.time_base if alone and container.duration is not None else 0.0
    end = seen.time + seen.duration
    if declared - end > max(0.5, 0.02 * declared, 2 * seen.duration) and stream.frames != seen.count:
        raise InvalidInputError(_damaged(seen.count))


def _upright(frame: VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """Converts a frame to uint8 [height, width, 3], of the first one's size and turned as the video is shown."""
    width, height = size
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def _too_long(limits: VideoLimits) -> str:
    return f"the video is longer than {limits.max_seconds:g} s; cut it into shorter ones"


def _damaged(frames: int) -> str:
    return f"the video is damaged or cut off after {frames:,} frames" if frames else "the video is damaged or cut off"
