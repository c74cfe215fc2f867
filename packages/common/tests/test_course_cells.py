"""A lesson's file: cells, languages, sections, the source of modules, formulas."""

import ast
import inspect
from typing import Any

import jupytext
import pytest
from dlcommon.course.catalogue import Lesson, all_lessons
from dlcommon.course.cells import parse_cells, readable_cells, readable_markdown, sections
from dlcommon.course.formulas import readable_formulas, unicode_formula
from dlcommon.course.module_source import module_source
from dlcommon.pytorch_core.training_loop import fit
from dlcommon.rnn.recurrent import LSTM
from dlcommon.runtime.errors import UserError

TEXT = """# %% [markdown]
# # Gates · 门

# %% [markdown] lang="en"
# Read this.
#
# - $x$: one.

# %% [markdown] lang="zh"
# 读这个，
# 再读那个。

# %%

import math

# %% [markdown]
# ## Problem: why? · 问题：为什么？
#
# $$x$$

# %%
print(math.pi)
"""


def test_cells_have_their_kind_language_text_and_line() -> None:
    cells = parse_cells(TEXT)
    assert [(cell.kind, cell.language, cell.line) for cell in cells] == [
        ("markdown", None, 2),
        ("markdown", "en", 5),
        ("markdown", "zh", 10),
        ("code", None, 15),
        ("markdown", None, 18),
        ("code", None, 23),
    ]
    assert cells[1].text == "Read this.\n\n- $x$: one."
    assert cells[3].text == "import math"
    for cell in cells:
        assert cell.text.split("\n")[0] in TEXT.split("\n")[cell.line - 1]


@pytest.mark.parametrize("lesson", [None, *all_lessons()[::9]], ids=str)
def test_jupytext_sees_the_same_cells(lesson: Lesson | None) -> None:
    text = lesson.path.read_text(encoding="utf-8") if lesson else TEXT
    theirs = jupytext.reads(text, fmt="py:percent").cells
    ours = parse_cells(text)
    assert [(cell.kind, cell.text, cell.language) for cell in ours] == [
        (cell.cell_type, cell.source.strip("\n"), cell.metadata.get("lang")) for cell in theirs
    ]


@pytest.mark.parametrize("mark", ['# %% [markdown] lang="fr"', "# %%[md]", "# %% [markdown] tags=1"])
def test_other_marks_are_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="line 3"):
        parse_cells(f"# %%\nx = 1\n{mark}\n# text")


def test_each_reader_sees_one_language() -> None:
    shown = {
        language: [c.text for c in readable_cells(parse_cells(TEXT), language)] for language in ("en", "zh", "both")
    }
    assert shown["en"][0] == "# Gates"
    assert shown["zh"][:2] == ["# 门", "读这个，再读那个。"]
    assert shown["both"][0] == "# Gates · 门"
    assert [len(cells) for cells in shown.values()] == [5, 5, 6]
    assert shown["en"][3] == "## Problem: why?\n\n$$x$$"


def test_chinese_lines_are_joined_without_a_space() -> None:
    assert readable_markdown("训练\n循环 `x`\n中文\n\n下一段\n- 项", "zh") == "训练循环 `x`\n中文\n\n下一段\n- 项"


def test_sections_end_at_the_next_heading_of_their_level() -> None:
    text = "".join(
        f"# %% [markdown]\n# {mark} {name} · 题\n\n# %%\n{name}\n"
        for mark, name in zip(("##", "###", "##"), "abc", strict=True)
    )
    first, second = sections(parse_cells(text))
    assert (first.english, first.chinese, first.code()) == ("a", "题", "a\nb")
    assert second.code() == "c"
    assert [part.code() for part in sections(first.cells, level=3)] == ["b"]


@pytest.mark.parametrize("target", [fit, LSTM, LSTM.__init__], ids=lambda target: target.__qualname__)
def test_source_is_what_python_itself_finds(target: Any) -> None:
    module = module_source(target.__module__)
    found = module.source(target.__qualname__)
    assert inspect.cleandoc(found) == inspect.cleandoc(inspect.getsource(target)).rstrip()
    assert not found.startswith(" ")
    ast.parse(found)


def test_what_a_module_does_not_define_is_named() -> None:
    with pytest.raises(UserError, match=r"recurrent\.py defines no LSTM.backward"):
        module_source("dlcommon.rnn.recurrent").find("LSTM.backward")
    for name in ("dlcommon.rnn.nowhere", "nowhere.at.all", "sys"):
        with pytest.raises(UserError, match="there is no module"):
            module_source(name)


@pytest.mark.parametrize(
    ("latex", "shown"),
    [
        (r"\hat m_t = \frac{m_t}{1 - \beta_1^t}", "m̂ₜ = mₜ/(1 - β₁ᵗ)"),
        (r"\hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}}", "x̂ = (x - μ)/(√(σ² + ε))"),
        (r"\sigma(W_{ih} x_t + b)^\top", "σ(Wᵢₕ xₜ + b)ᵀ"),
        (r"\mathbf{h}_t = \mathbf{o}_t \odot \tanh(\mathbf{c}_t)", "hₜ = oₜ ⊙ tanh(cₜ)"),
        (r"-\frac{1}{N}\sum_{i=1}^{N}\log p_{y_i}", "-1/N∑ᵢ₌₁ᴺ log p_(yᵢ)"),
        (r"x \in \{0, 1\}^{n \times d}", "x ∈ {0, 1}^(n × d)"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "a = b\nc = d"),
        (r"\lVert g_t \rVert", "‖gₜ‖"),
        (r"\arg\min_e V(\theta_e)", "argminₑ V(θₑ)"),
        (r"\frac{\partial L}{\partial w}", "(∂L)/(∂w)"),
        (r"a \le \tfrac12 b, \dfrac{c}{2} \ne d", "a ≤ 1/2 b, c/2 ≠ d"),
    ],
)
def test_formulas_are_readable_and_keep_their_meaning(latex: str, shown: str) -> None:
    assert unicode_formula(latex) == shown


def test_only_formulas_are_changed() -> None:
    text = "It costs $x_t$ and `$HOME` and\n```\n$y_t$\n```\n$$\\frac{1}{2}$$"
    shown = readable_formulas(text)
    assert "It costs xₜ and `$HOME`" in shown
    assert "$y_t$" in shown
    assert "    1/2" in shown
