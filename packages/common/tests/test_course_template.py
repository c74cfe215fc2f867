"""The template: what a lesson that follows it must hold, each part held by its absence being told."""

import re

import pytest
from dlcommon.course.catalogue import find_lesson, lessons_folder
from dlcommon.course.template import SECTIONS, follows_template, template_problems

EXAMPLE = (lessons_folder() / "03-pytorch" / "09-training-loop.py").read_text(encoding="utf-8")


def without(text: str, pattern: str, replacement: str = "", count: int = 0) -> str:
    changed = re.sub(pattern, replacement, text, count=count, flags=re.MULTILINE | re.DOTALL)
    assert changed != text, f"{pattern} is not in the example"
    return changed


def test_the_example_follows_it() -> None:
    assert follows_template(EXAMPLE)
    assert template_problems(EXAMPLE) == []
    assert not follows_template(find_lesson("01/01").path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_is_wanted(name: str) -> None:
    problems = template_problems(without(EXAMPLE, rf"^# ## {name}", "# ## Something"))
    assert any(f"no section `## {name} · {SECTIONS[name]}`" in problem for problem in problems) or name == "Experiment"
    assert "`## Something` is no section of the template" in problems


@pytest.mark.parametrize(
    ("pattern", "replacement", "problem"),
    [
        (r"^# ## Use · 用处", "# ## Checks · 检验", "no section `## Use"),
        (r"^# ## Problem · 问题$", "# ## Problem · 难题", "begins with 问题"),
        (r"\b(show|table)\(", "print(", "By hand: no figure or table"),
        (r"\$\$", "$", "Formula: no displayed formula"),
        (r"^# - \$", "# - the $", "symbols are not defined"),
        (r"^source\(", "print(", "Code: the module's own source"),
        (r"\bcheck_close\(\"by.+?\)$\ncheck_close\(.+?\)$", "", "no equality with the library"),
        (r"^check\(.+?^\)?$\n# %%", "# %%", "fewer than four checks"),
        (r"`uv run", "`run", "Use: no command"),
        (r"\]\(http", "](", "Use: no paper"),
        (r"^settle\(\"softmax twice.+?$", "", "are asked"),
        (r"\bquiz\(", "ask(", "two or three questions"),
        (r"^# ### Hints", "# ### Help", "no `### Hints"),
        (r"^# [234]\. ", "# ", "fewer than two numbered hints in en"),
        (r"^print\(f\"  spread over three seeds.+?\n", "", "has no cell that shows it"),
        (r"^# ### Method B.+", "", "4 questions; at least five"),
        (r"^# One run of each says nothing.+?\n\n", "\n", "has no English answer"),
        (r"^# 各跑一次说明不了什么.+?\n\n", "\n", "has no Chinese answer"),
        (r'^# %% \[markdown\] lang="zh"\n# 网络、数据.+?\n\n', "", 'not followed by a lang="zh" cell'),
        (r"^# 因此要回答三个问题.+?\n\n", "\n", "1 paragraphs in Chinese, 2 in English"),
        (r"^# 损失甚至可能照样下降", "# 损失甚至可能照样\n# 下降", "ends within a sentence's part"),
        (r'^# %% \[markdown\] lang="en"$', "# %% [markdown]", "prose in a cell for all readers"),
    ],
)
def test_what_is_missing_is_told(pattern: str, replacement: str, problem: str) -> None:
    problems = template_problems(without(EXAMPLE, pattern, replacement))
    assert any(problem in each for each in problems), problems


def test_the_order_is_the_templates() -> None:
    swapped = EXAMPLE.replace("# ## Formula · 公式", "# ## X").replace("# ## Code · 代码", "# ## Formula · 公式")
    problems = template_problems(swapped.replace("# ## X", "# ## Code · 代码"))
    assert any("the sections' order is" in problem for problem in problems)
