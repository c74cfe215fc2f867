"""Videos: what is read of whole ones, and how each fault is named."""

import io
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from dlcommon.runtime.errors import InvalidInputError
from yolo_detector.video import Frame, VideoLimits, frames, is_video
from yolo_detector.video_writer import VideoWriter

FORMS = {"mp4": "h264", "mov": "h264", "matroska": "h264", "webm": "libvpx-vp9"}
UNIT = Fraction(1, 90_000)
LIMITS = VideoLimits()


def recorded(
    times: Sequence[float], size: tuple[int, int] = (64, 48), form: str = "mp4", rotation: int = 0, noise: bool = False
) -> bytes:
    """Records a gray video with a red corner at the top left, in memory."""
    file, draws = io.BytesIO(), np.random.default_rng(0)
    with av.open(file, "w", format=form) as container:
        stream: Any = container.add_stream(FORMS[form], rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = UNIT
        if rotation:
            stream.set_display_rotation(rotation)
        for time in times:
            pixels = np.full((size[1], size[0], 3), 100, np.uint8)
            if noise:
                pixels = draws.integers(0, 255, pixels.shape, dtype=np.uint8)
            pixels[: size[1] // 3, : size[0] // 3] = (250, 0, 0)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(time / UNIT), UNIT
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def sound_only(form: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=48_000)
        for start in range(0, 9_600, 960):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 48_000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def read(
    content: bytes, limits: VideoLimits | None = None, rate: float | None = None
) -> list[tuple[float, np.ndarray]]:
    given = frames(io.BytesIO(content), limits or VideoLimits(), rate)
    return [(frame.time, frame.image) for frame in given]


@pytest.mark.parametrize("form", FORMS)
def test_frames_come_with_their_own_times(form: str) -> None:
    times = [0.0, 0.04, 0.5, 0.52, 1.9]  # of a variable rate
    content = recorded(times, form=form)
    assert is_video(content[:12])
    found = read(content)
    assert [time for time, _ in found] == pytest.approx(times, abs=1e-3)
    for _, image in found:
        assert image.shape == (48, 64, 3)
        assert image[4, 4, 0] > 180 > 140 > image[40, 50, 0]


def test_avi_is_read() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    assert is_video(file.getvalue()[:12])
    assert [time for time, _ in read(file.getvalue())] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_a_lower_rate_passes_frames_over() -> None:
    content = recorded([number / 25 for number in range(25)])
    assert [time for time, _ in read(content, rate=5)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert len(read(content, rate=60)) == 25


@pytest.mark.parametrize(("rotation", "corner"), [(90, (-4, 4)), (-90, (4, -4)), (180, (-4, -4))])
def test_a_turned_video_is_upright(rotation: int, corner: tuple[int, int]) -> None:
    """Its top left corner is red; turned by 90 degrees counterclockwise, it is the bottom left."""
    ((_, image),) = read(recorded([0.0], rotation=rotation))
    assert image.shape == ((48, 64, 3) if rotation == 180 else (64, 48, 3))
    red = (image[..., 0] > 180) & (image[..., 1] < 60)
    assert red[corner]
    assert red.mean() == pytest.approx(1 / 9, abs=0.03)


def flipped_bits(content: bytes) -> bytes:
    damaged, draws = bytearray(content), random.Random(0)
    for _ in range(300):
        damaged[draws.randrange(len(content) // 3, len(content))] ^= 0xFF
    return bytes(damaged)


LONG = [number / 25 for number in range(100)]
FAULTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "no frames": (lambda: recorded([]), "holds no|damaged"),
    "only sound": (lambda: sound_only("mp4", "aac"), "only sound"),
    "only sound in a WebM": (lambda: sound_only("webm", "libopus"), "only sound"),
    "an MP4 that is cut off": (lambda: recorded(LONG)[:-300], "damaged or cut off"),
    "an MKV that is cut off": (
        lambda: recorded(LONG, form="matroska", noise=True)[:-60_000],
        r"damaged or cut off after \d+ frames",
    ),
    "flipped bits": (lambda: flipped_bits(recorded(LONG, form="matroska", noise=True)), "damaged or cut off after"),
    "a header and nothing else": (lambda: recorded(LONG)[:32], "damaged or cut off"),
    "noise behind a signature": (lambda: b"\x00\x00\x00\x18ftypmp42" + random.Random(1).randbytes(5_000), "damaged"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str) -> None:
    make, said = FAULTS[fault]
    with pytest.raises(InvalidInputError, match=said):
        read(make())


def test_frames_before_a_fault_are_kept() -> None:
    content = recorded(LONG, form="matroska", noise=True)[:-60_000]
    taken: list[Frame] = []
    with pytest.raises(InvalidInputError, match="after") as raised:
        taken.extend(frames(io.BytesIO(content), VideoLimits()))
    assert len(taken) > 10
    assert f"after {len(taken)} frames" in str(raised.value)


def declared(content: bytes, width: int, height: int) -> bytes:
    """Makes an MP4's header declare another size."""
    old = (64).to_bytes(2) + (48).to_bytes(2)
    assert old in content
    return content.replace(old, width.to_bytes(2) + height.to_bytes(2))


BOMBS: dict[str, tuple[Callable[[], bytes], VideoLimits, str]] = {
    "hours between frames": (lambda: recorded([0.0, 1.0, 7.0]), VideoLimits(max_seconds=5), "longer than 5 s"),
    "frames": (lambda: recorded(LONG), VideoLimits(max_frames=40), "more than 40 frames"),
    "pixels": (lambda: recorded([0.0], size=(4096, 2560)), VideoLimits(), "4096 x 2560 pixels; at most 9,437,184"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused(bomb: str) -> None:
    make, limits, said = BOMBS[bomb]
    content = make()
    assert len(content) < 20_000
    with pytest.raises(InvalidInputError, match=said):
        read(content, limits)


def test_a_small_declared_size_and_length_are_not_believed() -> None:
    small = declared(recorded([0.0, 0.04], size=(64, 48)), 16, 16)
    for _, image in read(small):
        assert image.size <= 64 * 48 * 3
    with pytest.raises(InvalidInputError):
        read(declared(recorded([0.0]), 16, 16), VideoLimits(max_pixels=1_000))
    # Length: the header's is set to 1 ms, the frames go on.
    content = recorded([0.0, 3.0, 6.0], form="matroska")
    where = content.index(b"\x44\x89\x88") + 3  # Duration, 8 bytes of floating point
    short = content[:where] + np.array(1.0, ">f8").tobytes() + content[where + 8 :]
    with pytest.raises(InvalidInputError, match="longer than 5 s"):
        read(short, VideoLimits(max_seconds=5))


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\x00\x00\x00\x18ftypheic" + bytes(100),
        b"\xff\xd8\xff\xe0" + bytes(100),
        b"",
    ],
)
def test_playlists_and_pictures_are_no_videos(content: bytes) -> None:
    assert not is_video(content[:12])
    with pytest.raises(InvalidInputError):
        read(content)


def test_frames_are_decoded_one_after_the_other() -> None:
    reader = frames(io.BytesIO(recorded(LONG)), VideoLimits(max_frames=2))
    assert [next(reader).time for _ in range(2)] == pytest.approx([0, 0.04])
    with pytest.raises(InvalidInputError, match="more than 2 frames"):
        next(reader)


def test_a_written_video_has_the_times_and_pictures_that_it_was_given(tmp_path: Path) -> None:
    times = [0.0, 1001 / 30_000, 0.2, 0.7]
    writer = VideoWriter(tmp_path / "out.mp4")
    for number, time in enumerate(times):
        writer.add(np.full((49, 65, 3), 60 * number, np.uint8), time)
    writer.close()
    found = read((tmp_path / "out.mp4").read_bytes())
    assert [time for time, _ in found] == pytest.approx(times, abs=1 / 90_000)
    assert found[0][1].shape == (50, 66, 3), "both sides are even in H.264"
    assert [int(image.mean()) for _, image in found] == pytest.approx([0, 60, 120, 180], abs=3)
    with av.open(tmp_path / "out.mp4") as container:
        assert container.streams.video[0].codec_context.name in ("h264", "libx264")


def test_a_large_video_is_written_smaller(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4")
    writer.add(np.zeros((500, 4_000, 3), np.uint8), 0.0)
    writer.close()
    ((_, image),) = read((tmp_path / "out.mp4").read_bytes())
    assert image.shape == (240, 1_920, 3)


def test_a_writer_without_frames_leaves_nothing(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "out.mp4").close()
    assert not list(tmp_path.iterdir())
