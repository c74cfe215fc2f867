"""Loads XQuAD: 1,190 questions of SQuAD's development set, translated by professionals (Artetxe et al. 2020).

Paper: https://arxiv.org/abs/1910.11856. Three of its languages are loaded: English, Chinese and German.
"""

from pathlib import Path

from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.question_answering import QuestionAnswering, read_parallel_squad
from dlcommon.runtime.data.sources import RemoteFile, WebSource, put
from dlcommon.runtime.localization import LocalizedText

CHECKSUMS = {
    "en": "e4c57d1c9143aaa1c5d265ba5987a65f4e69528d2a98f29d6e75019b10344f29",
    "zh": "691d0b3359bc6b8faa8de931dfdfe21d50a65861ae348e32a0d1a0190b0c8835",
    "de": "990b5d746746ed65ed4702ea5f35f99ffa4e2f1c390c07d003642acd937916f9",
}
FILES = {language: f"xquad.{language}.json" for language in CHECKSUMS}


def load(folder: Path) -> QuestionAnswering:
    """Reads 48 articles of five passages each in three languages.

    Raises:
        DamagedDataError: a file is damaged, or the languages do not have the same questions.
    """
    return read_parallel_squad({language: folder / name for language, name in FILES.items()})


DATA_SET = DataSet(
    name="xquad",
    title=LocalizedText("XQuAD", "XQuAD 问答"),
    description="1,190 questions on 240 passages of Wikipedia, in English, Chinese and German; answers are spans",
    licence="CC BY-SA 4.0",
    home="https://github.com/google-deepmind/xquad",
    folder="xquad",
    files=tuple(FILES.values()),
    sources=(
        WebSource(
            "github-xquad",
            ("https://raw.githubusercontent.com/google-deepmind/xquad/7d30520c717524000f0d9d2f9c10a069acd9d285/",),
            tuple(RemoteFile(FILES[language], f"sha256:{checksum}") for language, checksum in CHECKSUMS.items()),
            put,
        ),
    ),
    load=load,
)
