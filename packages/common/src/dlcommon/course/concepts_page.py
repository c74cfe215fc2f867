"""The knowledge base on the page and in the terminal: `docs/CONCEPTS.md`, and the answer of `lesson concepts`."""

import difflib
import os
from itertools import groupby
from pathlib import Path

from rich.console import Console

from dlcommon.course import catalogue
from dlcommon.course.cells import Language
from dlcommon.course.concepts import Concept, search
from dlcommon.course.plan import PHASES
from dlcommon.course.viewer import show_code, show_markdown
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.output import Output

LISTED = 6
"""So many concepts are shown in full; of more, only the names."""

_RARE = str.maketrans("熵", "商")
"""Characters that GB 2312 does not sort by their sound, and common ones that sound alike."""


INTRODUCTION = LocalizedText(
    "Each concept of the course once: a sentence, the formula, the line of our code, the lesson, the paper. "
    "`uv run lesson render` writes this page from the `concepts.toml` of each phase; tests find the code, and run the "
    "snippets. `uv run lesson concepts TERM` looks a term up, in English or Chinese.",
    "课程中的每个概念只出现一次：一句话、公式、对应的那行代码、课程与论文。由 `uv run lesson render` 根据各阶段的 "
    "`concepts.toml` 生成，测试会核对代码并执行片段；`uv run lesson concepts 术语` 可在终端中查找（中英文均可）。",
)


def render(concepts: list[Concept], language: Language = "both") -> str:
    """Renders `docs/CONCEPTS.md`, or a page for readers of one language: an index, then the concepts by lesson."""
    lines = ["# Concepts · 概念", "", *_in(INTRODUCTION, language), "", "## Index · 索引"]
    if language != "zh":
        by_english = sorted(concepts, key=lambda concept: concept.name.en.lower())
        for letter, group in groupby(by_english, key=lambda concept: concept.name.en[0].upper()):
            lines += ["", f"**{letter}** " + " · ".join(f"[{each.name.en}](#{each.anchor})" for each in group)]
    if language != "en":
        # The common characters of GB 2312 are in the order of their pinyin.
        by_chinese = sorted(concepts, key=lambda each: each.name.zh.lower().translate(_RARE).encode("gb18030"))
        chinese = " · ".join(f"[{each.name.zh}](#{each.anchor})" for each in by_chinese)
        lines += ["", f"**中文（按拼音）** {chinese}"]
    for phase in PHASES:
        of_phase = [concept for concept in concepts if concept.lesson.phase == phase]
        if of_phase:
            lines += ["", f"## {phase.number} · {phase.title}"]
        for lesson, group in groupby(of_phase, key=lambda concept: concept.lesson):
            lines += ["", f"### {lesson.key} {lesson.title}"]
            for concept in group:
                lines += ["", *_markdown(concept, language)]
    return "\n".join(lines) + "\n"


def _in(text: LocalizedText, language: Language) -> list[str]:
    return {"en": [text.en], "zh": [text.zh], "both": [text.en, "", text.zh]}[language]


def _markdown(concept: Concept, language: Language) -> list[str]:
    entry, place = concept.entry, concept.place()
    lines = [f'<a id="{concept.anchor}"></a>', "", f"#### {_title(concept)}", "", *_in(concept.sentence, language)]
    if entry.formula:
        lines += ["", f"$${entry.formula}$$"]
    references = []
    if place is not None:
        link = Path(os.path.relpath(place.path, concepts_document().parent)).as_posix()
        quoted = f"`{place.text}` in " if place.text else ""
        references.append(f"{quoted}[`{entry.code.replace(':', '.')}`]({link})")
    references.append(f"[{concept.lesson.key}](../packages/common/lessons/{concept.lesson.name}.py)")
    if concept.citation is not None:
        cited = concept.citation
        references.append(f"[{cited.label}]({cited.address}), *{cited.title}*")
    # A page in one language keeps the other's name, which readers meet in code and papers.
    others = {"en": [concept.name.zh], "zh": [concept.name.en], "both": []}[language]
    if also := [name for name in (*others, *entry.also) if name != getattr(concept.name, language, None)]:
        references.append("also · 又称 " + ", ".join(also))
    lines += ["", " · ".join(references)]
    if entry.check:
        lines += ["", "```py", entry.check, "```"]  # run by the document's own test, each by itself
    return lines


def _title(concept: Concept) -> str:
    return concept.name.en if concept.name.en == concept.name.zh else str(concept.name)


def concepts_document() -> Path:
    """Returns the path of `docs/CONCEPTS.md` in the checkout."""
    return catalogue.lessons_folder().parents[2] / "docs" / "CONCEPTS.md"


def show_concepts(term: str, concepts: list[Concept], language: Language, output: Output) -> int:
    """Prints the concepts that a term finds, or the names of all if it is empty.

    Raises:
        UsageError: nothing is found.
    """
    found = search(term, concepts) if term.strip() else concepts
    if not found:
        names = {name: concept for concept in concepts for name in concept.names}
        close = dict.fromkeys(str(names[name].name) for name in difflib.get_close_matches(term.lower(), names, 5, 0.5))
        advice = f"perhaps {', '.join(close)}" if close else "`lesson concepts` lists all"
        raise UsageError(f"no concept is found by {term!r}; {advice}")
    if output.as_json:
        output.result({"concepts": [_data(concept) for concept in found]})
        return 0
    console = Console()
    if len(found) <= LISTED:
        for concept in found:
            _show(concept, language, console)
        return 0
    for lesson, group in groupby(found, key=lambda concept: concept.lesson):
        console.print(f"[bold]{lesson.key}[/bold]  {', '.join(map(_title, group))}", highlight=False)
    console.print(f"{len(found)} concepts; `lesson concepts TERM` shows one · 共 {len(found)} 个概念", markup=False)
    return 0


def _show(concept: Concept, language: Language, console: Console) -> None:
    entry, place = concept.entry, concept.place()
    also = f"  ({', '.join(entry.also)})" if entry.also else ""
    console.print(f"\n[bold]{_title(concept)}[/bold]{also}", highlight=False)
    text = "\n".join(_in(concept.sentence, language))
    show_markdown(f"{text}\n\n$${entry.formula}$$" if entry.formula else text, console)
    if place is not None:
        console.print(f"  {os.path.relpath(place.path)}:{place.number}", highlight=False, markup=False)
        show_code(place.text, console) if place.text else None
    if entry.check:
        show_code(entry.check, console)
    console.print(f"  uv run lesson read {concept.lesson.key}", highlight=False)
    if concept.citation is not None:
        cited = concept.citation
        console.print(f"  {cited.label}: {cited.title}, {cited.address}", highlight=False, markup=False)


def _data(concept: Concept) -> dict[str, object]:
    place, cited = concept.place(), concept.citation
    return {
        "name": {"en": concept.name.en, "zh": concept.name.zh},
        "also": list(concept.entry.also),
        "sentence": {"en": concept.sentence.en, "zh": concept.sentence.zh},
        "formula": concept.entry.formula or None,
        "code": None if place is None else {"path": str(place.path), "line": place.number, "text": place.text},
        "lesson": concept.lesson.key,
        "paper": None if cited is None else {"cite": cited.label, "title": cited.title, "address": cited.address},
        "check": concept.entry.check or None,
    }
