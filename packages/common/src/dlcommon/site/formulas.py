r"""LaTeX formulas as MathML, so that pages show them without a script or a network.

`$x_i$` and `$$ … $$` become `<math>` elements; the font that is set beside them holds only the characters they use.
"""

import html
import importlib.util
import re
from functools import cache
from pathlib import Path

from dlcommon.runtime.errors import UserError

_CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)
_DISPLAYED = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"(?<![\\$])\$([^$\n]+(?:\n[^$\n]+)?)\$")
_PRIME = '<mo lspace="0" rspace="0">&#x02032;</mo>'
"""Stands beside its letter, since the font raises it already."""
_SUPER_PRIME = re.compile(r"<msup>(<mi>[^<]+</mi>)<mi>&#x02032;</mi></msup>")
_SUB_PRIME = re.compile(r"<msubsup>(<mi>[^<]+</mi>)(<m[in]>[^<]+</m[in]>)<mi>&#x02032;</mi></msubsup>")
_DRAWN = {*map(chr, range(0x1D434, 0x1D468)), *map(chr, range(0x1D6E2, 0x1D71C)), "ℎ", "√"}
"""What browsers draw of themselves: the italic letters of variables, the root."""


def formulas_as_mathml(markdown: str) -> str:
    """Replaces formulas outside code by MathML, on the lines where they stand.

    Raises:
        UserError: a formula uses a command that cannot be converted.
    """
    parts = _CODE.split(markdown)
    for number in range(0, len(parts), 2):
        text = _DISPLAYED.sub(lambda formula: mathml(formula[1], "block"), parts[number])
        text = _INLINE.sub(lambda formula: mathml(formula[1], "inline"), text)
        # No line begins with the punctuation that follows a formula.
        parts[number] = re.sub(r"</math></span>([,.;:!?)，。；：！？、）]+)", r"</math>\1</span>", text)
    return "".join(parts)


@cache
def mathml(latex: str, display: str) -> str:
    """Converts LaTeX to a `<math>` element that Markdown leaves as it is.

    Args:
        latex: the formula without its dollars.
        display: "block" for a formula on a line of its own, else "inline".

    Raises:
        UserError: a command is unknown or the formula is malformed.
    """
    from latex2mathml.converter import convert

    text = re.sub(r"\\arg(?![a-zA-Z])", r"\\operatorname{arg}", " ".join(latex.split()))
    try:
        element: str = convert(text, display=display)
    except Exception as error:  # its errors have no common base
        raise UserError(f"the formula ${text}$ cannot be converted: {type(error).__name__}: {error}") from error
    unknown = re.search(r"<mi>(\\\w+)</mi>", element)
    if unknown:
        raise UserError(f"the formula ${text}$ uses {unknown[1]}, which latex2mathml does not know")
    element = _SUB_PRIME.sub(
        rf"<msub><mrow>\1{_PRIME}</mrow>\2</msub>", _SUPER_PRIME.sub(rf"<mrow>\1{_PRIME}</mrow>", element)
    )
    element = re.sub(r">([^<]+)<", lambda text: f">{_shielded(text[1])}<", element)
    # Within a span, since Markdown would end the paragraph before a line that begins with <math>.
    return f'<span class="formula-{display}">{element}</span>'


def _shielded(text: str) -> str:
    """Writes what Markdown could take for markup as numeric references."""
    return "".join(character if character.isalnum() else f"&#x{ord(character):X};" for character in html.unescape(text))


def write_font(path: Path, characters: set[str]) -> None:
    """Writes STIX Two Math (SIL Open Font License), reduced to these characters, as WOFF.

    The glyphs that stretch and stack them (brackets, roots, sums) are kept.

    Raises:
        UserError: the font is not installed.
    """
    from fontTools import subset

    package = importlib.util.find_spec("ziamath")
    if package is None or package.origin is None:
        raise UserError("the font of formulas comes with ziamath; type `uv sync --group docs`")
    options = subset.Options(flavor="woff", layout_features=["*"], notdef_outline=True)
    with subset.load_font(str(Path(package.origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"), options) as font:
        subsetter = subset.Subsetter(options)
        subsetter.populate(text="".join(sorted(characters | _DRAWN)))
        subsetter.subset(font)
        path.parent.mkdir(parents=True, exist_ok=True)
        subset.save_font(font, str(path), options)


def characters_of(markdown: str) -> set[str]:
    """Collects the characters that the formulas in converted Markdown show."""
    elements = re.findall(r"<math.+?</math>", markdown)
    return {character for element in elements for character in html.unescape(re.sub(r"<[^>]+>", "", element))}
