from collections.abc import Iterator
from pathlib import Path

import pytest
from dlcommon.runtime.locate_model import packaged_model
from dlcommon.testing.browser import DESKTOP, PHONE, check_no_sideways_scrolling, opened, screenshot
from dlcommon.testing.commands import script
from dlcommon.testing.server_process import ServerProcess, serving, serving_pretrained
from translator.capstone import CAPSTONE
from translator.sample_models import write_run

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


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serves the pretrained model, German to English and English to French."""
    runs = tmp_path_factory.mktemp("runs")
    for name, source, target in (("a", "de", "en"), ("b", "en", "fr")):
        write_run(runs / "translator" / f"multi30k-{name}", source, target)
    carried = str(packaged_model(CAPSTONE))
    with serving([script("translator"), "serve", "--model", carried], {"DL_RUNS_DIR": str(runs)}) as process:
        yield process


def test_the_direction_is_switched(both: ServerProcess) -> None:
    with opened(both.url) as page:
        text, translation = page.locator("#text textarea"), page.locator("#translation textarea")
        text.fill("A dog runs.")
        page.locator("#translate").click()
        page.locator("#attention td").first.wait_for()
        german = translation.input_value()
        page.locator("#swap").click()
        page.get_by_text("Text (de)").wait_for()
        assert text.input_value() == german
        assert translation.input_value() == ""
        page.locator("#examples").get_by_text("Zwei junge Mädchen").click()
        page.wait_for_function("() => document.querySelector('#text textarea').value.startsWith('Zwei junge Mädchen')")
        page.locator("#translate").click()
        page.locator("#attention td").first.wait_for()
        page.locator("#model input").click()
        page.get_by_role("option").filter(has_text="en → fr").click()
        page.get_by_text("Text (en)").wait_for()
        assert page.locator("#swap").is_disabled()
        assert page.locator("#attention td").count() == 0
        check_no_sideways_scrolling(page)
