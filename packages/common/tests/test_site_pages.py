"""The site's pages: Markdown as its generator reads it, links, formulas, and what lessons show."""

from pathlib import Path, PurePosixPath

import pytest
from dlcommon.course.catalogue import Lesson, all_lessons
from dlcommon.course.plan import PHASES
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.output import Output
from dlcommon.runtime.run_directory import workspace_root
from dlcommon.site.formulas import characters_of, write_font
from dlcommon.site.lesson_pages import write_lesson
from dlcommon.site.lesson_runs import Shown, is_current, run_lessons, stored_run
from dlcommon.site.links import link_problems
from dlcommon.site.localized import LANGUAGES, SiteLanguage
from dlcommon.site.markdown import PageText, github_anchor, spaced_lists
from dlcommon.site.pages import Pages
from dlcommon.site.shown import shown_as_markdown

LESSON = """# %% [markdown]
# # Doubling · 加倍

# %% [markdown] lang="en"
# Twice $x$ is *even*.

# %% [markdown] lang="zh"
# $x$ 的两倍是*偶数*，
# 总是如此。

# %% [markdown]
# ## Formula · 公式
#
# $$y = 2 \\cdot x_i$$

# %%
import matplotlib.pyplot as plt
from dlcommon.course.lesson import check, check_close, quiz, settle, show, source, table
from dlcommon.runtime.files import sha256

# %%
quiz("twice", en="What is 2 · 3?", zh="2 · 3 是多少？", choices={"five": "five · 五", "six": "six · 六"})
source(sha256)

# %%
print("  begins <here>")
table(["x", "name"], [(1.5, "a<b")])
settle("twice", "six")
show(plt.figure(), "empty")
check("it is even", True)
check_close("and equal", [1.0], [1.0])
"""


@pytest.fixture
def lesson(tmp_path: Path) -> Lesson:
    """A lesson outside the checkout."""
    path = tmp_path / "lessons" / "03-pytorch" / "01-tensor-basics.py"
    path.parent.mkdir(parents=True)
    path.write_text(LESSON, encoding="utf-8")
    return Lesson(PHASES[2], path)


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    return Pages(tmp_path, tmp_path / "pages", "en")


@pytest.mark.parametrize(
    ("github", "python_markdown"),
    [
        ("text\n- a\n- b", "text\n\n- a\n- b"),
        (
            "1. a\n   more\n\n   ```py\n   x\n     y\n   ```\n2. b",
            "1. a\n    more\n\n    ```py\n    x\n      y\n    ```\n\n2. b",
        ),
        ("- a\n  - b\n    c\n- d", "- a\n    - b\n        c\n- d"),
        ("It appeared in\n1997. Then", "It appeared in\n1997. Then"),
        ("```\ntext\n- a\n```\nb", "```\ntext\n- a\n```\n\nb"),
        ("- a\n\nText", "- a\n\nText"),
    ],
)
def test_lists_are_spaced_as_the_generator_reads_them(github: str, python_markdown: str) -> None:
    assert spaced_lists(github) == python_markdown


@pytest.mark.parametrize(
    ("language", "expected"),
    [("en", "## A `b` {#a-b--甲}\n## A `b` {#a-b--甲-1}"), ("zh", "## 甲 {#a-b--甲}\n## 甲 {#a-b--甲-1}")],
)
def test_headings_are_in_one_language_and_keep_their_anchors(language: SiteLanguage, expected: str) -> None:
    assert PageText(language).render("## A `b` · 甲\n## A `b` · 甲") == expected
    assert PageText(language, english_anchors=True).render("# A: b · 甲").endswith("{#a-b}")
    assert PageText(language).render("```\n# a · 甲\n```") == "```\n# a · 甲\n```\n"
    assert github_anchor("A capstone's rooms") == "a-capstones-rooms"


def test_formulas_become_mathml_that_markdown_leaves_alone() -> None:
    pytest.importorskip("latex2mathml")
    text = PageText("en").render("`$a$` and $a * b_*$ and\n\n$$\\arg\\max_i x_i$$")
    assert text.startswith('`$a$` and <span class="formula-inline"><math')
    assert 'display="block"' in text
    assert "*" not in text
    with pytest.raises(UserError, match=r"\\nonsense"):
        PageText("en").render("$\\nonsense{x}$")


def test_the_font_holds_what_formulas_show_and_what_browsers_draw(tmp_path: Path) -> None:
    pytest.importorskip("ziamath")
    from fontTools.ttLib import TTFont

    write_font(tmp_path / "font.woff", characters_of(PageText("en").render("$\\sum_i h_i$")))
    with TTFont(tmp_path / "font.woff") as font:
        held = set(map(chr, font.getBestCmap()))
        assert "MATH" in font
    assert {"∑", "ℎ", "𝑖", "√"} <= held
    assert "∫" not in held
    assert (tmp_path / "font.woff").stat().st_size < 100_000


def test_links_lead_to_pages_and_missing_files_are_errors(pages: Pages, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "plot.png").write_bytes(b"picture")
    (tmp_path / "code.py").write_text("x = 1\n")
    pages.places[PurePosixPath("lessons/01.py")] = "course/01.md"
    source, page = PurePosixPath("docs/A.md"), "documents/a.md"
    text = (
        "[l](../lessons/01.py#top) ![p](plot.png) [c](../code.py) [w](https://w.org) [h](#here)\n```\n[x](no.md)\n```"
    )
    assert pages.with_links(text, source, page) == (
        "[l](../course/01.md#top) ![p](../files/docs/plot.png) [c](../files/code.py.md) [w](https://w.org) [h](#here)\n"
        "```\n[x](no.md)\n```"
    )
    assert (pages.folder / "files" / "docs" / "plot.png").read_bytes() == b"picture"
    assert "```python\nx = 1" in (pages.folder / "files" / "code.py.md").read_text()
    with pytest.raises(UserError, match=r"docs/A.md links to docs/no.md, which is no file"):
        pages.with_links("[x](no.md)", source, page)


def test_a_lesson_runs_once_until_it_changes(lesson: Lesson, tmp_path: Path) -> None:
    assert stored_run(lesson, tmp_path) is None
    run_lessons([lesson], tmp_path, Output())
    assert is_current(lesson, tmp_path)
    run = stored_run(lesson, tmp_path)
    assert run is not None
    assert (run.folder / "empty.png").is_file()
    kinds = [[shown.kind for shown in cell] for cell in run.cells.values()]
    assert kinds == [["question", "source"], ["text", "table", "answer", "figure", "check", "check"]]
    lesson.path.write_text(f"{LESSON}# changed\n", encoding="utf-8")
    assert not is_current(lesson, tmp_path)
    assert stored_run(lesson, tmp_path) == run, "without running, a page shows what there is"


def test_a_lesson_that_fails_stores_nothing(lesson: Lesson, tmp_path: Path) -> None:
    lesson.path.write_text(LESSON.replace('"it is even", True', '"it is even", False'), encoding="utf-8")
    with pytest.raises(UserError, match="03/01 does not pass: does not hold: it is even"):
        run_lessons([lesson], tmp_path / "runs", Output())
    assert list((tmp_path / "runs").rglob("*.*")) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_lessons_page_is_in_one_language_and_holds_what_it_showed(
    lesson: Lesson, tmp_path: Path, language: SiteLanguage
) -> None:
    pytest.importorskip("latex2mathml")
    run_lessons([lesson], tmp_path / "runs", Output())
    pages = Pages(tmp_path, tmp_path / "pages", language)
    write_lesson(pages, lesson, stored_run(lesson, tmp_path / "runs"))
    text = (pages.folder / "course" / "03-pytorch" / "01-tensor-basics.md").read_text(encoding="utf-8")
    mine, other = ("加倍", "Doubling") if language == "zh" else ("Doubling", "加倍")
    assert text.startswith(f"# {mine} {{#doubling}}")
    assert other not in text
    assert ("是*偶数*，总是如此" in text) == (language == "zh")
    assert '<img src="../../../figures/03-pytorch/01-tensor-basics/empty.png"' in text
    assert '<td class="number">1.5</td><td>a&lt;b</td>' in text
    assert "begins &lt;here&gt;" in text
    assert ("- b) 六" if language == "zh" else "- b) six") in text
    assert "def sha256" in text
    assert "source(sha256)" not in text, "what it shows stands in its place"
    assert text.count("<li>") == 2


def test_without_a_run_a_page_says_so_and_keeps_all_code(lesson: Lesson, pages: Pages) -> None:
    pytest.importorskip("latex2mathml")
    write_lesson(pages, lesson, None)
    text = (pages.folder / "course" / "03-pytorch" / "01-tensor-basics.md").read_text(encoding="utf-8")
    assert "built without running the lesson" in text
    assert "source(sha256)" in text


def test_what_lessons_show_is_known_by_kind() -> None:
    with pytest.raises(ValueError, match="sound"):
        shown_as_markdown([Shown("sound", {})], "en", {}, str, lambda _: None)


def test_broken_links_of_a_built_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<p id="here"></p>')
    good = '<a href="b.html#here"></a><a href="https://w.org"></a><a href="#top" id="top"></a><img src="data:,x">'
    (tmp_path / "a.html").write_text(good)
    assert link_problems(tmp_path) == []
    bad = ["c.html", "b.html#there", "../../../x", "#nowhere"]
    (tmp_path / "a.html").write_text("".join(f'<a href="{address}"></a>' for address in bad))
    (tmp_path / "b.html").write_text('<img src="missing.png"><script src="https://cdn.org/x.js"></script>')
    problems = "\n".join(link_problems(tmp_path))
    for address in (*bad, "missing.png", "https://cdn.org/x.js"):
        assert f": {address} " in problems


@pytest.mark.skipif(workspace_root(Path(__file__)) is None, reason="needs the workspace")
def test_every_page_of_both_languages_can_be_written(tmp_path: Path) -> None:
    """Links of all documents and lessons lead to files, and all formulas can be converted."""
    pytest.importorskip("latex2mathml")
    pytest.importorskip("ziamath")
    from dlcommon.site.build import Contents, write_pages
    from dlcommon.site.generator import Project
    from dlcommon.site.reference import all_modules

    root = workspace_root(Path(__file__))
    assert root is not None
    lessons, modules = all_lessons(), all_modules(root)
    for language in LANGUAGES:
        write_pages(root, Contents(lessons, modules), tmp_path, Project(tmp_path / language, language))
    (concepts,) = (tmp_path / "zh").rglob("concepts.md")
    assert "课程中的每个概念" in concepts.read_text(encoding="utf-8")
    assert "Each concept of the course" not in concepts.read_text(encoding="utf-8")
    english, chinese = (
        {path.relative_to(tmp_path / each) for path in (tmp_path / each).rglob("*.md")} for each in LANGUAGES
    )
    assert english == chinese, "the switch of languages leads to the same page"
    assert len(english) >= len(lessons) + len(modules) + 15
