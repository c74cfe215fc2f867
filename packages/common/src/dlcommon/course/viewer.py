"""A lesson in the terminal: Markdown rendered, formulas readable, code highlighted, sources shown in their place."""

import ast
import re
import textwrap
from typing import TYPE_CHECKING

from rich.markdown import Markdown
from rich.syntax import Syntax

from dlcommon.course.catalogue import Lesson
from dlcommon.course.cells import Cell, Language, readable_cells, readable_markdown
from dlcommon.course.formulas import readable_formulas, unicode_formula
from dlcommon.course.module_source import module_source

if TYPE_CHECKING:
    from rich.console import Console


def show_lesson(lesson: Lesson, language: Language, console: "Console") -> None:
    """Shows a whole lesson without running it; hints are left to `lesson hint`."""
    cells = lesson.cells()
    imports = _imports(next((cell.text for cell in cells if cell.kind == "code"), ""))
    hidden = False
    for cell in readable_cells(cells, language):
        if re.search(r"^#{1,3} ", cell.text, re.MULTILINE) and cell.kind == "markdown":
            hidden = re.search(r"^### (Hints|提示)", cell.text, re.MULTILINE) is not None
        if cell.kind == "code":
            hidden = False
            show_code(cell.text, console)
            for place, source in _shown_sources(cell, imports):
                console.print(f"[dim]{place}[/dim]")
                show_code(source, console)
        elif hidden:
            if cell.language is None:
                show_markdown(f"`uv run lesson hint {lesson.key}`", console)
        else:
            show_markdown(cell.text, console)


def show_markdown(markdown: str, console: "Console") -> None:

    console.print(Markdown(readable_formulas(markdown), code_theme="ansi_dark", inline_code_lexer=None))
    console.print()


def show_code(code: str, console: "Console") -> None:

    console.print(Syntax(code, "python", theme="ansi_dark", background_color="default", word_wrap=True, padding=(0, 2)))
    console.print()


def narration(cell: Cell, language: Language) -> str:
    """Returns what is said of a cell while a lesson runs: of Markdown its heading, formulas and first sentence."""
    if cell.kind == "code" or (cell.language is not None and language not in ("both", cell.language)):
        return ""
    text = readable_markdown(cell.text, language)
    headings = [line.lstrip("# ") for line in text.split("\n") if line.startswith("#")]
    prose = next((part for part in re.split(r"\n\s*\n", text) if part.strip() and not part.startswith(("#", "$$"))), "")
    sentence = re.match(r".+?(?:[.!?](?=\s|$)|[。！？])", " ".join(prose.split()))
    said = [f"\n== {heading}" for heading in headings]
    for formula in re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL):
        said += [f"    {line}" for line in unicode_formula(formula).split("\n") if line]
    if sentence and not prose.startswith(("- ", "1. ", "|")):
        shown = readable_formulas(sentence[0]).replace("\\", "")
        said += textwrap.wrap(shown, 100, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(said)


def _imports(code: str) -> dict[str, str]:
    """Maps each name that `from module import name` imports to its module."""
    statements = (node for node in ast.parse(code).body if isinstance(node, ast.ImportFrom))
    return {name.asname or name.name: node.module or "" for node in statements for name in node.names}


def _shown_sources(cell: Cell, imports: dict[str, str]) -> list[tuple[str, str]]:
    """Finds what the cell shows with `source(name)`: pairs of place and source."""
    shown = []
    for node in ast.walk(ast.parse(cell.text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "source":
            name = ast.unparse(node.args[0])
            module = module_source(imports[name.split(".")[0]])
            first, _ = module.lines_of(module.find(name))
            shown.append((f"{module.place}:{first}", module.source(name)))
    return shown
