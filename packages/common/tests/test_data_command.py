"""`data list`, `fetch`, `verify`, `path` and `remove`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.commands import data as command
from dlcommon.runtime.data import ASSETS, DATA_SETS, cifar10
from dlcommon.runtime.data.cache import decoded_folders, manifest_path
from dlcommon.runtime.data.image_table import write_images
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.runtime.files import sha256, write_json
from dlcommon.testing.data_files import files_below, put_small_cifar10


@pytest.fixture(autouse=True)
def cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, and a registry of two sets, whatever packages are installed; downloads are off."""
    monkeypatch.setenv("DL_OFFLINE", "1")
    for registry in (DATA_SETS, ASSETS):
        monkeypatch.setattr(registry, "entry_points", dict)
        for name in set(registry) - {"cifar10", "mnist"}:
            monkeypatch.delitem(registry, name)
    return cache


@pytest.fixture
def fetched(cache: Path) -> Path:
    """CIFAR-10 (a small one) as `fetch` leaves it."""
    folder = put_small_cifar10(cache / "data")
    files = {name: sha256(folder / name) for name in cifar10.DATA_SET.files}
    write_json(manifest_path("cifar10"), {"source": "test", "files": files})
    return folder


def run_json(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert command.main([*words, "--json"]) == code
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def test_list(fetched: Path, capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    assert command.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["DATA", "SET", "WHERE", "SIZE", "LICENCE"]
    assert lines[1].split()[:2] == ["cifar10", "cache"]
    assert lines[3].startswith("mnist     not fetched  -")
    assert f"cache: {cache / 'data'}" in lines
    content = run_json(capsys, "list")
    first, second = content["data_sets"]
    assert (first["name"], first["origin"], first["path"]) == ("cifar10", "cache", str(fetched))
    assert first["bytes"] == sum((fetched / name).stat().st_size for name in cifar10.DATA_SET.files)
    assert (second["name"], second["origin"], second["path"]) == ("mnist", None, None)
    assert all(row["licence"] and row["home"].startswith("http") for row in content["data_sets"])


def test_verify_whole(fetched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["verify"]) == 0
    assert capsys.readouterr().out == "cifar10: whole, cifar10 (cache, PNG-encoded)\n"


def test_verify_notices_a_change_that_still_loads(fetched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.zeros((20, 32, 32, 3), np.uint8)
    write_images(fetched / cifar10.TEST, images, np.arange(20) % 10, cifar10.CLASSES)
    result = run_json(capsys, "verify", "cifar10", code=1)["data_sets"][0]
    assert not result["ok"]
    for part in ("test-00000", "its checksum differs", "data remove cifar10"):
        assert part in result["problem"]


def test_verify_notices_damage_in_data_dir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = put_small_cifar10(tmp_path / "own")
    (folder / cifar10.TRAIN).write_bytes(b"PAR1")
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "own"))
    result = run_json(capsys, "verify", "cifar10", "mnist", code=1)["data_sets"]
    assert "not a whole parquet file" in result[0]["problem"]
    assert "not on this machine" in result[1]["problem"]


def test_path(fetched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["path", "cifar10"]) == 0
    assert capsys.readouterr().out == f"{fetched}\n"
    assert run_json(capsys, "path", "cifar10")["path"] == str(fetched)
    with pytest.raises(UserError, match="data fetch mnist"):
        command.main(["path", "mnist"])


def test_remove_deletes_all_traces_in_the_cache(fetched: Path, cache: Path) -> None:
    cifar10.load(fetched)
    assert decoded_folders("cifar10")
    (cache / "partial" / "cifar10").mkdir(parents=True)
    assert command.main(["remove", "cifar10"]) == 0
    assert files_below(cache) == []
    assert not fetched.exists()


def test_remove_never_touches_data_dir(
    fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = put_small_cifar10(tmp_path / "own")
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "own"))
    assert command.main(["remove", "cifar10"]) == 0
    assert not fetched.exists()
    assert command.main(["remove", "cifar10"]) == 0
    assert "lies in DL_DATA_DIR and stays" in capsys.readouterr().out
    assert sorted(path.name for path in (own / "plain_text").iterdir()) == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00001.parquet",
    ]


def test_remove_refuses_where_the_cache_is_the_data_dir(
    fetched: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DL_DATA_DIR", str(cache / "data"))
    with pytest.raises(UserError, match="lies in DL_DATA_DIR"):
        command.main(["remove", "cifar10"])
    assert (fetched / cifar10.TRAIN).is_file()


def test_remove_of_a_link_leaves_its_target(cache: Path, tmp_path: Path) -> None:
    target = put_small_cifar10(tmp_path / "elsewhere")
    (cache / "data").mkdir(parents=True)
    (cache / "data" / "cifar10").symlink_to(target)
    assert command.main(["remove", "cifar10"]) == 0
    assert not (cache / "data" / "cifar10").exists()
    assert (target / cifar10.TRAIN).is_file()


def test_fetch_names_all_failures(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataUnavailableError, match=r"cifar10 is not .* mnist is not"):
        command.main(["fetch", "cifar10", "mnist"])
    with pytest.raises(UsageError, match="name one or more"):
        command.main(["fetch"])
    with pytest.raises(UsageError, match="did you mean mnist"):
        command.main(["fetch", "cifar10", "minst"])


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--help",), 0, "verify"),
        (("list", "--colour"), 2, "--colour"),
        (("frobnicate",), 2, "frobnicate"),
        (("path", "colour-scenes"), 1, "error: colour-scenes is built in: it has no folder"),
        (("remove", "colour-scenes"), 1, "error: colour-scenes is built in"),
        (("path", "cifar-10"), 2, "error: there is no data set or asset 'cifar-10'; did you mean cifar10?"),
    ],
)
def test_exit_codes_of_the_script(words: tuple[str, ...], code: int, text: str) -> None:
    program = "from dlcommon.runtime.cli import data; data()"
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *words], capture_output=True, text=True, timeout=600
    )
    assert process.returncode == code, process.stderr
    assert text in process.stdout + process.stderr
    assert "Traceback" not in process.stderr


def test_importing_the_registry_is_light() -> None:
    program = "import sys, dlcommon.runtime.data; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=600, env=dict(os.environ)
    )
    loaded = set(process.stdout.split())
    assert "dlcommon" in loaded
    assert not loaded & {"torch", "pandas", "matplotlib", "huggingface_hub", "httpx2", "sklearn", "mlxtend"}
