"""The site in a browser: a lesson in both languages, search, dark mode, a phone, and nothing from other machines."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dlcommon.course.catalogue import find_lesson
from dlcommon.runtime.output import Output
from dlcommon.runtime.run_directory import workspace_root
from dlcommon.testing.browser import PHONE, check_no_sideways_scrolling, opened, screenshot

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("zensical", reason="needs the site's generator (uv sync --group docs)")
ROOT = workspace_root(Path(__file__))
pytestmark = [pytest.mark.browser, pytest.mark.skipif(ROOT is None, reason="needs the workspace")]
LESSON = "course/03-pytorch/06-optimizers.html"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documents, one lesson that has run, and the modules that it imports."""
    from dlcommon.site.build import Contents, build_site
    from dlcommon.site.reference import all_modules, imported_modules

    assert ROOT is not None
    folder = tmp_path_factory.mktemp("docs")
    lesson = find_lesson("03/06")
    contents = Contents([lesson], imported_modules([lesson.path], all_modules(ROOT)))
    pages = build_site(ROOT, contents, folder / "work", folder / "site", True, Output())
    assert pages >= 40
    return folder / "site"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def search(page: "Page", words: str) -> str:
    """Types into the search and returns the first of what it finds."""
    page.wait_for_load_state("networkidle")  # the index is read
    page.keyboard.press("Control+k")
    page.get_by_role("combobox").fill(words)
    found = page.get_by_role("option").first
    found.wait_for()
    return found.inner_text()


def test_a_reader_finds_a_lesson_reads_it_in_both_languages_and_searches(address: str, tmp_path: Path) -> None:
    with opened(f"{address}/index.html", alone=True) as page:
        page.wait_for_url("**/en/index.html")
        assert page.locator("h1").inner_text().startswith("Deep-learning portfolio")
        page.get_by_role("link", name="Course", exact=True).first.click()
        page.locator("article").get_by_role("link", name="Optimizers").click()
        check_lesson(page, "Formula", tmp_path)
        page.get_by_role("link", name="中文").click()
        page.wait_for_url(f"**/zh/{LESSON}")
        check_lesson(page, "公式", tmp_path)
        page.get_by_role("link", name="English").click()
        page.wait_for_url(f"**/en/{LESSON}")
        assert "Optimizers" in search(page, "optimizers")


def check_lesson(page: "Page", formula: str, folder: Path) -> None:
    """Checks that formulas, code, figures and what was shown are there to see."""
    page.get_by_role("heading", name=formula).wait_for()
    heights = page.locator("math[display=block]").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().height)"
    )
    assert max(heights) > 30, "a fraction is taller than a line"
    assert page.evaluate("document.fonts.check('16px \"Site Math\"')")
    assert page.locator(".highlight .kn").count() > 3, "code is highlighted"
    figure = page.locator("figure.shown img").first
    figure.scroll_into_view_if_needed()
    page.wait_for_function("image => image.naturalWidth > 200", arg=figure.element_handle())
    assert page.locator("ul.checks li").count() >= 4
    assert page.locator("table.shown-table").count() >= 1
    screenshot(page, f"lesson-{formula}", folder)


def test_a_site_that_is_opened_from_files_can_be_searched(site: Path) -> None:
    with opened(f"{site.as_uri()}/zh/index.html", alone=True) as page:
        assert "优化器" in search(page, "优化器")


def test_dark_where_the_system_is_and_no_wider_than_a_phone(address: str, tmp_path: Path) -> None:
    with opened(f"{address}/en/index.html", PHONE, alone=True) as page:
        paths = ["index.html", LESSON, "course/index.html", "results/results.html", "capstones/char-lm.html"]
        paths += ["documents/linear-algebra-dl.html", "api/index.html", "project/architecture.html"]
        for language in ("en", "zh"):
            for path in paths:
                page.goto(f"{address}/{language}/{path}")
                check_no_sideways_scrolling(page)
        background = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(background)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function("document.body.dataset.mdColorScheme == 'slate'")
        assert page.evaluate(background) != light
        page.goto(f"{address}/zh/{LESSON}")
        screenshot(page, "lesson-dark-phone", tmp_path)
