"""Loads the questions of XQuAD, which people translated into ten languages (Artetxe et al. 2020).

Paper: https://aclanthology.org/2020.acl-main.421. A reading test, not a translation set: 1,190 questions are too few to
learn to translate from, but they are aligned Chinese, English and German sentences.
"""

from pathlib import Path
from typing import Any

from dlcommon.runtime.data import DamagedDataError, DataSet
from dlcommon.runtime.data.parallel_text import Lines, ParallelText
from dlcommon.runtime.data.sources import RemoteFile, WebSource, put
from dlcommon.runtime.files import read_json
from dlcommon.runtime.localization import LocalizedText

CHECKSUMS = {
    "en": "e4c57d1c9143aaa1c5d265ba5987a65f4e69528d2a98f29d6e75019b10344f29",
    "de": "990b5d746746ed65ed4702ea5f35f99ffa4e2f1c390c07d003642acd937916f9",
    "zh": "691d0b3359bc6b8faa8de931dfdfe21d50a65861ae348e32a0d1a0190b0c8835",
}
ONE_IN = 8
"""Of so many articles one is in the test split, and one in the validation split."""
Questions = dict[str, tuple[int, str]]
"""Id of a question to the number of its article and its text."""


def file_name(language: str) -> str:
    return f"xquad.{language}.json"


def load(folder: Path) -> ParallelText:
    """Reads the questions; all of an article are in the same split.

    Raises:
        DamagedDataError: a file is damaged, or two do not hold the same questions.
    """
    read = {language: questions(folder / file_name(language)) for language in CHECKSUMS}
    first = read["en"]
    for language, others in read.items():
        if missing := sorted(first.keys() ^ others.keys()):
            raise DamagedDataError(
                folder / file_name(language), f"holds other questions than {file_name('en')}, such as {missing[0]}"
            )

    def split(*remainders: int) -> Lines:
        chosen = [key for key, (article, _) in first.items() if article % ONE_IN in remainders]
        return {language: tuple(texts[key][1] for key in chosen) for language, texts in read.items()}

    return ParallelText(split(*range(2, ONE_IN)), split(1), split(0))


def questions(path: Path) -> Questions:
    """Reads the questions of one language, in the layout of SQuAD.

    Raises:
        DamagedDataError: the file is not in this layout, or a question is empty.
    """
    content: Any = read_json(path)
    found: Questions = {}
    try:
        for article, entry in enumerate(content["data"]):
            for paragraph in entry["paragraphs"]:
                for asked in paragraph["qas"]:
                    found[asked["id"]] = article, " ".join(asked["question"].split())
    except (AttributeError, KeyError, TypeError) as error:
        raise DamagedDataError(path, f"is not in the layout of SQuAD ({type(error).__name__}: {error})") from error
    for key, (_, text) in found.items():
        if not text:
            raise DamagedDataError(path, f"question {key} is empty")
    return found


DATA_SET = DataSet(
    name="xquad",
    title=LocalizedText("XQuAD's questions", "XQuAD 的问题"),
    description="1,190 questions in English, German and Chinese: too few to learn from, aligned to try Chinese with",
    licence="CC BY-SA 4.0",
    home="https://github.com/google-deepmind/xquad",
    folder="xquad",
    files=tuple(map(file_name, CHECKSUMS)),
    sources=(
        WebSource(
            "github-xquad",
            ("https://raw.githubusercontent.com/google-deepmind/xquad/master/",),
            tuple(RemoteFile(file_name(language), f"sha256:{checksum}") for language, checksum in CHECKSUMS.items()),
            put,
        ),
    ),
    load=load,
)
