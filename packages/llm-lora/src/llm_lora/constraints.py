"""Constraints on an answer that a program can check, after IFEval (Zhou et al. 2023, https://arxiv.org/abs/2311.07911).

'Write a good story' needs a judge; 'answer in exactly two sentences' needs a counter.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dlcommon.runtime.sentences import split_sentences

BULLET = re.compile(r"^\s*[*\-•]\s+\S", re.MULTILINE)
HIGHLIGHT = re.compile(r"(?<![*\w])\*(?!\*)[^*\n]+\*(?![*\w])")
PLACEHOLDER = re.compile(r"\[[^\[\]\n]+\]")


@dataclass(frozen=True)
class Constraint:
    """Holds one demand."""

    instruction: str
    """The sentence that asks for it."""
    kind: str
    """Constraints of the same kind, or of kinds that exclude each other, are not asked for together."""
    holds: Callable[[str], bool] = field(compare=False)
    """Tells whether an answer meets it."""


def words(text: str) -> list[str]:
    """Cuts a text into words, as IFEval's counter does: runs of letters, digits and underscores."""
    return re.findall(r"\w+", text)


def _contains(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


def fewer_words(limit: int) -> Constraint:
    """Demands fewer than so many words."""
    return Constraint(f"Use fewer than {limit} words.", "length", lambda text: len(words(text)) < limit)


def more_words(limit: int) -> Constraint:
    """Demands at least so many words."""
    return Constraint(f"Use at least {limit} words.", "length", lambda text: len(words(text)) >= limit)


def sentences(count: int) -> Constraint:
    """Demands exactly so many sentences; a line break ends one as well."""
    asked = "one sentence" if count == 1 else f"exactly {count} sentences"
    return Constraint(f"Answer in {asked}.", "form", lambda text: len(split_sentences(text)[1]) == count)


def bullets(count: int) -> Constraint:
    """Demands exactly so many bullet points in the notation of Markdown."""
    asked = f"Answer with exactly {count} bullet points, each on a line that begins with an asterisk, such as: * point"
    return Constraint(f"{asked}.", "form", lambda text: len(BULLET.findall(text)) == count)


def paragraphs(count: int) -> Constraint:
    """Demands so many paragraphs, with an empty line between them."""
    return Constraint(
        f"Write exactly {count} paragraphs, with an empty line between them.",
        "form",
        lambda text: len([part for part in re.split(r"\n\s*\n", text) if part.strip()]) == count,
    )


def json_object(key: str) -> Constraint:
    """Demands a JSON object that has a key; the fence of a code block around it is allowed, as in IFEval."""

    def holds(text: str) -> bool:
        body = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip(), flags=re.IGNORECASE)
        try:
            value = json.loads(body)
        except ValueError:
            return False
        return isinstance(value, dict) and key in value

    return Constraint(f'Answer only with a JSON object that has the key "{key}".', "form", holds)


def includes(word: str) -> Constraint:
    """Demands a word, in whatever case."""
    return Constraint(f'Use the word "{word}".', "word", lambda text: _contains(text, word))


def avoids(word: str) -> Constraint:
    """Forbids a word, in whatever case."""
    return Constraint(f'Do not use the word "{word}".', "word", lambda text: not _contains(text, word))


def repeats(word: str, count: int) -> Constraint:
    """Demands a word at least so often."""
    return Constraint(
        f'Use the word "{word}" at least {count} times.',
        "word",
        lambda text: len(re.findall(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)) >= count,
    )


def letter(character: str, count: int) -> Constraint:
    """Demands a letter at least so often, in whatever case."""
    return Constraint(
        f'Let the letter "{character}" occur at least {count} times.',
        "letter",
        lambda text: text.lower().count(character) >= count,
    )


def lower_case() -> Constraint:
    """Forbids capital letters."""
    return Constraint("Write in lower case only, without capital letters.", "case", lambda text: text == text.lower())


def upper_case() -> Constraint:
    """Demands capital letters only, and some."""
    return Constraint("WRITE IN CAPITAL LETTERS ONLY.", "case", lambda text: text == text.upper() != text.lower())


def no_comma() -> Constraint:
    """Forbids commas."""
    return Constraint("Do not use any commas.", "comma", lambda text: "," not in text)


def begins_with(beginning: str) -> Constraint:
    """Demands the first words."""
    return Constraint(
        f'Begin your answer with "{beginning}".', "beginning", lambda text: text.lstrip().startswith(beginning)
    )


def ends_with(ending: str) -> Constraint:
    """Demands the last words; quotation marks and white space after them do not count, as in IFEval."""
    return Constraint(
        f'End your answer with "{ending}".',
        "ending",
        lambda text: text.strip().strip('"').lower().endswith(ending.lower()),
    )


def question_mark() -> Constraint:
    """Demands a question at the end."""
    return Constraint("End with a question.", "ending", lambda text: text.rstrip().endswith("?"))


def quoted() -> Constraint:
    """Demands double quotation marks around everything."""
    return Constraint(
        "Put your whole answer in double quotation marks.",
        "wrapping",
        lambda text: len(text.strip()) > 1 and text.strip()[0] == '"' == text.strip()[-1],
    )


def title() -> Constraint:
    """Demands a title in double angular brackets."""
    return Constraint(
        "Give your answer a title in double angular brackets, such as <<title>>.",
        "title",
        lambda text: re.search(r"<<[^\n<>]*[^\s<>][^\n<>]*>>", text) is not None,
    )


def postscript() -> Constraint:
    """Demands a postscript."""
    return Constraint(
        "Add a postscript at the end that begins with P.S.",
        "ending",
        lambda text: re.search(r"\bp\.\s?s\.", text, re.IGNORECASE) is not None,
    )


def highlights(count: int) -> Constraint:
    """Demands so many highlighted parts in the notation of Markdown."""
    return Constraint(
        f"Highlight at least {count} parts with asterisks, such as *this part*.",
        "highlights",
        lambda text: len(HIGHLIGHT.findall(text)) + len(re.findall(r"\*\*[^*\n]+\*\*", text)) >= count,
    )


def placeholders(count: int) -> Constraint:
    """Demands so many placeholders."""
    return Constraint(
        f"Leave at least {count} placeholders in square brackets, such as [name].",
        "placeholders",
        lambda text: len(PLACEHOLDER.findall(text)) >= count,
    )


def digits() -> Constraint:
    """Demands a number written in digits."""
    return Constraint("Use at least one number in digits.", "digits", lambda text: re.search(r"\d", text) is not None)


def english_letters() -> Constraint:
    """Forbids letters other than those of English, and demands some."""
    return Constraint(
        "Use only the letters of the English alphabet, none with accents.",
        "alphabet",
        lambda text: any(map(str.isalpha, text)) and all(one.isascii() for one in text if one.isalpha()),
    )


def follows(constraint: Constraint, answer: str) -> bool:
    """Tells whether an answer meets a constraint; an empty one never does (IFEval's strict criterion)."""
    return bool(answer.strip()) and constraint.holds(answer)


def follows_loosely(constraint: Constraint, answer: str) -> bool:
    """Tells whether an answer, or one of seven variants of it, meets a constraint (IFEval, equation 2).

    The variants lose the asterisks of Markdown, the first line ('Sure, here it is:'), the last line ('Hope it helps.'),
    and these in all combinations.
    """
    return any(follows(constraint, variant) for variant in loose_variants(answer))


def loose_variants(answer: str) -> Sequence[str]:
    """Returns the answer and its seven variants."""
    lines = answer.split("\n")
    cuts = (answer, "\n".join(lines[1:]), "\n".join(lines[:-1]), "\n".join(lines[1:-1]))
    return [variant for cut in map(str.strip, cuts) for variant in (cut, cut.replace("*", ""))]
