"""Loads SST-2: sentences of film reviews, positive or negative (Socher et al. 2013, https://aclanthology.org/D13-1170)."""

from pathlib import Path

from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.sources import RemoteFile, WebSource, put
from dlcommon.runtime.data.text_classification import TextClassification, read_labelled_lines
from dlcommon.runtime.localization import LocalizedText

CLASSES = ("negative", "positive")
TRAIN, TEST = "train.tsv", "dev.tsv"


def load(folder: Path) -> TextClassification:
    """Reads whole sentences to train, without the phrases inside them, and GLUE's 872 validation sentences to test.

    GLUE keeps the labels of its own test sentences to itself, so that results are compared on these.

    Raises:
        DamagedDataError: a file is damaged; says in which line.
    """
    train, test = (read_labelled_lines(folder / name, len(CLASSES)) for name in (TRAIN, TEST))
    return TextClassification(train, test, CLASSES)


DATA_SET = DataSet(
    name="sst2",
    title=LocalizedText("SST-2 film reviews", "SST-2 影评"),
    description="7,792 sentences of film reviews, positive or negative: 6,920 to train and 872 to test",
    licence="research use (Socher et al. 2013)",
    home="https://nlp.stanford.edu/sentiment/",
    folder="sst2",
    files=(TRAIN, TEST),
    sources=(
        WebSource(
            "github-clairett",
            (
                "https://raw.githubusercontent.com/clairett/pytorch-sentiment-classification/"
                "457ffd83de90a9d6d472d8ffc31bbffe40a8b236/data/SST2/",
            ),
            (
                RemoteFile(TRAIN, "sha256:ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920"),
                RemoteFile(TEST, "sha256:eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359"),
            ),
            put,
        ),
    ),
    load=load,
)
