"""The knowledge base: every lesson's concepts are there, right, and found; the document is rendered from them."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from dlcommon.course import catalogue, cli
from dlcommon.course.concepts import FILE, PAPERS_FILE, Concept, all_concepts, search
from dlcommon.course.concepts_page import concepts_document, render
from dlcommon.course.formulas import unicode_formula
from dlcommon.runtime.errors import UsageError, UserError
from pylatexenc.latexwalker import LatexWalker

CONCEPTS = all_concepts()
CHECKED = [concept for concept in CONCEPTS if concept.entry.check]


def test_every_lesson_declares_its_concepts() -> None:
    declared = Counter(concept.lesson for concept in CONCEPTS)
    for lesson in catalogue.all_lessons():
        path = f"packages/common/lessons/{lesson.phase.folder}/{FILE}"
        advice = f"write three or more [[{lesson.path.stem}]] entries into {path}, then `uv run lesson render`"
        assert declared[lesson] >= 3, f"{lesson.key} declares {declared[lesson]} concepts: {advice}"


def test_each_concept_stands_there_once_and_is_found_by_its_names() -> None:
    assert [name for name, count in Counter(concept.anchor for concept in CONCEPTS).items() if count > 1] == []
    names = Counter(name for concept in CONCEPTS for name in set(concept.names))
    assert [name for name, count in names.items() if count > 1] == [], "two concepts have this name"
    assert [name for concept in CONCEPTS for name in concept.names if search(name, CONCEPTS) != [concept]] == []


def test_every_concept_has_code_of_ours_that_exists() -> None:
    for concept in CONCEPTS:
        place = concept.place()
        assert place is not None or concept.entry.check, f"{concept.name}: state its code, or a check"
        assert place is None or place.path.is_file()
        assert not concept.entry.line or concept.entry.code, f"{concept.name}: a line of what code?"


def test_every_formula_can_be_read_on_the_page_and_in_the_terminal() -> None:
    for concept in CONCEPTS:
        LatexWalker(concept.entry.formula, tolerant_parsing=False).get_latex_nodes()
        shown = unicode_formula(concept.entry.formula)
        assert re.search(r"\\[a-zA-Z]|\$", shown) is None, f"{concept.name}: {shown}"
        escapes = re.findall(r"\\[^a-zA-Z ]", concept.entry.formula)
        assert escapes == [], f"{concept.name}: Markdown would take {escapes} for an escape"
        macros = set(re.findall(r"\\[a-zA-Z]+", concept.entry.formula)) - LAYOUT
        lost = [macro for macro in macros if unicode_formula(macro + "{a}{b}").replace(" ", "") in ("", "a", "ab")]
        assert lost == [], f"{concept.name}: the terminal cannot show {lost}"


LAYOUT = {rf"\{name}" for name in ("text", "mathrm", "quad", "qquad", "big", "Big", "left", "right")}
"""Macros that show nothing of their own."""


def test_sentences_are_in_their_language_and_end() -> None:
    for concept in CONCEPTS:
        assert re.search("[\u4e00-\u9fff]", concept.sentence.en) is None, concept.name
        assert len(re.findall("[\u4e00-\u9fff]", concept.sentence.zh)) >= 8, concept.name
        assert concept.sentence.en.endswith("."), concept.name
        assert concept.sentence.zh.endswith("。"), concept.name
        assert re.search("[\u4e00-\u9fff] ?[,;:.?](?!\\w)", concept.sentence.zh) is None, (
            "Chinese has its own punctuation"
        )


def test_papers_have_a_lasting_address_and_are_cited() -> None:
    cited = {concept.citation for concept in CONCEPTS if concept.citation}
    hosts = r"doi\.org|arxiv\.org/abs|proceedings\.mlr\.press|jmlr\.org|papers\.nips\.cc|inria\.hal\.science"
    others = r"otexts\.com|www\.deeplearningbook\.org|www\.cs\.toronto\.edu|cdn\.openai\.com"
    assert [paper for paper in cited if not re.match(rf"https://({hosts}|{others})/", paper.address)] == []
    assert len({paper.address for paper in cited}) == len(cited), "a paper stands in papers.toml twice"
    waiting = set(re.findall(r'^paper = "(.+)"', _all_files(), re.MULTILINE))
    listed = set(re.findall(r"^\[(.+)\]$", (catalogue.lessons_folder() / PAPERS_FILE).read_text("utf-8"), re.M))
    assert listed == waiting


def _all_files() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in catalogue.lessons_folder().glob(f"*/{FILE}"))


@pytest.mark.parametrize("concept", CHECKED, ids=[concept.anchor for concept in CHECKED])
def test_its_snippet_runs_by_itself_and_holds(concept: Concept) -> None:
    mpl.use("Agg")
    torch.manual_seed(0)
    random.seed(0)
    exec(compile(concept.entry.check, f"{concept.lesson.phase.folder}/{FILE}: {concept.name}", "exec"), {})
    assert re.search(r"^ *(assert|np\.testing\.assert|torch\.testing\.assert)", concept.entry.check, re.MULTILINE)


def test_the_committed_document_is_up_to_date_and_its_index_leads_to_entries() -> None:
    text = render(CONCEPTS)
    assert concepts_document().read_text(encoding="utf-8") == text, "type `uv run lesson render`"
    assert set(re.findall(r"\]\(#(.+?)\)", text)) == set(re.findall(r'<a id="(.+?)">', text))


LESSON = "# %% [markdown]\n# # A title · 标题\n"
ENTRY = """[[01-rnn-basics]]
name = "Recurrent cell · 循环单元"
also = ["RNN cell", "单元"]
en = "One step of a recurrent network, with $W$."
zh = "循环网络的一个时间步。"
formula = 'h_t = \\tanh(W x_t)'
code = "rnn.cells:rnn_cell"
line = "torch.tanh("
paper = "lstm"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a checkout with two lessons and one concept; returns its lessons' folder."""
    lessons = tmp_path / "packages" / "common" / "lessons"
    (lessons / "06-rnn").mkdir(parents=True)
    for name in ("01-rnn-basics", "02-bptt"):
        (lessons / "06-rnn" / f"{name}.py").write_text(LESSON, encoding="utf-8")
    (lessons / PAPERS_FILE).write_text('[lstm]\ncite = "H & S 1997"\ntitle = "LSTM"\n', encoding="utf-8")
    (lessons / "06-rnn" / FILE).write_text(ENTRY, encoding="utf-8")
    monkeypatch.setattr(catalogue, "lessons_folder", lambda: lessons)
    return lessons


def test_a_concept_is_read_with_its_code_and_paper(folder: Path) -> None:
    (concept,) = all_concepts()
    place = concept.place()
    assert place is not None
    assert (place.path.name, place.text) == ("cells.py", "return (torch.tanh(from_input + from_hidden),)")
    assert place.path.read_text(encoding="utf-8").split("\n")[place.number - 1].strip() == place.text
    assert concept.citation is not None
    assert concept.citation.address == "https://doi.org/10.1162/neco.1997.9.8.1735", "as on the reading list"


@pytest.mark.parametrize(
    ("pattern", "replacement", "problem"),
    [
        ("01-rnn-basics", "99-other", r"\[\[99-other\]\] is no lesson of this phase; it has 01-rnn-basics"),
        (" · 循环单元", "", "name: String should match"),
        ("en = ", "english = ", "en: Field required; english: Extra inputs"),
        ("循环网络的一个时间步。", "only English", "zh: String should match"),
        ('"lstm"', '"gru"', "'gru' is missing from .*papers.toml"),
        ("also = [", "also = ", r"concepts\.toml: .*line 3"),
        ("rnn_cell", "no_cell", "Recurrent cell: code = 'rnn.cells:no_cell': .* defines no no_cell"),
        ("rnn.cells", "rnn.nothing", "there is no module dlcommon.rnn.nothing"),
        ("torch.tanh(", "torch.relu(", "0 lines hold line = 'torch.relu"),
        ("torch.tanh(", "hidden", r"\d lines hold line = 'hidden'; quote a part that one line"),
    ],
)
def test_what_is_wrong_is_told(folder: Path, pattern: str, replacement: str, problem: str) -> None:
    assert pattern in ENTRY
    (folder / "06-rnn" / FILE).write_text(ENTRY.replace(pattern, replacement), encoding="utf-8")
    with pytest.raises(UserError, match=problem):
        render(all_concepts())


def test_entries_of_a_lesson_to_come_wait_for_it(folder: Path) -> None:
    path = folder / "06-rnn" / FILE
    path.write_text(ENTRY + ENTRY.replace("01-rnn-basics", "03-vanishing-gradient"), encoding="utf-8")
    assert [concept.lesson.key for concept in all_concepts()] == ["06/01"]


def test_a_term_is_found_in_either_language(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for term in ("recurrent CELL", "rnn cell", "单元", "循环网络"):
        assert cli.main(["concepts", term, "--language", "zh"]) == 0
        shown = capsys.readouterr().out
        assert "循环网络的一个时间步" in shown
        assert "hₜ = tanh(W xₜ)" in shown
        assert re.search(r"cells\.py:\d+", shown)
    assert "One step" not in shown
    assert cli.main(["concepts", "cell", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["concepts"]
    assert found["code"]["text"] == "return (torch.tanh(from_input + from_hidden),)"
    assert (found["lesson"], found["paper"]["cite"], found["check"]) == ("06/01", "H & S 1997", None)


def test_without_a_term_the_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["concepts"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Bias correction · 偏差修正" in shown
    assert f"{len(CONCEPTS)} concepts" in shown


def test_a_term_that_nothing_has_is_told_with_those_like_it(folder: Path) -> None:
    with pytest.raises(UsageError, match="by 'recurent cell'; perhaps Recurrent cell · 循环单元"):
        cli.main(["concepts", "recurent cell"])
    with pytest.raises(UsageError, match="`lesson concepts` lists all"):
        cli.main(["concepts", "blockchain"])


def test_the_document_is_rendered_with_the_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"CONCEPTS\.md: out of date; `uv run lesson render`"):
        cli.main(["render", "--check"])
    assert cli.main(["render"]) == 0
    text = concepts_document().read_text(encoding="utf-8")
    assert "$$h_t = \\tanh(W x_t)$$" in text
    assert "`return (torch.tanh(from_input + from_hidden),)` in [`rnn.cells.rnn_cell`](" in text
    assert "[H & S 1997](https://doi.org/10.1162/neco.1997.9.8.1735), *LSTM* · also · 又称 RNN cell, 单元" in text
    assert cli.main(["render", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["concepts"] == 1


def test_a_page_for_readers_of_one_language_spares_them_the_other(folder: Path) -> None:
    english, chinese = (render(all_concepts(), language) for language in ("en", "zh"))
    assert "One step of" in english
    assert "循环网络的一个时间步" not in english
    assert "按拼音" not in english
    assert "循环网络的一个时间步" in chinese
    assert "One step of" not in chinese
    assert "also · 又称 Recurrent cell, RNN cell" in chinese
