"""The reader's own text as a data set: a file, or all .txt files of a folder that its file manager shows."""

import re
from pathlib import Path

from dlcommon.runtime.data import DataSet, LocatedDataSet, own_files
from dlcommon.runtime.data.picture_folder import visible_files
from dlcommon.runtime.data.text_corpus import LEAST, TextCorpus, read_text, split
from dlcommon.runtime.data.text_encoding import say
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.localization import LocalizedText

from char_lm.config import Config


def own_data(config: Config) -> LocatedDataSet | None:
    """Returns the text that `--text` names, if it names one.

    Raises:
        UserError: as of `own_text`.
    """
    return own_text(Path(config.text)) if config.text else None


def own_text(path: Path) -> LocatedDataSet:
    """Returns the text at that path as a data set, its first nine tenths to train on.

    Raises:
        UsageError: there is no such file, no .txt file in the folder, or too little text to learn from.
        UserError: a file is no text.
    """
    path = path.expanduser().resolve()
    if path.is_dir():
        folder, files = path, tuple(file.as_posix() for file in visible_files(path, (".txt",)))
        if not files:
            raise UsageError(f"--text {path}: the folder holds no .txt files")
    elif path.is_file():
        folder, files = path.parent, (path.name,)
    else:
        raise UsageError(f"--text {path}: there is no such file or folder")

    def load(root: Path) -> TextCorpus:
        text = "\n".join(read_text(root / file, say) for file in files)
        if len(text) < LEAST:
            raise UsageError(f"--text {path}: {len(text)} characters are too few; at least {LEAST:,} are needed")
        if len(characters := set(text)) < 2:
            raise UsageError(f"--text {path}: holds {characters.pop()!r} alone, so there is nothing to learn from it")
        return split(text)

    name = re.sub(r"[^\w-]+", "-", path.stem).strip("-").lower() or "text"
    title = LocalizedText(path.name, path.name)
    dataset = DataSet(name, title, "the reader's own text", "the reader's own", "", load, files=files)
    return own_files(dataset, folder)
