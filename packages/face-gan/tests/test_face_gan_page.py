from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dlcommon.testing.browser import DESKTOP, PHONE, check_no_sideways_scrolling, opened, screenshot
from dlcommon.testing.server_process import ServerProcess, serving_pretrained
from face_gan.capstone import CAPSTONE

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_pretrained(CAPSTONE) as process:
        yield process


def wait_for_another(page: "Page", where: str, before: str | None, media: str = "image/png") -> str:
    """Waits until another picture is shown there; returns its address."""
    page.wait_for_function(
        """([where, before, media]) => {
            const image = document.querySelector(`${where} img`);
            return image && image.src !== before && image.src.startsWith(`data:${media}`) && image.naturalWidth > 32;
        }""",
        arg=[where, before, media],
    )
    found = page.locator(f"{where} img").get_attribute("src")
    assert found is not None
    return found


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_draws_others_and_the_same_again(server: ServerProcess, window: tuple[int, int], tmp_path: Path) -> None:
    with opened(server.url, window) as page:
        first = wait_for_another(page, "#faces", None)
        page.locator("#others").click()
        others = wait_for_another(page, "#faces", first)
        page.locator("#seed input").fill("1")
        page.locator("#draw").click()
        assert wait_for_another(page, "#faces", others) == first
        check_no_sideways_scrolling(page)
        screenshot(page, f"face-gan-{'phone' if window == PHONE else 'desktop'}", tmp_path)


def test_it_walks_mixes_and_turns(server: ServerProcess, tmp_path: Path) -> None:
    with opened(server.url) as page:
        page.get_by_role("tab", name="Walk · 渐变").click()
        page.locator("#animate").click()
        wait_for_another(page, "#walked", None, "image/webp")
        page.get_by_role("tab", name="Mix · 混合").click()
        page.locator("#fine input").fill("5")
        wait_for_another(page, "#mixed", None)
        page.get_by_role("tab", name="Directions · 特征方向").click()
        page.locator("#turned-seed input").fill("3")
        page.locator("#turned-seed input").press("Enter")
        before = wait_for_another(page, "#turned", None)
        page.locator("#direction-1 input[type=number]").fill("3")
        page.locator("#direction-1 input[type=number]").press("Enter")
        wait_for_another(page, "#turned", before)
        screenshot(page, "face-gan-directions", tmp_path)


def test_a_bad_seed_is_named(server: ServerProcess) -> None:
    with opened(server.url) as page:
        wait_for_another(page, "#faces", None)
        page.locator("#seed input").fill("-3")
        page.locator("#draw").click()
        page.get_by_text("seed: Input should be greater than or equal to 0").first.wait_for()
