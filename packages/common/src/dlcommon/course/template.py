"""The template of a lesson: its sections, in order, and what each must hold. CONTRIBUTING.md tells it in full."""

import re

from dlcommon.course.cells import CHINESE, Cell, Section, parse_cells, sections
from dlcommon.course.exercises import has_exercise

SECTIONS = {
    "Problem": "问题",
    "By hand": "手算",
    "Formula": "公式",
    "Code": "代码",
    "Experiment": "实验",
    "Library": "与库对照",
    "Checks": "检验",
    "Use": "用处",
    "Exercise": "练习",
    "Interview": "面试",
}
"""First words of the headings of level 2; `: …` may follow, and a section may be repeated in its place."""

_LINE_ENDS = "。，；：、！？）”’》…—"


def follows_template(text: str) -> bool:
    """Checks whether a lesson follows the template, which it declares by having an exercise."""
    return has_exercise(parse_cells(text))


def template_problems(text: str) -> list[str]:
    """Lists how a lesson departs from the template, one sentence each."""
    cells = parse_cells(text)
    found = sections(cells)
    problems = [*_order(found), *_languages(cells)]
    by_name: dict[str, list[Section]] = {name: [] for name in SECTIONS}
    for section in found:
        by_name.setdefault(_name(section.english), []).append(section)

    def require(name: str, what: str, holds: object) -> None:
        if by_name[name] and not holds:
            problems.append(f"{name}: {what}")

    def code(name: str) -> str:
        return "\n".join(section.code() for section in by_name[name])

    def shown(name: str) -> str:
        return "\n".join(cell.text for section in by_name[name] for cell in section.cells if cell.kind == "markdown")

    before_experiment = code("By hand") + code("Code")
    require("By hand", "no figure or table", re.search(r"\b(show|table)\(", code("By hand")))
    require("Formula", "no displayed formula ($$ … $$)", "$$" in shown("Formula"))
    require("Formula", "symbols are not defined one by one ('- $x$: …')", shown("Formula").count("\n- $") >= 4)
    require("Code", "the module's own source is not shown with source(…)", "source(" in code("Code"))
    require("Experiment", "no table", "table(" in code("Experiment"))
    require("Library", "no code", code("Library").strip())
    require("Checks", "fewer than four checks", len(re.findall(r"\bcheck(?:_close)?\(", code("Checks"))) >= 4)
    require("Checks", "no equality with the library (check_close)", "check_close(" in code("Checks"))
    require("Use", "no command (`uv run …`)", "`uv run" in shown("Use"))
    require("Use", "no paper's or source's address", "](http" in shown("Use"))
    asked = re.findall(r"\bquiz\(\s*\"(.+?)\"", before_experiment + code("Experiment"))
    settled = re.findall(r"\bsettle\(\s*\"(.+?)\"", before_experiment + code("Experiment"))
    require(
        "Experiment", "two or three questions are asked with quiz(…) before what they concern", len(asked) in (2, 3)
    )
    require("Experiment", f"questions {asked} are asked, {settled} settled", sorted(asked) == sorted(settled))
    problems += _hints(by_name["Exercise"]) + _interview(by_name["Interview"])
    return problems


def _name(english: str) -> str:
    return english.split(":")[0].strip()


def _order(found: list[Section]) -> list[str]:
    names = [_name(section.english) for section in found]
    wanted = list(SECTIONS)
    problems = [f"there is no section `## {name} · {SECTIONS[name]}`" for name in wanted if name not in names]
    problems += [f"`## {name}` is no section of the template" for name in names if name not in SECTIONS]
    known = [wanted.index(name) for name in names if name in SECTIONS]
    if known != sorted(known):
        problems.append(f"the sections' order is {', '.join(names)}; it must be {', '.join(wanted)}")
    for section in found:
        chinese = SECTIONS.get(_name(section.english))
        if chinese is not None and re.split("[：:]", section.chinese)[0].strip() != chinese:
            problems.append(f"the Chinese of `## {section.english}` begins with {chinese}, not {section.chinese}")
    return problems


def _languages(cells: list[Cell]) -> list[str]:
    """Checks that an English cell is followed by a Chinese one with as many paragraphs, and how Chinese lines end.

    Prose in a cell for all readers is a problem, and so is a Chinese line that ends without punctuation.
    """
    problems = []
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        if cell.language == "en" and (after is None or after.language != "zh"):
            problems.append(f'line {cell.line}: the lang="en" cell is not followed by a lang="zh" cell')
        elif cell.language == "en" and after is not None:
            english, chinese = (len(re.split(r"\n\n|\n(?=- |\d+\. )", each.text)) for each in (cell, after))
            if english != chinese:
                problems.append(f"line {after.line}: {chinese} paragraphs in Chinese, {english} in English")
        if cell.kind == "markdown" and cell.language is None and _prose(cell.text):
            problems.append(f'line {cell.line}: prose in a cell for all readers; mark it lang="en" or "zh"')
        if cell.language == "zh":
            lines = cell.text.split("\n")
            for number, (line, below) in enumerate(zip(lines, [*lines[1:], ""], strict=True)):
                if re.search(rf"[{CHINESE}]$", line) and below.strip() and line[-1] not in _LINE_ENDS:
                    problems.append(f"line {cell.line + number}: a Chinese line ends within a sentence's part")
    return problems


def _prose(markdown: str) -> bool:
    """Checks whether a cell holds anything but headings and displayed formulas."""
    without_formulas = re.sub(r"\$\$.+?\$\$", "", markdown, flags=re.DOTALL)
    return any(line.strip() and not line.startswith("#") for line in without_formulas.split("\n"))


def _hints(found: list[Section]) -> list[str]:
    hints = [part for section in found for part in sections(section.cells, level=3) if part.english == "Hints"]
    if not found:
        return []
    if not hints:
        return ["Exercise: there is no `### Hints · 提示`"]
    short = [language for language in ("en", "zh") if len(numbered(hints[0].prose(language))) < 2]
    return [f"Exercise: fewer than two numbered hints in {language}" for language in short]


def numbered(markdown: str) -> list[str]:
    """Splits a numbered list into its entries, each with its number."""
    return [entry.strip() for entry in re.split(r"^(?=\d+\. )", markdown, flags=re.MULTILINE) if entry[:1].isdigit()]


def _interview(found: list[Section]) -> list[str]:
    questions = [part for section in found for part in sections(section.cells, level=3)]
    problems = [] if len(questions) >= 5 or not found else [f"Interview: {len(questions)} questions; at least five"]
    for question in questions:
        missing = [
            name
            for name, text in (
                ("English answer", question.prose("en")),
                ("Chinese answer", question.prose("zh")),
                ("cell that shows it", question.code()),
            )
            if not text.strip()
        ]
        problems += [f"Interview: {question.english} has no {name}" for name in missing]
    return problems
