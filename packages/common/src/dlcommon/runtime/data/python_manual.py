"""Loads the language reference that every Python installation carries for `help()`."""

from pathlib import Path
from pydoc_data.topics import topics

from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.text_corpus import TextCorpus, split
from dlcommon.runtime.localization import LocalizedText


def load(folder: Path) -> TextCorpus:
    """Joins all topics; they differ a little from one version of Python to the next."""
    return split("\n\n".join(topics[name] for name in sorted(topics)))


DATA_SET = DataSet(
    name="python-manual",
    title=LocalizedText("Python's manual", "Python 手册"),
    description="half a million characters of Python's language reference, from the installation itself",
    licence="PSF-2.0",
    home="https://docs.python.org/3/reference/",
    load=load,
    builtin=True,
)
