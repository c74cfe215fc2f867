"""Plain counterparts of characters that a vocabulary lacks: ' for ’, a line break for \\r\\n, a space for a tab."""

import re
import unicodedata
from collections.abc import Container

COUNTERPARTS: dict[str, tuple[str, ...]] = {
    "\r\n": ("\n",), "\r": ("\n",), "\u2028": ("\n",), "\u2029": ("\n",), "\f": ("\n",), "\v": ("\n",),
    "\t": ("    ", " "), "\u200b": ("",), "\u00ad": ("",), "\ufeff": ("",),
    **dict.fromkeys("‘’‚‛′`´ʼ", ("'",)), **dict.fromkeys("“”„‟″«»", ('"', "''")), **dict.fromkeys("‹›", ("'",)),
    **dict.fromkeys("‐‑‒−", ("-",)), **dict.fromkeys("–—―", ("--", "-")), "…": ("...",), "•": ("*", "-"),
    "×": ("x",), "÷": ("/",), "⁄": ("/",), "ß": ("ss",), "æ": ("ae",), "Æ": ("AE",), "œ": ("oe",), "Œ": ("OE",),
    "ø": ("o",), "Ø": ("O",), "ł": ("l",), "Ł": ("L",), "。": (".",), "、": (",",), "「": ('"',), "」": ('"',),
}  # fmt: skip
"""Texts that say the same, the best first; the first that the vocabulary holds is taken."""
_PARTS = re.compile(r"\r\n|.", re.DOTALL)


def in_vocabulary(text: str, known: Container[str]) -> tuple[str, dict[str, str]]:
    """Writes a text in the characters that are known, as far as there are counterparts for the others.

    Accents are left out (é becomes e), and wide or joined forms become ordinary ones (Ａ becomes A, ﬁ becomes fi).

    Returns:
        The text, and what was replaced by what; a character without a known counterpart stays as it is.
    """
    replaced: dict[str, str] = {}
    for part in dict.fromkeys(_PARTS.findall(text)):
        if all(character in known for character in part):
            continue
        fitting = (to for to in _candidates(part) if all(character in known for character in to))
        if (counterpart := next(fitting, None)) is not None:
            replaced[part] = counterpart
    return "".join(replaced.get(part, part) for part in _PARTS.findall(text)), replaced


def _candidates(part: str) -> tuple[str, ...]:
    compatible = unicodedata.normalize("NFKC", part)
    bare = "".join(c for c in unicodedata.normalize("NFKD", part) if not unicodedata.combining(c))
    further = COUNTERPARTS.get(compatible, ()) if compatible != part else ()
    return tuple(one for one in (*COUNTERPARTS.get(part, ()), compatible, *further, bare) if one != part)
