import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dlcommon.runtime.locate_model import packaged_models
from dlcommon.testing.browser import DESKTOP, PHONE, check_no_sideways_scrolling, opened, screenshot
from dlcommon.testing.commands import script
from dlcommon.testing.server_process import ServerProcess, serving
from sentiment_bert.capstone import CAPSTONE

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serves the package's small model as a run's, whose name is that of its folder."""
    (packaged,) = (path for path in packaged_models(CAPSTONE) if path.stem == "sentiment-bert-scratch")
    model = tmp_path_factory.mktemp("run") / "model.onnx"
    shutil.copyfile(packaged, model)
    with serving([script(CAPSTONE.name), "serve", "--model", str(model)]) as process:
        yield process


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_judges_and_colours_what_moved_the_answer(
    server: ServerProcess, window: tuple[int, int], tmp_path: Path
) -> None:
    with opened(server.url, window) as page:
        page.locator("#text textarea").fill("A wonderful, moving film. The <b>ending</b> is terrible and dull.")
        page.locator("#judge").click()
        marks = page.locator("#sentences mark")
        marks.first.wait_for()
        assert page.locator("#sentences .sentence").count() == 2
        assert "positive · 正面" in page.locator("#sentences .said").first.inner_text()
        assert "negative · 负面" in page.locator("#sentences .said").last.inner_text()
        assert "<b>ending</b>" in marks.all_inner_texts()
        titles = dict(zip(marks.all_inner_texts(), marks.evaluate_all("all => all.map(one => one.title)"), strict=True))
        assert titles["wonderful,"].startswith("+")
        assert titles["terrible"].startswith("-")
        assert page.locator("#verdict .shares i").count() == 2
        check_no_sideways_scrolling(page)
        screenshot(page, f"sentiment-bert-{'phone' if window == PHONE else 'desktop'}", tmp_path)


def test_many_lines_get_a_table_a_chart_and_a_file(server: ServerProcess, tmp_path: Path) -> None:
    with opened(server.url) as page:
        page.get_by_role("tab", name="Many texts").click()
        page.locator("#pasted textarea").fill("A wonderful film.\n\n房间很脏，太差了。\nФильм был ужасен\n")
        page.locator("#judge-all").click()
        rows = page.locator("#judged tr")
        rows.first.wait_for()
        assert rows.count() == 4
        lines = rows.all_inner_texts()
        assert lines[1].startswith("1\t")
        assert "positive · 正面" in lines[1]
        assert "negative · 负面" in lines[2]
        assert lines[3].startswith("4\t")
        assert "Cyrillic" in lines[3]
        assert "1 (33%)" in page.locator("#shares").inner_text()
        screenshot(page, "sentiment-bert-many", tmp_path)
        with page.expect_download() as download:
            page.locator("#download a[download]").first.click()
        content = Path(download.value.path()).read_text(encoding="utf-8-sig")
        assert content.splitlines()[1].startswith("1,A wonderful film.,positive,")


def test_a_column_of_a_file_is_judged(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("id;review\n1;A wonderful film.\n2;A terrible film.\n", encoding="utf-8")
    with opened(server.url) as page:
        page.get_by_role("tab", name="Many texts").click()
        page.locator("#texts-csv input[type=file]").set_input_files(path)
        page.locator("#column input").wait_for()
        assert page.locator("#column input").input_value() == "review"
        page.locator("#judge-all").click()
        page.locator("#judged tr").nth(2).wait_for()
        assert "positive" in page.locator("#judged tr").nth(1).inner_text()


def test_what_cannot_be_judged_is_said(server: ServerProcess) -> None:
    with opened(server.url) as page:
        page.locator("#text textarea").fill("Фильм был ужасен.")
        page.locator("#judge").click()
        page.get_by_text("seems to be in Cyrillic").first.wait_for()


def test_the_model_is_chosen_by_the_language_of_the_text(server: ServerProcess, tmp_path: Path) -> None:
    with opened(server.url) as page:
        assert "by the text's language (en, zh)" in page.locator("#model input").input_value()
        page.locator("#text textarea").fill("房间很干净，服务也很好。早餐太难吃了！")
        page.locator("#judge").click()
        page.locator("#sentences mark").first.wait_for()
        assert page.locator("#sentences .said").all_inner_texts()[0].startswith("positive · 正面")
        assert page.locator("#sentences mark").all_inner_texts()[:5] == list("房间很干净")
        screenshot(page, "sentiment-bert-chinese", tmp_path)
