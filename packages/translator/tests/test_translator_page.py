from collections.abc import Iterator
from pathlib import Path

import pytest
from dlcommon.testing.browser import DESKTOP, PHONE, check_no_sideways_scrolling, opened, screenshot
from dlcommon.testing.server_process import ServerProcess, serving_pretrained
from translator.capstone import CAPSTONE

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_pretrained(CAPSTONE) as process:
        yield process


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_translates_and_shows_where_it_looked(
    server: ServerProcess, window: tuple[int, int], tmp_path: Path
) -> None:
    with opened(server.url, window) as page:
        page.locator("#text textarea").fill("A dog is running on the beach.\n<b>Two men</b> are waiting.")
        page.locator("#translate").click()
        cells = page.locator("#attention td")
        cells.first.wait_for()
        lines = page.locator("#translation textarea").input_value().split("\n")
        assert len(lines) == 2
        assert "Hund" in lines[0]
        assert "Unknown to the model: < >" in page.locator("#notes").inner_text()
        assert page.locator("#pieces span").first.inner_text().startswith("␣A")
        assert page.locator("#alternatives").get_by_text(lines[0]).count() >= 1
        mean = cells.evaluate_all("cells => cells.map(cell => cell.title)")
        page.locator("#head input").click()
        page.get_by_role("option", name="2", exact=True).click()
        page.wait_for_function(
            "before => document.querySelectorAll('#attention td')[0].title !== before[0] || "
            "document.querySelectorAll('#attention td')[3].title !== before[3]",
            arg=mean,
        )
        check_no_sideways_scrolling(page)
        screenshot(page, f"translator-{'phone' if window == PHONE else 'desktop'}", tmp_path)


def test_another_sentence_has_its_own_attention(server: ServerProcess) -> None:
    with opened(server.url) as page:
        page.locator("#text textarea").fill("A dog runs. A cat sleeps.")
        page.locator("#translate").click()
        page.locator("#attention td").first.wait_for()
        page.locator("#sentence input").click()
        page.get_by_role("option", name="2", exact=True).click()
        page.locator("#pieces").get_by_text("cat").first.wait_for()


def test_what_cannot_be_translated_is_said(server: ServerProcess) -> None:
    with opened(server.url) as page:
        page.locator("#text textarea").fill("学而时习之")
        page.locator("#translate").click()
        page.get_by_text("does not know '学'").first.wait_for()
