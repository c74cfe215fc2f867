from collections.abc import Iterator
from pathlib import Path

import pytest
from dlcommon.testing.browser import DESKTOP, PHONE, check_no_sideways_scrolling, opened, screenshot
from dlcommon.testing.server_process import ServerProcess, serving_pretrained
from eda_titanic.capstone import CAPSTONE
from eda_titanic.page import EXAMPLES

pytestmark = pytest.mark.browser

OWN = "city,rooms,price\n" + "".join(f"{'ab'[i % 2]},{i % 5},{100 + 10 * (i % 5) + i}\n" for i in range(60))
PASSENGERS = (
    "Pclass,Name,Sex,Age,SibSp,Parch,Ticket,Fare,Cabin,Embarked\n"
    '3,"Kelly, Mr. James",male,34.5,0,0,330911,7.8292,,Q\n'
    '1,"Gracie, Miss. Anna",female,,0,0,,80,B5,S\n'
)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_pretrained(CAPSTONE) as process:
        yield process


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_passenger_is_answered_with_reasons(server: ServerProcess, window: tuple[int, int], tmp_path: Path) -> None:
    name = "phone" if window == PHONE else "desktop"
    shares = []
    with opened(server.url, window) as page:
        for example in list(EXAMPLES)[:2]:
            page.locator("#answer").evaluate("element => element.querySelector('.share')?.remove()")
            page.get_by_role("button", name=example.en).click()
            page.locator("#answer .share").wait_for()
            shares.append(int(page.locator("#answer .share").inner_text().removesuffix("%")))
            points = [float(text) for text in page.locator("#answer .moved li > span:last-child").all_inner_texts()]
            assert len(points) == 8
            note = page.locator("#answer .note").inner_text()
            base = float(note.split("values: ")[1].split(" %")[0])
            assert base + sum(points) == pytest.approx(shares[-1], abs=1.5)  # what is shown is rounded
        check_no_sideways_scrolling(page)
        screenshot(page, f"titanic-{name}", tmp_path)
        page.get_by_role("tab", name="Explorer").click()
        page.locator("#picture svg").first.wait_for()
        page.wait_for_timeout(300)
        check_no_sideways_scrolling(page)
        screenshot(page, f"titanic-explorer-{name}", tmp_path)
    assert shares[0] < 30 < 70 < shares[1]


def test_a_value_that_cannot_be_is_named(server: ServerProcess) -> None:
    with opened(server.url) as page:
        page.locator("#field-Age input").fill("5e20")
        page.locator("#ask").last.click()
        page.get_by_text("Age is 5e+20, not between 0 and 120").wait_for()
        page.locator("#field-Age input").fill("110")
        page.locator("#ask").last.click()
        page.locator("#answer .unusual").get_by_text("Age is 110, outside what was trained on").wait_for()


def test_an_own_table_is_explored_and_reported(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "homes.csv").write_text(OWN)
    (tmp_path / "broken.csv").write_text("a,b\n1\n")
    with opened(server.url) as page:
        page.get_by_role("tab", name="Explorer").click()
        page.set_input_files("#own-csv input[type=file]", str(tmp_path / "homes.csv"))
        page.locator("#picture svg[aria-label='city']").wait_for()
        page.locator("#make-report").click()
        with page.expect_download() as download:
            page.locator("#report-file a").first.click(timeout=600_000)
        html = Path(download.value.path()).read_text(encoding="utf-8")
        assert "homes.csv" in html
        assert "60 rows, 3 columns" in html
        page.locator("#own-csv button[aria-label*='lear'], #own-csv button[aria-label*='emove']").first.click()
        page.locator("#picture svg[aria-label*='Sex']").first.wait_for()
        page.set_input_files("#own-csv input[type=file]", str(tmp_path / "broken.csv"))
        page.get_by_text("row 2: has 1 cells where the header names 2 columns").wait_for()


def test_a_file_of_passengers_is_predicted_and_a_bad_one_named(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(PASSENGERS)
    (tmp_path / "bad.csv").write_text(PASSENGERS.replace("female", "robot"))
    with opened(server.url) as page:
        page.get_by_role("tab", name="File").click()
        page.set_input_files("#rows-csv input[type=file]", str(tmp_path / "good.csv"))
        page.locator("#predicted td").first.wait_for()
        cells = page.locator("#predicted td").all_inner_texts()
        assert (cells[0], cells[1]) == ("2", "died")
        assert (cells[4], cells[5]) == ("3", "survived")
        page.locator("#rows-csv button[aria-label*='lear'], #rows-csv button[aria-label*='emove']").first.click()
        page.set_input_files("#rows-csv input[type=file]", str(tmp_path / "bad.csv"))
        page.get_by_text("row 3: Sex is 'robot', none of male, female").wait_for()
