from collections.abc import Iterator
from pathlib import Path

import pytest
from dlcommon.testing.browser import DESKTOP, PHONE, check_no_sideways_scrolling, opened, screenshot
from dlcommon.testing.server_process import ServerProcess, serving_pretrained
from house_prices.capstone import CAPSTONE
from house_prices.page import EXAMPLES

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_pretrained(CAPSTONE) as process:
        yield process


def in_dollars(text: str) -> float:
    return float(text.replace("$", "").replace(",", "").replace("+", ""))


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_house_is_priced_with_reasons(server: ServerProcess, window: tuple[int, int], tmp_path: Path) -> None:
    name = "phone" if window == PHONE else "desktop"
    prices = []
    with opened(server.url, window) as page:
        for example in list(EXAMPLES)[:2]:
            page.locator("#answer").evaluate("element => element.querySelector('.price')?.remove()")
            page.get_by_role("button", name=example.en).click()
            page.locator("#answer .price").wait_for()
            prices.append(in_dollars(page.locator("#answer .price").inner_text()))
            low, high = (in_dollars(text) for text in page.locator("#answer .range > span").all_inner_texts())
            assert low < prices[-1] < high
            moved = page.locator("#answer .moved li > span:last-child").all_inner_texts()
            assert len(moved) == 9
            note = page.locator("#answer .note").last.inner_text()
            base = in_dollars(note.split("costs ")[1].split(";")[0])
            assert base + sum(map(in_dollars, moved)) == pytest.approx(prices[-1], abs=600)  # rounded to hundreds
            assert page.locator("#answer table tr").count() == 6
            assert page.locator("#answer table").get_by_text(".0").count() == 0
        check_no_sideways_scrolling(page)
        screenshot(page, f"house-prices-{name}", tmp_path)
        page.get_by_role("tab", name="Curves").click()
        page.locator("#curve li").first.wait_for()
        page.wait_for_timeout(300)
        check_no_sideways_scrolling(page)
        screenshot(page, f"house-prices-curves-{name}", tmp_path)
    assert prices[0] < 200_000 < prices[1]


def test_a_value_that_cannot_be_is_named(server: ServerProcess) -> None:
    with opened(server.url) as page:
        page.locator("#field-LotArea input").fill("5e20")
        page.locator("#ask").last.click()
        page.get_by_text("LotArea is 5e+20, not an area").wait_for()


def test_a_file_of_houses_is_priced_and_a_bad_one_named(server: ServerProcess, tmp_path: Path) -> None:
    import json

    from dlcommon.runtime.locate_model import packaged_model
    from dlcommon.runtime.onnx_model import OnnxModel

    path = packaged_model(CAPSTONE)
    assert path is not None
    columns = json.loads(OnnxModel(path).metadata["columns"])
    names = [column["name"] for column in columns]
    typical = ["" if column["typical"] is None else str(column["typical"]) for column in columns]
    good = "\n".join([",".join(names), ",".join(typical), "," * (len(names) - 1), ""])
    (tmp_path / "good.csv").write_text(good)
    (tmp_path / "bad.csv").write_text(good.replace(typical[names.index("Neighborhood")], "Atlantis"))
    with opened(server.url) as page:
        page.get_by_role("tab", name="File").click()
        page.set_input_files("#rows-csv input[type=file]", str(tmp_path / "good.csv"))
        page.locator("#predicted td").first.wait_for()
        cells = page.locator("#predicted td").all_inner_texts()
        assert cells[0] == "2"
        assert float(cells[2]) < float(cells[1]) < float(cells[3])
        page.locator("#rows-csv button[aria-label*='lear'], #rows-csv button[aria-label*='emove']").first.click()
        page.set_input_files("#rows-csv input[type=file]", str(tmp_path / "bad.csv"))
        page.get_by_text("row 2: Neighborhood is 'Atlantis', none of NAmes").wait_for()
