"""Checks the built pages: every link, picture, style and script leads to a file of the site, and to an anchor there."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ADDRESSES = {"a": "href", "img": "src", "link": "href", "script": "src"}
_FETCHED = {"img", "link", "script"}


class _Parser(HTMLParser):
    """Collects the anchors of a page and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.leads: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if values.get("id"):
            self.anchors.add(str(values["id"]))
        address = values.get(_ADDRESSES.get(tag, ""))
        if address and not (tag == "link" and values.get("rel") == "canonical"):
            self.leads.append((tag, address))


def link_problems(site: Path) -> list[str]:
    """Lists broken links of a built site, and what its pages would fetch from elsewhere."""
    pages: dict[Path, _Parser] = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = parser = _Parser()
        parser.feed(path.read_text(encoding="utf-8"))
    problems = []
    for path, parser in pages.items():
        if path.name == "404.html":  # a server shows it at any address, so that its own are absolute
            continue
        for tag, address in dict.fromkeys(parser.leads):
            problem = _problem(site, path, tag, address, pages)
            if problem:
                problems.append(f"{path.relative_to(site)}: {address} {problem}")
    return problems


def _problem(site: Path, page: Path, tag: str, address: str, pages: dict[Path, _Parser]) -> str | None:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return "is fetched from elsewhere" if tag in _FETCHED and parts.scheme != "data" else None
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(site.resolve()):
        return "leads out of the site"
    if not target.is_file():
        return "is no file of the site"
    anchor = unquote(parts.fragment)
    if anchor and not anchor.startswith("__") and target in pages and anchor not in pages[target].anchors:
        return "leads to no anchor of that page"
    return None
