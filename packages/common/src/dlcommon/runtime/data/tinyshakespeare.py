"""Loads Tiny Shakespeare: 40,000 lines of the plays, the set that character models are compared on."""

from pathlib import Path

from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.sources import RemoteFile, WebSource, put
from dlcommon.runtime.data.text_corpus import TextCorpus, load_text
from dlcommon.runtime.localization import LocalizedText

FILE = "input.txt"


def load(folder: Path) -> TextCorpus:
    """Reads the first nine tenths to train, the last to test, as in nanoGPT.

    Raises:
        DamagedDataError: the file is not text.
    """
    return load_text(folder / FILE)


DATA_SET = DataSet(
    name="tinyshakespeare",
    title=LocalizedText("Tiny Shakespeare", "小莎士比亚"),
    description="1.1 million characters of Shakespeare's plays, put together by Karpathy 2015",
    licence="public domain",
    home="https://github.com/karpathy/char-rnn",
    folder="tinyshakespeare",
    files=(FILE,),
    sources=(
        WebSource(
            "char-rnn",
            ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
            (RemoteFile(FILE, "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),),
            put,
        ),
    ),
    load=load,
)
