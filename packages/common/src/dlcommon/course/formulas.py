r"""LaTeX formulas as lines of Unicode text, for the terminal.

`\frac{m_t}{1 - \beta_1^t}` is shown as `mₜ/(1 - β₁ᵗ)`.
"""

import re
from functools import cache
from typing import Any

from dlcommon.runtime.errors import UserError

_SUPERSCRIPT = dict(
    zip(
        "0123456789+-−=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVW⊤∗*′",
        "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂᵀ**′",
        strict=True,
    )
)
_SUBSCRIPT = dict(zip("0123456789+-−=()aehijklmnoprstuvxβγρφχ", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ", strict=True))


def readable_formulas(markdown: str) -> str:
    """Replaces `$$ … $$` by an indented block of text and `$ … $` by text, and leaves code as it is."""
    parts = re.split(r"(```.*?```|`[^`\n]+`)", markdown, flags=re.DOTALL)
    for number in range(0, len(parts), 2):
        block = re.sub(r"\$\$(.+?)\$\$", _block, parts[number], flags=re.DOTALL)
        parts[number] = re.sub(r"(?<![\\$])\$([^$\n]+(?:\n[^$\n]+)?)\$", _inline, block)
    return "".join(parts)


def _block(formula: re.Match[str]) -> str:
    lines = (f"    {line.strip()}" for line in unicode_formula(formula[1]).split("\n") if line.strip())
    return "\n" + "\n".join(lines) + "\n"


def _inline(formula: re.Match[str]) -> str:
    return re.sub(r"([*_\[\]<>])", r"\\\1", unicode_formula(formula[1]))


def unicode_formula(latex: str) -> str:
    """Converts a LaTeX formula to Unicode text, with a line for each of its lines.

    Raises:
        UserError: pylatexenc is not installed.
    """
    latex = re.sub(r"\\(begin|end)\{(aligned|align\*?|gathered|split|cases)\}", "", latex)
    latex = re.sub(r"(?<!\\)&", "", latex) if "matrix" not in latex else latex
    lines = latex.split(r"\\") if "matrix" not in latex else [latex]
    return "\n".join(_line(line) for line in lines)


def _line(latex: str) -> str:
    # pylatexenc does not know that these are other sizes and spellings of what it knows.
    latex = re.sub(r"\\ne(?![a-zA-Z])", r"\\neq", re.sub(r"\\[dt]frac(?![a-zA-Z])", r"\\frac", latex))
    hidden = latex.replace(r"\{", "⦃").replace(r"\}", "⦄").replace(r"\mid", " | ")
    text = _converter().latex_to_text(f"${' '.join(hidden.split())}$")
    before = ""
    while before != text:  # from the innermost pair of braces outwards
        before = text
        text = re.sub(r"([_^]) ?\{([^{}]*)\}", lambda part: _script(part[1], part[2]), text)
        text = re.sub(r"(?<![_^])\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"([_^]) ?([^\s{}()_^])", lambda part: _script(part[1], part[2]), text)
    for mark, shown in _SHOWN.items():
        text = text.replace(mark, shown)
    text = re.sub(r"\s*([⊙∈≤≥≠←≈])\s*", r" \1 ", text)
    text = re.sub(r"‖\s*([^‖]+?)\s*‖", r"‖\1‖", text)
    text = re.sub(r"(?<=\w)([·=×])", r" \1", text)
    text = re.sub(r"(?<=[a-z]) +(?=[(‖])|(?<=\() +", "", re.sub(r" {2,}", " ", text))
    text = re.sub(rf" +(?=[{''.join(_SUBSCRIPT.values())}])", "", text)
    return text.replace("\u2003", "  ").strip()


_SHOWN = {
    "⦃": "{",
    "⦄": "}",
    "＿": "_",
    "＾": "^",
    "arg  min": "argmin",
    "arg  max": "argmax",
    "∂ ": "∂",
    "∇ ": "∇",
    "\u2061": "",
}
"""Marks that stand for characters with a meaning of their own until the formula is text."""


def _script(mark: str, text: str) -> str:
    table, text = (_SUPERSCRIPT if mark == "^" else _SUBSCRIPT), text.strip()
    if all(character in table for character in text.replace(" ", "")):
        return "".join(table[character] for character in text.replace(" ", ""))
    shown = "＿" if mark == "_" else "＾"
    return f"{shown}{text}" if len(text) == 1 else f"{shown}({text})"


@cache
def _converter() -> Any:
    try:
        from pylatexenc import latex2text
    except ImportError:
        raise UserError("formulas are shown with pylatexenc; add it with `uv add 'dlcommon[course]'`") from None

    def fraction(node: Any, l2tobj: Any) -> str:
        above, below = (l2tobj.nodelist_to_text([part]).strip() for part in node.nodeargd.argnlist[-2:])
        return f"{_grouped(above)}/{_grouped(below)}"

    def argument(node: Any, l2tobj: Any) -> str:
        return str(l2tobj.nodelist_to_text([node.nodeargd.argnlist[-1]]))

    context = latex2text.get_default_latex_context_db()
    macros = [latex2text.MacroTextSpec("frac", simplify_repl=fraction)]
    plain = ("mathbf", "mathrm", "boldsymbol", "operatorname", "mathit", "text")
    macros += [latex2text.MacroTextSpec(name, simplify_repl=argument) for name in plain]
    others = {
        "quad": "\u2003",
        "qquad": "\u2003",
        ",": " ",
        ";": " ",
        "!": "",
        "big": "",
        "Big": "",
        "bigl": "",
        "bigr": "",
    }
    others |= {
        name: f" {name} " for name in ("log", "ln", "exp", "sin", "cos", "tanh", "min", "max", "arg", "det", "dim")
    }
    macros += [latex2text.MacroTextSpec(name, simplify_repl=text) for name, text in others.items()]
    context.add_context_category("course", prepend=True, macros=macros)
    return latex2text.LatexNodes2Text(latex_context=context, math_mode="text", keep_braced_groups=True)


def _grouped(text: str) -> str:
    """Adds brackets around a sum or product that a fraction bar held together."""
    inner = text.removeprefix("{").removesuffix("}") if text.startswith("{") and text.endswith("}") else text
    flat = re.sub(r"[_^]\{[^{}]*\}", "", inner).strip()
    return f"{{{inner}}}" if re.fullmatch(r"[^\s+\-−·/]*", flat) and "/" not in flat else f"({inner})"
