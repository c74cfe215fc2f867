from collections.abc import Iterator
from pathlib import Path

import pytest
from cifar10_resnet.capstone import CAPSTONE
from cifar10_resnet.pictures import EXAMPLES
from dlcommon.testing.browser import DESKTOP, PHONE, check_no_sideways_scrolling, opened, screenshot
from dlcommon.testing.server_process import ServerProcess, serving_pretrained

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_pretrained(CAPSTONE) as process:
        yield process


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_dropped_picture_is_classified(server: ServerProcess, window: tuple[int, int], tmp_path: Path) -> None:
    ship = next(path for path in EXAMPLES if path.stem == "ship")
    with opened(server.url, window) as page:
        assert "cifar10" in page.locator(".dl-facts").inner_text()
        page.set_input_files("input[type=file]", str(ship))
        answer = page.locator("#answer")
        answer.get_by_text("ship · 船").first.wait_for()
        assert answer.locator("h2, .output-class").first.inner_text().startswith("ship")
        page.locator("#seen img").wait_for()
        assert page.get_by_label("Time taken · 用时").input_value().endswith(" ms")
        check_no_sideways_scrolling(page)
        screenshot(page, f"cifar10-{'phone' if window == PHONE else 'desktop'}", tmp_path)


def test_an_example_is_classified(server: ServerProcess) -> None:
    with opened(server.url) as page:
        page.locator("#examples button").nth(1).click()
        page.locator("#answer").get_by_text("automobile · 汽车").first.wait_for()


def test_the_page_goes_on_after_a_file_that_is_no_picture(server: ServerProcess, tmp_path: Path) -> None:
    fake = tmp_path / "fake.png"
    fake.write_bytes(b"this is not a picture")
    with opened(server.url) as page:
        page.set_input_files("input[type=file]", str(fake))
        page.get_by_text("this is not an image in PNG, JPEG").first.wait_for()
        page.locator("#examples button").nth(1).click()
        page.locator("#answer").get_by_text("automobile · 汽车").first.wait_for()
