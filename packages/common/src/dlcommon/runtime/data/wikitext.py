"""Loads WikiText-2's validation and test articles (Merity et al. 2016, https://arxiv.org/abs/1609.07843)."""

from pathlib import Path

from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.text_corpus import TextCorpus, read_text
from dlcommon.runtime.localization import LocalizedText

TRAIN, TEST = "valid.txt", "test.txt"


def load(folder: Path) -> TextCorpus:
    """Reads the 60 validation articles to train, the 60 test articles to test.

    Raises:
        DamagedDataError: a file is not text.
    """
    return TextCorpus(read_text(folder / TRAIN), read_text(folder / TEST))


DATA_SET = DataSet(
    name="wikitext-2",
    title=LocalizedText("WikiText-2 (validation and test)", "WikiText-2（验证集与测试集）"),
    description="60 + 60 good articles of Wikipedia, in words split by spaces, rare ones as <unk>",
    licence="CC BY-SA 3.0",
    home="https://huggingface.co/datasets/Salesforce/wikitext",
    folder="wikitext-2",
    files=(TRAIN, TEST),
    load=load,
)
