"""The site's generator, Zensical: its configuration, navigation and call."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.localization import LocalizedText
from dlcommon.site.localized import LANGUAGES, NAMES, SITE_NAME, SiteLanguage, text_in

Navigation = list[dict[str, Any]]
"""Titles with a page, or with a navigation below them."""

THEME = Path(__file__).parent / "theme"
STYLES = "assets/site.css"
FONT = "assets/formulas.woff"
WORKER = "assets/file_worker.js"
_WORKER_ELSEWHERE = "https://unpkg.com/iframe-worker/shim"
"""What the generator would have pages that are opened from files fetch, so that they can be searched."""
_FEATURES = [
    "content.code.copy", "content.tooltips", "navigation.footer", "navigation.indexes", "navigation.path",
    "navigation.prune", "navigation.tabs", "navigation.tabs.sticky", "navigation.top", "navigation.tracking",
    "search.highlight", "toc.follow",
]  # fmt: skip
_EXTENSIONS = {
    "admonition": {},
    "attr_list": {},
    "md_in_html": {},
    "tables": {},
    "toc": {"permalink": True},
    "pymdownx.betterem": {},
    "pymdownx.details": {},
    "pymdownx.highlight": {"pygments_lang_class": True},
    "pymdownx.magiclink": {},
    "pymdownx.superfences": {},
    "pymdownx.tasklist": {"custom_checkbox": True},
}
_DOCSTRINGS = {
    "docstring_style": "google",
    "heading_level": 2,
    "line_length": 100,
    "members_order": "source",
    "separate_signature": True,
    "show_root_heading": False,
    "show_root_toc_entry": False,
    "show_symbol_type_heading": True,
    "show_symbol_type_toc": True,
    "signature_crossrefs": False,
}
"""Options of mkdocstrings."""
_SYSTEM = LocalizedText("Switch to light mode", "切换到浅色")
_LIGHT = LocalizedText("Switch to dark mode", "切换到深色")
_DARK = LocalizedText("Follow the system", "跟随系统")


@dataclass(frozen=True)
class Project:
    """A folder that holds one language's `pages` and gets its `html`."""

    folder: Path
    language: SiteLanguage

    @property
    def pages(self) -> Path:
        return self.folder / "pages"

    @property
    def html(self) -> Path:
        return self.folder / "html"


def require_generator() -> None:
    """Raises `UserError` where the generator is not installed."""
    if any(find_spec(name) is None for name in ("zensical", "mkdocstrings", "latex2mathml", "ziamath")):
        raise UserError("the site's generator is not installed; type `uv run --group docs docs`")


def write_configuration(project: Project, navigation: Navigation, sources: Path) -> None:
    """Writes the generator's configuration: JSON, which is YAML too.

    Args:
        project: the language's folder.
        navigation: the whole menu.
        sources: the folder that dlcommon lies in, for the API reference.
    """
    language = project.language

    def switch(text: LocalizedText, icon: str, media: str, **scheme: str) -> dict[str, Any]:
        return {
            "media": media,
            "toggle": {"icon": icon, "name": text_in(text, language)},
            "primary": "indigo",
            **scheme,
        }

    write_bytes(
        project.folder / "mkdocs.yml",
        json.dumps(
            {
                "site_name": text_in(SITE_NAME, language),
                "docs_dir": "pages",
                "site_dir": "html",
                "use_directory_urls": False,
                "nav": navigation,
                "theme": {
                    "language": language,
                    "font": False,
                    "features": _FEATURES,
                    "custom_dir": str(THEME),
                    "palette": [
                        switch(_SYSTEM, "lucide/sun-moon", "(prefers-color-scheme)"),
                        switch(_LIGHT, "lucide/sun", "(prefers-color-scheme: light)", scheme="default"),
                        switch(_DARK, "lucide/moon", "(prefers-color-scheme: dark)", scheme="slate"),
                    ],
                },
                "extra": {
                    "generator": False,
                    "alternate": [
                        {"name": NAMES[each], "lang": each, "link": f"../{each}/index.html"} for each in LANGUAGES
                    ],
                },
                "extra_css": [STYLES],
                "markdown_extensions": [{name: settings} for name, settings in _EXTENSIONS.items()],
                "plugins": [
                    "search",
                    "offline",
                    {"mkdocstrings": {"handlers": {"python": {"paths": [str(sources)], "options": _DOCSTRINGS}}}},
                ],
            },
            ensure_ascii=False,
            indent=1,
        ).encode(),
    )


def generate(projects: list[Project]) -> None:
    """Renders the languages side by side.

    Raises:
        UserError: the generator warns of anything; the message holds what it says.
    """
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f"]
    started = [
        subprocess.Popen(
            [*command, str(project.folder / "mkdocs.yml")],
            env={**os.environ, "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for project in projects
    ]
    texts = [process.communicate()[0] for process in started]
    for process, text in zip(started, texts, strict=True):
        if process.returncode or "ERROR" in text:
            said = text.partition("Traceback (most recent call last)")[0]
            raise UserError(f"the site's generator refuses the pages:\n{said.strip()}")


def make_offline(html: Path) -> None:
    """Lets pages take the worker for files from the site, and read no other language's list of pages for its link."""
    shutil.copyfile(THEME / "file_worker.js", html / WORKER)
    for path in html.rglob("*.html"):
        up = "../" * (len(path.relative_to(html).parts) - 1)
        text = path.read_text(encoding="utf-8")
        text = text.replace(_WORKER_ELSEWHERE, f"{up}{WORKER}")
        path.write_text(re.sub(r'<link rel="alternate" href="[^"]*" hreflang="..">', "", text), encoding="utf-8")
