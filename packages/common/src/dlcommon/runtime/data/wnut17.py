"""Loads WNUT-17: names in tweets and comments, most of them new (Derczynski et al. 2017).

The paper: https://aclanthology.org/W17-4418.
"""

from pathlib import Path

from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.sources import RemoteFile, WebSource, put
from dlcommon.runtime.data.token_classification import TokenClassification, read_conll
from dlcommon.runtime.localization import LocalizedText

LABELS = ("corporation", "creative-work", "group", "location", "person", "product")
TRAIN, VALIDATION, TEST = "wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"


def load(folder: Path) -> TokenClassification:
    """Reads the shared task's three splits.

    Raises:
        DamagedDataError: a file is damaged; says in which line.
    """
    train, validation, test = (read_conll(folder / name, LABELS) for name in (TRAIN, VALIDATION, TEST))
    return TokenClassification(train, validation, test, LABELS)


DATA_SET = DataSet(
    name="wnut17",
    title=LocalizedText("WNUT-17 emerging names", "WNUT-17 新兴命名实体"),
    description="5,690 tweets and comments with the names in them marked, of six types; few names occur twice",
    licence="CC BY 4.0",
    home="https://github.com/leondz/emerging_entities_17",
    folder="wnut17",
    files=(TRAIN, VALIDATION, TEST),
    sources=(
        WebSource(
            "github-leondz",
            (
                "https://raw.githubusercontent.com/leondz/emerging_entities_17/"
                "e52a2d2a71ac1a051ca2d532eef28653c5c02603/",
            ),
            (
                RemoteFile(TRAIN, "sha256:731820e13f71af324c6b55a1575ec2ce59fbaa2a0806f8f0400b98d56cd6a7a5"),
                RemoteFile(VALIDATION, "sha256:e053b752b8155113ca66e7db08af5f2f5f43ab993694e4774f1ec5bad42312d8"),
                RemoteFile(TEST, "sha256:2aa79b764e56ec9264a1b30fdd9b70195bd00ff400b62edd8f399d5f13c178f0"),
            ),
            put,
        ),
    ),
    load=load,
)
