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
RUNNABLE = [path for path in DOCUMENTS if BLOCK.search(path.read_text(encoding="utf-8"))]


def links(path: Path) -> list[str]:
    """Where the document's links and pictures point to, inside the repository."""
    prose = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [link for link in LINK.findall(prose) if "://" not in link]


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_its_code_runs_and_draws_its_figures(path, tmp_path, monkeypatch):
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
def test_its_links_lead_somewhere(path):
    assert [link for link in links(path) if not (DOCS / link).exists()] == []


@pytest.mark.parametrize("name", ["LINEAR_ALGEBRA_DL", "PROBABILITY_FOR_DL"])
def test_the_mathematics_opens_and_titles_its_sections_in_both_languages(name):
    text = BLOCK.sub("", (DOCS / f"{name}.md").read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    assert [heading for heading in headings if not re.search(r"[A-Za-z].* · .*[\u4e00-\u9fff]", heading)] == []
    opening = text.split("\n## ")[0]
    assert len(re.findall(r"[\u4e00-\u9fff]", opening)) >= 60, "the document opens with a summary in Chinese"


def test_every_committed_figure_is_shown():
    shown = {(DOCS / link).resolve() for path in DOCUMENTS for link in links(path)}
    assert [figure.name for figure in sorted((DOCS / "figures").glob("*.*")) if figure.resolve() not in shown] == []
