import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from char_lm.capstone import CAPSTONE
from dlcommon.testing.browser import DESKTOP, PHONE, check_no_sideways_scrolling, opened, screenshot
from dlcommon.testing.raw_http import Target, wait_until
from dlcommon.testing.server_process import ServerProcess, serving_pretrained

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_pretrained(CAPSTONE) as process:
        yield process


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_writes_on_letter_by_letter(server: ServerProcess, window: tuple[int, int], tmp_path: Path) -> None:
    with opened(server.url, window) as page:
        page.locator("#prompt textarea").fill("JULIET:\n")
        page.locator("#write").click()
        page.locator("#written span[title]").nth(250).wait_for(state="attached")
        text = page.locator("#written").inner_text()
        assert text.startswith("JULIET:\n")
        assert re.search(r"\d+%", page.locator("#written span[title]").nth(5).get_attribute("title") or "")
        assert page.locator("#next").inner_text().count("%") >= 1
        check_no_sideways_scrolling(page)
        screenshot(page, f"char-lm-{'phone' if window == PHONE else 'desktop'}", tmp_path)


def test_what_the_model_cannot_read_is_said(server: ServerProcess) -> None:
    with opened(server.url) as page:
        page.locator("#prompt textarea").fill("学而时习之")
        page.locator("#write").click()
        page.get_by_text("without '之'").first.wait_for()


def test_another_model_has_read_another_text(server: ServerProcess, tmp_path: Path) -> None:
    with opened(server.url) as page:
        page.locator("#prompt textarea").fill("x = [1, 2]\n")
        page.locator("#write").click()
        page.get_by_text("without '1', '2', '='").first.wait_for()
        page.locator("#model input").click()
        options = page.get_by_role("option")
        assert options.filter(has_text="lstm").count() == 1
        options.filter(has_text="python-manual").click()
        page.locator("#write").click()
        page.locator("#written span[title]").nth(50).wait_for(state="attached")
        assert page.locator("#written").inner_text().startswith("x = [1, 2]")
        screenshot(page, "char-lm-manual", tmp_path)


def test_it_stops_when_told(server: ServerProcess) -> None:
    target = Target(server.address, {"prompt": "a", "tokens": 1}, None)
    wait_until(lambda: target.metric("dl_items_in_flight") == 0)  # what the pages before have left behind
    stopped = target.metric('dl_items_total{outcome="abandoned"}')
    with opened(server.url) as page:
        page.locator("#write").click()
        page.locator("#written span[title]").nth(10).wait_for(state="attached")
        page.locator("#stop").click()
        target.wait_for_items("abandoned", int(stopped) + 1)
        assert target.metric("dl_items_in_flight") == 0
        assert page.locator("#written span[title]").count() < 300
