"""What a lesson's cells show, as parts of a page: tables, checks, figures, sources, questions and their answers."""

import html
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any

from dlcommon.runtime.localization import LocalizedText
from dlcommon.site.lesson_runs import Shown
from dlcommon.site.localized import SiteLanguage, part_in, text_in

_PREDICT = LocalizedText("Predict first", "先预测")
_ANSWER = LocalizedText("Answer", "答案")
_FIGURE = LocalizedText("Figure", "图")
_DIFFERENCE = LocalizedText("largest difference", "最大差")


def shown_as_markdown(
    shown: Iterable[Shown],
    language: SiteLanguage,
    questions: Mapping[str, dict[str, Any]],
    figure_address: Callable[[str], str],
    link: Callable[[str], str | None],
) -> str:
    """Renders what one cell shows.

    Args:
        shown: in order.
        language: the reader's.
        questions: the lesson's, by name.
        figure_address: returns the address of a figure's file, relative to the page.
        link: returns the address of a module's page in the API reference, or None where it has none.
    """
    parts = []
    for kind, group in groupby(shown, key=lambda each: each.kind):
        contents = [each.content for each in group]
        match kind:
            case "check":
                parts.append(_checks(contents, language))
            case "text":
                parts += [_printed(content["text"]) for content in contents]
            case "table":
                parts += [_table(content["rows"]) for content in contents]
            case "figure":
                parts += [_figure(content["name"], figure_address(content["name"]), language) for content in contents]
            case "source":
                parts += [_source(content, link(content["module"])) for content in contents]
            case "question":
                parts += [_question(content, language) for content in contents]
            case "answer":
                parts += [_answer(content, questions[content["name"]], language) for content in contents]
            case _:
                raise ValueError(f"lessons show no {kind!r}")
    return "\n\n".join(parts)


def _printed(text: str) -> str:
    shown = html.escape(textwrap.dedent(text).strip("\n"))
    return f'<div class="shown"><pre>{shown}</pre></div>'


def _checks(contents: list[dict[str, Any]], language: SiteLanguage) -> str:
    items = []
    for content in contents:
        more = (
            f" <small>({text_in(_DIFFERENCE, language)} {content['difference']})</small>"
            if "difference" in content
            else ""
        )
        items.append(f"<li>{html.escape(content['claim'])}{more}</li>")
    return f'<ul class="checks">{"".join(items)}</ul>'


def _table(rows: list[list[str]]) -> str:
    header, *body = rows
    numeric = [bool(body) and all(_is_number(row[column]) for row in body) for column in range(len(header))]

    def cells(row: list[str], tag: str) -> str:
        classes = [' class="number"' if right else "" for right in numeric]
        return "".join(f"<{tag}{kind}>{html.escape(text)}</{tag}>" for text, kind in zip(row, classes, strict=True))

    lines = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in body)
    return (
        f'<div class="shown table"><table class="shown-table"><thead><tr>{cells(header, "th")}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-−+]?[\d.,]+(e[-+]?\d+)?\s*%?|nan|inf|[-–]?", text) is not None


def _figure(name: str, address: str, language: SiteLanguage) -> str:
    words = name.removesuffix(".png").replace("-", " ")
    return (
        f'<figure class="shown"><img src="{html.escape(address)}" loading="lazy" '
        f'alt="{text_in(_FIGURE, language)}: {html.escape(words)}"></figure>'
    )


def _source(content: dict[str, Any], address: str | None) -> str:
    place = f"`{content['place']}`"
    return f"{f'[{place}]({address})' if address else place}\n\n```python\n{content['code']}\n```"


def _question(content: dict[str, Any], language: SiteLanguage) -> str:
    lines = [f'!!! question "{text_in(_PREDICT, language)}"', "", f"    {content[language]}", ""]
    for letter, text in zip("abcd", content["choices"].values(), strict=False):
        lines.append(f"    - {letter}) {html.escape(part_in(text, language))}")
    return "\n".join(lines)


def _answer(content: dict[str, Any], question: dict[str, Any], language: SiteLanguage) -> str:
    title = f"{text_in(_ANSWER, language)}: {question[language]}".replace('"', "'")
    shown = part_in(question["choices"].get(content["answer"], content["answer"]), language)
    return f'??? success "{title}"\n\n    **{html.escape(shown)}**'
