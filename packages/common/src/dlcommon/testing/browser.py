"""Opens pages in headless Chromium, in windows of a desktop and of a phone."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

DESKTOP, PHONE = (1280, 900), (390, 844)
"""Widths and heights of the window in pixels."""

ARGUMENTS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-quic"
).split()

CAMERA = "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"


def chromium() -> str:
    """Returns the path of Chromium; skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("needs Chromium (apt-get install chromium)")


@contextmanager
def opened(
    url: str,
    window: tuple[int, int] = DESKTOP,
    alone: bool = False,
    camera: bool = False,
    until: Literal["networkidle", "load"] = "networkidle",
) -> "Iterator[Page]":
    """Loads the page at the address; an error that its scripts raise fails the test.

    Args:
        url: the page's address.
        window: width and height in pixels.
        alone: errors in the console, and requests to other machines, fail the test too.
        camera: the browser has one, whose picture moves, and lets the page use it.
        until: what counts as loaded; a page that takes a camera's stream keeps a connection open, and is never idle.
    """
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*ARGUMENTS, *(CAMERA if camera else ())])
        try:
            page = browser.new_page(viewport={"width": window[0], "height": window[1]}, has_touch=window == PHONE)
            page.on("pageerror", lambda error: errors.append(str(error)))
            if alone:
                page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
                page.on("request", lambda request: errors.append(request.url) if _leaves(request.url) else None)
            page.set_default_timeout(600_000)
            page.goto(url, wait_until=until)
            yield page
        finally:
            browser.close()
    assert not errors, f"the page raised {errors}"


def _leaves(url: str) -> bool:
    """Says whether an address leads to another machine."""
    parts = urlsplit(url)
    return parts.scheme not in ("file", "data", "blob") and parts.hostname not in ("127.0.0.1", "localhost")


def screenshot(page: "Page", name: str, folder: Path) -> Path:
    """Saves the whole page as PNG, into `DL_SCREENSHOTS` where that is set."""
    path = Path(os.environ.get("DL_SCREENSHOTS") or folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, full_page=True)
    return path


def check_no_sideways_scrolling(page: "Page") -> None:
    """Checks that nothing is wider than the window."""
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wider <= 0, f"the page is {wider} pixels wider than the window"
