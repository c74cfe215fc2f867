"""The page in a real browser, over a detector made by hand whose answers are known."""

import csv
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dlcommon.runtime.serving.media import encode_png
from dlcommon.testing.browser import DESKTOP, PHONE, check_no_sideways_scrolling, opened, screenshot
from dlcommon.testing.commands import script
from dlcommon.testing.server_process import ServerProcess, serving
from yolo_detector.capstone import CAPSTONE
from yolo_detector.square_detector import NAMES, write
from yolo_detector.video_writer import VideoWriter

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    model = write(tmp_path_factory.mktemp("model") / "squares.onnx")
    with serving([script(CAPSTONE.name), "serve", "--model", str(model)]) as process:
        yield process


def painted(*levels: int) -> np.ndarray:
    """Paints red squares of 32 pixels, one of each brightness, on gray: uint8 [320, 320, 3]."""
    image = np.full((320, 320, 3), 114, np.uint8)
    for place, level in enumerate(levels):
        image[64 * place : 64 * place + 32, :32] = (level, 0, 0)
    return image


def upload(page: "Page", path: Path) -> None:
    page.set_input_files("input[type=file][accept*=image]", str(path))


def wait_for_count(page: "Page", within: str, name: str, count: int) -> None:
    """Waits until the table of counts says so."""
    page.locator(f'{within} .count[data-of="{name}"]', has_text=re.compile(f"^{count}$")).wait_for()


def set_slider(page: "Page", name: str, value: float) -> None:
    page.locator(f"#{name} input[type=range]").fill(str(value))


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_picture_is_counted_and_the_slider_filters_without_the_server(
    server: ServerProcess, window: tuple[int, int], tmp_path: Path
) -> None:
    (tmp_path / "cells.png").write_bytes(encode_png(painted(255, 153, 51)))
    with opened(server.url, window, until="load") as page:
        upload(page, tmp_path / "cells.png")
        wait_for_count(page, "#found", NAMES[0], 2)
        assert page.locator("#found g:visible").count() == 2
        assert "红细胞" in page.locator("#found table").first.inner_text()
        screenshot(page, f"yolo-detector-{'phone' if window == PHONE else 'desktop'}", tmp_path)
        check_no_sideways_scrolling(page)
        page.context.set_offline(True)
        set_slider(page, "confidence", 0.1)
        wait_for_count(page, "#found", NAMES[0], 3)
        set_slider(page, "confidence", 0.8)
        wait_for_count(page, "#found", NAMES[0], 1)
        assert page.locator("#found g:visible").count() == 1
        page.context.set_offline(False)


def test_files_hold_what_is_shown(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "cells.png").write_bytes(encode_png(painted(255, 153, 51)))
    with opened(server.url, until="load") as page:
        upload(page, tmp_path / "cells.png")
        wait_for_count(page, "#found", NAMES[0], 2)
        set_slider(page, "confidence", 0.8)
        wait_for_count(page, "#found", NAMES[0], 1)
        page.locator("#make-files").click()
        links = page.locator("#files a[download]")
        links.nth(3).wait_for()
        saved = {}
        for place in range(links.count()):
            with page.expect_download() as download:
                links.nth(place).click()
            saved[download.value.suggested_filename] = download.value.path().read_bytes()
        assert set(saved) == {"annotated.png", "objects.csv", "objects.json", "labels.txt"}
        assert saved["labels.txt"] == b"0 0.050000 0.050000 0.100000 0.100000\n"
        assert json.loads(saved["objects.json"])["counts"] == {"RBC": 1, "WBC": 0, "Platelets": 0}
        rows = list(csv.DictReader(saved["objects.csv"].decode("utf-8-sig").splitlines()))
        assert [(row["class"], row["类别"]) for row in rows] == [("RBC", "红细胞")]


def test_examples_are_shown_and_slices_look_at_tiles(server: ServerProcess) -> None:
    with opened(server.url, until="load") as page:
        page.locator("#examples button").nth(3).click()
        page.locator("#found .shown img").wait_for()
        page.locator("#slices input").check()
        page.locator("#found").get_by_text("looked at in 12 tiles · 分 12 块检测").wait_for()


def test_the_page_goes_on_after_a_file_that_is_no_picture(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "fake.png").write_bytes(b"this is not a picture")
    with opened(server.url, until="load") as page:
        upload(page, tmp_path / "fake.png")
        page.get_by_text("this is not an image in PNG, JPEG").first.wait_for()
        page.locator("#examples button").nth(0).click()
        page.locator("#found .shown img").wait_for()


def test_a_camera_is_watched(server: ServerProcess) -> None:
    with opened(server.url, camera=True, until="load") as page:
        page.get_by_role("tab", name="Camera · 摄像头").click()
        page.locator("#camera").get_by_text("Click to Access Webcam").click()
        page.locator("#camera").get_by_text("Record").click()
        shown = page.locator("#seen .shown img")
        shown.wait_for()
        first = shown.get_attribute("src")
        page.wait_for_function("first => document.querySelector('#seen .shown img')?.src !== first", arg=first)
        size = page.evaluate("(i => [i.naturalWidth, i.naturalHeight])(document.querySelector('#seen .shown img'))")
        assert size == [640, 480]


def moving(path: Path, frames: int) -> Path:
    writer = VideoWriter(path)
    for number in range(frames):
        writer.add(painted(*[255] * (1 + number % 2)), number / 10)
    writer.close()
    return path


def open_video_tab(page: "Page") -> None:
    page.get_by_role("tab", name="Video · 视频").click()


def test_a_video_is_counted_and_plays(server: ServerProcess, tmp_path: Path) -> None:
    video = moving(tmp_path / "cells.mp4", 8)
    with opened(server.url, until="load") as page:
        open_video_tab(page)
        page.set_input_files("#video input[type=file]", str(video))
        page.locator("#video").get_by_text("cells").first.wait_for()
        page.locator("#count-video").click()
        page.locator("#video-progress").get_by_text("done · 完成").wait_for()
        page.wait_for_function(
            "() => { const v = document.querySelector('#annotated-video video'); return v && v.readyState > 1 }"
        )
        length = page.evaluate("document.querySelector('#annotated-video video').duration")
        assert length == pytest.approx(0.8, abs=0.11)
        assert "1 … 2" in page.locator("#video-counts").inner_text()
        screenshot(page, "yolo-detector-video", tmp_path)
        link = page.locator("#video-files a[download]").first
        with page.expect_download() as download:
            link.click()
        rows = list(csv.DictReader(download.value.path().read_text(encoding="utf-8-sig").splitlines()))
        assert [row["RBC · 红细胞"] for row in rows] == ["1", "2"] * 4
        assert [float(row["seconds"]) for row in rows] == pytest.approx(np.arange(8) / 10)


def test_what_is_no_video_is_named(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "fake.mp4").write_bytes(b"this is not a video, whatever its name says")
    with opened(server.url, until="load") as page:
        open_video_tab(page)
        page.set_input_files("#video input[type=file]", str(tmp_path / "fake.mp4"))
        page.locator("#video").get_by_text("fake").first.wait_for()
        page.locator("#count-video").click()
        page.get_by_text("this is not a video in MP4").first.wait_for()


def answered(server: ServerProcess) -> float:
    """Returns how many items the server has answered."""
    with urllib.request.urlopen(f"{server.url}/metrics") as reply:
        lines = reply.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if "answered" in line and not line.startswith("#"))


def test_who_leaves_stops_the_work(server: ServerProcess, tmp_path: Path) -> None:
    frames = 550
    video = moving(tmp_path / "long.mp4", frames)
    with opened(server.url, until="load") as page:
        open_video_tab(page)
        before = answered(server)
        page.set_input_files("#video input[type=file]", str(video))
        page.locator("#video").get_by_text("long").first.wait_for()
        page.locator("#count-video").click()
        page.locator("#video-progress p").wait_for()
    last = -1.0
    while last != (last := answered(server)):
        time.sleep(2)
    assert 0 < last - before < frames
