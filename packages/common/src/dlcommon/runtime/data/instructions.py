"""Loads instructions with answers and preferences, those of 'Build a Large Language Model' (Raschka 2024)."""

import json
from pathlib import Path

from dlcommon.runtime.data.conversations import (
    BadConversationError,
    Conversations,
    read_conversation,
    without_questions_of,
)
from dlcommon.runtime.data.dataset import DamagedDataError, DataSet
from dlcommon.runtime.data.sources import RemoteFile, WebSource, put
from dlcommon.runtime.data.text_corpus import read_text
from dlcommon.runtime.localization import LocalizedText

FILE = "instruction-data-with-preference.json"
TEST = 110
"""The last rows, a tenth."""


def load(folder: Path) -> Conversations:
    """Reads the last 110 instructions to test with, the others to train with unless they recur in the test.

    Raises:
        DamagedDataError: the file is damaged; says in which row.
    """
    path = folder / FILE
    try:
        rows = json.loads(read_text(path))
    except ValueError as error:
        raise DamagedDataError(path, f"is no JSON: {error}") from error
    if not isinstance(rows, list) or len(rows) <= TEST:
        raise DamagedDataError(path, f"is no list of more than {TEST} instructions")
    found = []
    for number, row in enumerate(rows):
        try:
            found.append(read_conversation(row))
        except BadConversationError as error:
            raise DamagedDataError(path, str(error), number) from error
    train, test = found[:-TEST], tuple(found[-TEST:])
    return Conversations(without_questions_of(train, test), test)


DATA_SET = DataSet(
    name="instructions",
    title=LocalizedText("Instructions with preferences", "指令与偏好数据"),
    description="1,100 short instructions in English with an answer each, and a better and a worse one beside it",
    licence="Apache-2.0",
    home="https://github.com/rasbt/LLMs-from-scratch",
    folder="instructions",
    files=(FILE,),
    sources=(
        WebSource(
            "github-rasbt",
            (
                "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/"
                "2b7bd46a93311c1a77446ab1a83ff013ba3f6a70/ch07/04_preference-tuning-with-dpo/",
            ),
            (RemoteFile(FILE, "sha256:305315abf14f65fa42c01a0877572f832606571c2a7d49f152ac1d758b16756e"),),
            put,
        ),
    ),
    load=load,
)
