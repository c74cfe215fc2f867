"""The documents' own code: every Python block runs, in order, and draws the figures that the document shows.

`DL_FIGURES_DIR=$PWD/docs/figures uv run pytest packages/common/tests/test_documents.py` draws the committed ones again.
"""

import ast
import os
import re
import tomllib
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from dlcommon.course.reading import READINGS

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


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_the_code_that_it_names_is_defined_in_the_file_that_it_links(path: Path) -> None:
    named = re.findall(r"\[`([A-Za-z_]\w*)`\]\(([^)#\s]+\.py)\)", BLOCK.sub("", path.read_text(encoding="utf-8")))
    defined = {link: _definitions(DOCS / link) for _, link in named}
    assert [(name, link) for name, link in named if name not in defined[link] | {Path(link).stem}] == []


def _definitions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def test_the_survey_cites_each_paper_by_one_name_and_by_a_year_that_its_number_allows() -> None:
    text = (DOCS / "FRONTIER_SURVEY.md").read_text(encoding="utf-8")
    cited = re.findall(r"\[([^\]]+)\]\(https://arxiv\.org/abs/(\d{2})(\d{2}\.\d{4,5})\)(?:\s\((\d{4})\))?", text)
    assert len(cited) > 80
    names: dict[str, str] = {}
    for label, year, rest, after in cited:
        assert (written := re.search(r"(20\d\d)$", label) or re.match(r"(20\d\d)$", after)), f"{label} has no year"
        # A paper's year is that of its preprint, or of its conference: up to two years later, seldom a month before.
        assert -1 <= int(written[1]) - 2000 - int(year) <= 2, f"{label}: {year}{rest}"
        names.setdefault(year + rest, label)
    papers = tomllib.loads((DOCS.parent / "packages/common/lessons/papers.toml").read_text(encoding="utf-8"))
    for key, paper in papers.items():
        number = (paper.get("url") or READINGS[key].address).rpartition("arxiv.org/abs/")[2]
        if number in names:
            assert names[number].startswith(paper["cite"].split(" et al")[0].split(" & ")[0].split()[0]), (
                names[number],
                paper,
            )


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
