"""The documents' own code: every Python block runs, in order, and draws the figures that the document shows.

`DL_FIGURES_DIR=$PWD/docs/figures uv run pytest packages/common/tests/test_documents.py` draws the committed ones again.
"""

import os
import re
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
DOCUMENTS = sorted(DOCS.glob("*.md"))
# Code in INTERVIEW.md is rendered from the lessons and runs there, after the cells that it builds on.
RUNNABLE = [p for p in DOCUMENTS if BLOCK.search(p.read_text(encoding="utf-8")) and p.stem != "INTERVIEW"]


def links(path: Path) -> list[str]:
    """Where the links and pictures of a document or lesson point to, inside the repository."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":  # a lesson, whose prose is in comments
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`\n]*`", "code", prose)  # an index and a call, `layers[0](x)`, are no link
    return [link for link in LINK.findall(prose) if "://" not in link]


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_its_code_runs_and_draws_its_figures(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Path(os.environ.get("DL_FIGURES_DIR", tmp_path / "figures")).absolute()
    figures.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("DL_FIGURES_DIR", str(figures))
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    text = path.read_text(encoding="utf-8")
    namespace = {"__name__": path.stem}
    with mpl.rc_context():
        for block in BLOCK.finditer(text):
            above = text.count("\n", 0, block.start(1))  # so that a traceback names the document's own line
            exec(compile("\n" * above + block[1], str(path), "exec"), namespace)
        assert not plt.get_fignums(), "a figure was drawn and not shown"
    assert "\nassert " in text or "\n    assert " in text, "code in a document holds what the document says"
    shown = {link for link in links(path) if link.startswith("figures/")}
    assert {f"figures/{figure.name}" for figure in figures.iterdir()} >= shown
    assert set(re.findall(r'show\(\w+, "([\w-]+)"\)', text)) == {Path(figure).stem for figure in shown}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_its_links_lead_somewhere(path: Path) -> None:
    assert [link for link in links(path) if not (DOCS / link).exists()] == []


def test_both_readmes_link_every_document() -> None:
    chinese = {path.name for path in DOCUMENTS if path.name.endswith(".zh-CN.md")}
    english = {path.name for path in DOCUMENTS} - chinese
    translated = {name if (own := name.replace(".md", ".zh-CN.md")) not in chinese else own for name in english}
    for readme, wanted in (("README.md", english), ("README.zh-CN.md", translated)):
        linked = links(DOCS.parent / readme)
        assert [name for name in sorted(wanted) if f"docs/{name}" not in linked] == []


def test_lessons_link_the_documents_that_name_them_and_their_links_lead_somewhere() -> None:
    lessons = DOCS.parent / "packages" / "common" / "lessons"
    linked = {path: [(path.parent / link).resolve() for link in links(path)] for path in lessons.rglob("*.py")}
    assert [(path, link) for path, found in linked.items() for link in found if not link.exists()] == []
    for document in DOCUMENTS:
        behind = re.search(r"^The lessons behind it: (.*?)\n\n", document.read_text(encoding="utf-8"), re.M | re.S)
        for link in LINK.findall(behind[1]) if behind else []:
            assert document.resolve() in linked[(DOCS / link).resolve()], f"{link} does not link {document.name}"


@pytest.mark.parametrize("name", ["LINEAR_ALGEBRA_DL", "PROBABILITY_FOR_DL"])
def test_the_mathematics_opens_and_titles_its_sections_in_both_languages(name: str) -> None:
    text = BLOCK.sub("", (DOCS / f"{name}.md").read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    assert [heading for heading in headings if not re.search(r"[A-Za-z].* · .*[\u4e00-\u9fff]", heading)] == []
    opening = text.split("\n## ")[0]
    assert len(re.findall(r"[\u4e00-\u9fff]", opening)) >= 60, "the document opens with a summary in Chinese"


def test_every_committed_figure_is_shown() -> None:
    shown = {(DOCS / link).resolve() for path in DOCUMENTS for link in links(path)}
    assert [figure.name for figure in sorted((DOCS / "figures").glob("*.*")) if figure.resolve() not in shown] == []
