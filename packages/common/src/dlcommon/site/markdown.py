"""Markdown as GitHub reads it, rewritten for the site's generator, which reads Python-Markdown.

Python-Markdown wants an empty line before a list and four spaces for what belongs to an item; headings get the anchors
that GitHub gives them, so that links into pages hold in both languages.
"""

import re
from collections import Counter
from collections.abc import Iterator

from dlcommon.course.cells import CHINESE, readable_markdown
from dlcommon.site.formulas import formulas_as_mathml
from dlcommon.site.localized import SiteLanguage

_ITEM = re.compile(r"( *)([-*+]|\d+[.)])( +)(?=\S)")
_FENCE = re.compile(r" *(```+|~~~+)")
_HEADING = re.compile(rf"^(#{{1,6}}) (.+?)(?: · ([^·\n]*[{CHINESE}][^·\n]*))?$", re.MULTILINE)


class PageText:
    """Rewrites the parts of one page; no two of its headings get the same anchor."""

    def __init__(self, language: SiteLanguage, english_anchors: bool = False) -> None:
        """
        Args:
            language: whose headings are kept of those written `English · 中文`.
            english_anchors: makes anchors of their English part alone.
        """
        self.language = language
        self.english_anchors = english_anchors
        self._anchors: Counter[str] = Counter()

    def render(self, markdown: str) -> str:
        parts = []
        for text, is_code in _with_fences_apart(markdown):
            if not is_code:
                text = _HEADING.sub(self._heading, text)
                text = readable_markdown(text, "both")
            parts.append(text)
        return formulas_as_mathml(spaced_lists("\n".join(parts)))

    def _heading(self, heading: re.Match[str]) -> str:
        marks, english, chinese = heading.groups()
        anchor = github_anchor(english if self.english_anchors or not chinese else f"{english} · {chinese}")
        self._anchors[anchor] += 1
        repeated = self._anchors[anchor] - 1
        text = chinese if chinese and self.language == "zh" else english
        return f"{marks} {text.strip()} {{#{anchor}{f'-{repeated}' if repeated else ''}}}"


def github_anchor(heading: str) -> str:
    """Returns the anchor that GitHub gives a heading: lower case, hyphens for spaces, no punctuation."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") or "section"


def _with_fences_apart(markdown: str) -> Iterator[tuple[str, bool]]:
    """Yields runs of lines, and whether each is a fenced block of code."""
    lines: list[str] = []
    fence: str | None = None
    for line in markdown.split("\n"):
        mark = _FENCE.match(line)
        if fence is None and mark:
            if lines:
                yield "\n".join(lines), False
            lines, fence = [line], mark[1]
        elif fence is not None and line.strip() == fence:
            yield "\n".join([*lines, line]), True
            lines, fence = [], None
        else:
            lines.append(line)
    if lines:
        yield "\n".join(lines), fence is not None


def spaced_lists(markdown: str) -> str:
    """Indents what belongs to list items by four spaces a level, and puts an empty line before lists."""
    lines: list[str] = []
    offsets: list[int] = []  # columns where the contents of the open items begin
    for text, is_code in _with_fences_apart(markdown):
        if is_code:
            _close_items(offsets, text)
            lines += [*(_moved(line, offsets) for line in text.split("\n")), ""]
            continue
        for line in text.split("\n"):
            if line.strip():
                _close_items(offsets, line)
                item = _ITEM.match(line)
                if item and (offsets or _begins_list(item[2], lines)):
                    if not offsets and lines and lines[-1].strip() and not _within_list(lines):
                        lines.append("")
                    lines.append(_moved(line, offsets))
                    offsets.append(item.end())
                    continue
            lines.append(_moved(line, offsets))
    return "\n".join(lines)


def _close_items(offsets: list[int], line: str) -> None:
    indent = len(line) - len(line.lstrip(" "))
    while offsets and indent < offsets[-1]:
        offsets.pop()


def _moved(line: str, offsets: list[int]) -> str:
    """Moves a line from the column of its item's content to four spaces a level."""
    if not line.strip():
        return ""
    indent = len(line) - len(line.lstrip(" "))
    return "    " * len(offsets) + line[min(indent, offsets[-1] if offsets else 0) :]


def _begins_list(marker: str, before: list[str]) -> bool:
    """Says whether a marker begins a list: within a paragraph, a number does only if it is 1."""
    if not before or not before[-1].strip() or _within_list(before):
        return True
    return not marker[0].isdecimal() or int(marker[:-1]) == 1


def _within_list(lines: list[str]) -> bool:
    """Says whether the paragraph that ends here belongs to a list item."""
    for line in reversed(lines):
        if not line.strip():
            return False
        if _ITEM.match(line):
            return True
    return False
