"""The API reference: a page for each module of dlcommon, rendered from its docstrings by mkdocstrings."""

import ast
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from dlcommon.runtime.localization import LocalizedText
from dlcommon.site.localized import REFERENCE, text_in
from dlcommon.site.markdown import PageText
from dlcommon.site.pages import Pages, relative

INDEX = "api/index.md"
README = PurePosixPath("packages/common/README.md")
_SOURCES = PurePosixPath("packages/common/src")
_MODULE = LocalizedText("Module", "模块")
_DOES = LocalizedText("What it does", "作用")


def all_modules(root: Path) -> dict[str, Path]:
    """Finds the modules of dlcommon that hold code, by name."""
    found = {}
    for path in sorted((root / _SOURCES).rglob("*.py")):
        if path.name != "__init__.py":
            found[".".join(path.relative_to(root / _SOURCES).with_suffix("").parts)] = path
    return found


def imported_modules(files: Iterable[Path], modules: dict[str, Path]) -> dict[str, Path]:
    """Selects the modules that these files import."""
    names = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name: path for name, path in modules.items() if name in names}


def place_reference(pages: Pages, modules: dict[str, Path]) -> None:
    pages.places[README] = INDEX
    for name, path in modules.items():
        pages.places[PurePosixPath(path.relative_to(pages.root).as_posix())] = f"api/{name}.md"


def write_reference(pages: Pages, modules: dict[str, Path]) -> None:
    """Writes the page of each module, and the overview with their first lines."""
    for name in modules:
        pages.write(f"api/{name}.md", f"# `{name}`\n\n::: {name}\n")
    introduction = (pages.root / README).read_text(encoding="utf-8").split("\n", 1)[1]
    text = pages.with_links(introduction, README, INDEX)
    lines = [PageText(pages.language).render(f"# {text_in(REFERENCE, pages.language)}\n{text}")]
    for package, names in by_package(modules).items():
        lines += ["", f"## `{package}` {{#{package}}}", ""]
        lines += [f"| {text_in(_MODULE, pages.language)} | {text_in(_DOES, pages.language)} |", "|---|---|"]
        for name in names:
            short = name.removeprefix(f"{package}.")
            lines.append(f"| [`{short}`]({relative(f'api/{name}.md', INDEX)}) | {_summary(modules[name])} |")
    pages.write(INDEX, "\n".join(lines) + "\n")


def by_package(modules: Iterable[str]) -> dict[str, list[str]]:
    """Groups modules by the package below dlcommon that they are in, such as `dlcommon.rnn`."""
    packages: dict[str, list[str]] = {}
    for name in modules:
        packages.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return packages


def _summary(path: Path) -> str:
    """Returns the first sentence of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split()).replace("|", "\\|")
