"""The pages of one language: where each file of the repository stands, and links between them."""

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dlcommon.runtime.errors import UserError
from dlcommon.site.localized import SiteLanguage

_CODE = re.compile(r"(```.*?```|~~~.*?~~~)", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s#:]+)(#[^)\s]*)?\)")
_PICTURES = {".png", ".svg", ".jpg", ".gif", ".webp"}
_HIGHLIGHTED = {".py": "python", ".json": "json", ".toml": "toml", ".yml": "yaml"}


@dataclass
class Pages:
    """Writes the pages of one language into a folder."""

    root: Path
    """Of the repository."""
    folder: Path
    """Holds the pages, as Markdown, and the files that they show."""
    language: SiteLanguage
    places: dict[PurePosixPath, str] = field(default_factory=dict)
    """Path in the repository → page, such as `docs/CONCEPTS.md` → `documents/concepts.md`."""
    written: set[str] = field(default_factory=set)

    def write(self, page: str, markdown: str) -> None:
        """Writes a page.

        Raises:
            ValueError: there is one of that name.
        """
        if page in self.written:
            raise ValueError(f"two pages are called {page}")
        self.written.add(page)
        path = self.folder / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(markdown, encoding="utf-8")

    def with_links(self, markdown: str, source: PurePosixPath, page: str) -> str:
        """Rewrites links to files of the repository into links to pages.

        What has no page gets one that shows the file; pictures are copied.

        Args:
            source: path of the Markdown in the repository.
            page: the page that it becomes.

        Raises:
            UserError: a link leads to no file.
        """

        def rewritten(link: re.Match[str]) -> str:
            target = PurePosixPath(os.path.normpath(source.parent / link[1]))
            return f"]({relative(self._page_of(target, source), page)}{link[2] or ''})"

        parts = _CODE.split(markdown)
        parts[::2] = [_LINK.sub(rewritten, part) for part in parts[::2]]
        return "".join(parts)

    def page_of_module(self, module: str) -> str | None:
        """Returns the page of a module in the API reference, if it has one."""
        page = f"api/{module}.md"
        return page if page in self.places.values() else None

    def _page_of(self, target: PurePosixPath, source: PurePosixPath) -> str:
        if target in self.places:
            return self.places[target]
        path = self.root / target
        if not path.is_file():
            raise UserError(f"{source} links to {target}, which is no file")
        page = f"files/{target}" if path.suffix in _PICTURES else f"files/{target}.md"
        if page not in self.written:
            if path.suffix in _PICTURES:
                self.written.add(page)
                (self.folder / page).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, self.folder / page)
            else:
                text = path.read_text(encoding="utf-8")
                fence = max(re.findall(r"`{3,}", text), default="``") + "`"
                self.write(page, f"# `{target}`\n\n{fence}{_HIGHLIGHTED.get(path.suffix, 'text')}\n{text}\n{fence}\n")
        return page


def relative(target: str, page: str) -> str:
    """Returns the address of a page or file as seen from another page."""
    return PurePosixPath(os.path.relpath(target, PurePosixPath(page).parent)).as_posix()
