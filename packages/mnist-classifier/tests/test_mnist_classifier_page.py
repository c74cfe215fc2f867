from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dlcommon.testing.browser import DESKTOP, PHONE, check_no_sideways_scrolling, opened, screenshot
from dlcommon.testing.server_process import ServerProcess, serving_pretrained
from mnist_classifier.capstone import CAPSTONE
from mnist_classifier.page import EXAMPLES, NAMES
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

SEVEN = [(0.3, 0.2), (0.7, 0.22), (0.45, 0.8)]
ONE = [(0.52, 0.15), (0.48, 0.85)]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_pretrained(CAPSTONE) as process:
        yield process


def draw(page: "Page", corners: list[tuple[float, float]]) -> None:
    """One stroke through these places of the board, in [0, 1]."""
    box = page.locator("#board canvas").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=12)
    page.mouse.up()


def check_read(page: "Page", digit: str) -> None:
    page.locator("#answer .digit").get_by_text(digit, exact=True).wait_for()
    assert page.locator("#answer .name").inner_text().startswith(str(NAMES[digit]))
    shares = [float(text.removesuffix("%")) for text in page.locator("#answer li span:last-child").all_inner_texts()]
    assert len(shares) == 10
    assert np.argmax(shares) == int(digit)
    assert sum(shares) == pytest.approx(100, abs=1)


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_drawn_digit_is_read(server: ServerProcess, window: tuple[int, int], tmp_path: Path) -> None:
    with opened(server.url, window) as page:
        assert "mnist" in page.locator(".dl-facts").inner_text()
        draw(page, SEVEN)
        check_read(page, "7")
        page.locator("#answer .seen img").wait_for()
        check_no_sideways_scrolling(page)
        screenshot(page, f"mnist-{'phone' if window == PHONE else 'desktop'}", tmp_path)
        page.get_by_text("Clear · 清除").click()
        page.locator("#answer .digit").get_by_text("?", exact=True).wait_for()
        draw(page, ONE)
        check_read(page, "1")


def test_a_finger_draws(server: ServerProcess) -> None:
    with opened(server.url, PHONE) as page:
        box = page.locator("#board canvas").bounding_box()
        assert box is not None
        client = page.context.new_cdp_session(page)
        places = [
            {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
            for x, y in np.linspace(ONE[0], ONE[1], 12)
        ]
        client.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [places[0]]})
        for place in places[1:]:
            client.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [place]})
        client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        check_read(page, "1")
        assert page.evaluate("window.scrollY") == 0


def test_examples_are_read(server: ServerProcess) -> None:
    with opened(server.url) as page:
        for digit in EXAMPLES:
            page.locator(f'#board .example[aria-label="{NAMES[digit]}"]').click()
            check_read(page, digit)


def test_a_picture_from_a_file_is_read_and_a_bad_one_is_named(server: ServerProcess, tmp_path: Path) -> None:
    pixels = np.full((300, 500), 30, dtype=np.uint8)
    pixels[60:240, 240:262] = 240  # a light 1 on dark paper, far from square
    Image.fromarray(pixels).save(tmp_path / "one.png")
    (tmp_path / "fake.png").write_bytes(b"this is not a picture")
    with opened(server.url) as page:
        page.set_input_files("#board input[type=file]", str(tmp_path / "one.png"))
        check_read(page, "1")
        page.set_input_files("#board input[type=file]", str(tmp_path / "fake.png"))
        page.get_by_text("not a picture that the browser can show").wait_for()
