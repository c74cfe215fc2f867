"""The registry: packages bring their own data sets as entry points; files may be named by patterns."""

import ast
import hashlib
import sys
from pathlib import Path

import pytest
from dlcommon.runtime import data
from dlcommon.runtime.commands import data as command
from dlcommon.runtime.data import ASSETS, DATA_SETS, DataSet, find, own_files
from dlcommon.runtime.data.cache import manifest_path
from dlcommon.runtime.data.fingerprint import fingerprint, matching_files, missing_files
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.files import sha256, write_json
from dlcommon.runtime.localization import LocalizedText
from dlcommon.testing.data_files import FileContents
from dlcommon.testing.toy_distribution import write_distribution

GROUP = "dlcommon.data_sets"
MODULE = """
from dlcommon.runtime.data import DataSet
from dlcommon.runtime.localization import LocalizedText

def load(folder):
    return [path.read_text() for path in sorted(folder.glob("notes/*.txt"))]

DATA_SET = DataSet(
    "toy-notes", LocalizedText("Notes", "笔记"), "short notes", "CC0", "", load,
    folder="notes", files=("notes/*.txt", "index.csv"),
)
"""

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution that brings `toy-notes`."""
    site = write_distribution(
        tmp_path / "site", "toy-capstone", {"toy_notes_data": MODULE}, {GROUP: {"toy-notes": "toy_notes_data:DATA_SET"}}
    )
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "toy_notes_data", raising=False)
    return site


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three notes in DL_DATA_DIR; returns their folder."""
    folder = tmp_path / "own" / "notes"
    (folder / "notes").mkdir(parents=True)
    (folder / "index.csv").write_text("name\n")
    for name in ("b", "a", "c"):
        (folder / "notes" / f"{name}.txt").write_text(f"note {name}")
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "own"))
    return folder


def test_package_brings_a_data_set_that_is_imported_when_asked_for(site: Path, notes: Path) -> None:
    assert "toy-notes" in DATA_SETS
    assert find("cifar10") is None
    assert "toy_notes_data" not in sys.modules
    located = find("toy-notes")
    assert located is not None
    assert located.describe() == "toy-notes (DL_DATA_DIR)"
    assert located.load() == ["note a", "note b", "note c"]
    names = list(DATA_SETS)
    assert names.index("toy-notes") > max(names.index(name) for name in ("mnist", "sst2", "generated-reviews"))


def test_command_knows_a_package_s_data_set(site: Path, notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    assert "toy-notes" in capsys.readouterr().out
    assert command.main(["path", "toy-notes"]) == 0
    assert capsys.readouterr().out == f"{notes}\n"
    with pytest.raises(UsageError, match="did you mean toy-notes"):
        command.main(["path", "toy-note"])


def test_name_that_two_packages_bring_is_refused(site: Path) -> None:
    write_distribution(site, "other-capstone", {}, {GROUP: {"toy-notes": "other:DATA_SET"}})
    with pytest.raises(UserError, match="both bring a data set called 'toy-notes'; uninstall one"):
        find("toy-notes")
    assert find("colour-scenes") is not None  # others are not touched by it


def test_name_that_is_taken_already_is_refused(site: Path) -> None:
    write_distribution(site, "other-capstone", {}, {GROUP: {"mnist": "other:DATA_SET"}})
    with pytest.raises(UserError, match="dlcommon and other-capstone both bring a data set called 'mnist'"):
        list(DATA_SETS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import no_such_library", "cannot be imported: ModuleNotFoundError: No module named 'no_such_library'"),
        ("DATA_SETS = 1", "cannot be imported: AttributeError"),
        ("DATA_SET = 1", "is a int; it must be a DataSet"),
        (MODULE.replace('"toy-notes"', '"toy-note"'), "is called 'toy-note'; it must be a DataSet of the entry point"),
    ],
)
def test_broken_entry_point_names_its_package(site: Path, text: str, problem: str) -> None:
    (site / "toy_notes_data.py").write_text(text)
    with pytest.raises(UserError) as caught:
        find("toy-notes")
    assert "the data set 'toy-notes' of toy-capstone (toy_notes_data:DATA_SET)" in str(caught.value)
    assert problem in str(caught.value)


def test_name_of_a_data_set_and_of_an_asset_is_refused(site: Path, notes: Path) -> None:
    write_distribution(site, "other-capstone", {}, {"dlcommon.assets": {"toy-notes": "other:ASSET"}})
    for words in (["path"], ["fetch"], ["verify"], ["remove"]):
        with pytest.raises(UserError, match="a data set and an asset are both called 'toy-notes'; rename one"):
            command.main([*words, "toy-notes"])


def test_data_sets_and_assets_have_names_of_their_own() -> None:
    assert not set(DATA_SETS) & set(ASSETS)


def test_pattern_that_matches_nothing_is_a_missing_file(site: Path, notes: Path) -> None:
    for path in (notes / "notes").iterdir():
        path.unlink()
    assert find("toy-notes") is None
    assert missing_files(notes, ("notes/*.txt", "index.csv", "x")) == ["notes/*.txt", "x"]


def test_all_files_of_a_pattern_count_in_a_stable_order(site: Path, notes: Path) -> None:
    located = find("toy-notes")
    assert located is not None
    names = ["notes/a.txt", "notes/b.txt", "notes/c.txt", "index.csv"]
    assert located.files() == [notes / name for name in names]
    assert located.size() == sum((notes / name).stat().st_size for name in names)
    before = located.fingerprint()
    assert before == fingerprint(notes, located.dataset.files)
    (notes / "notes" / "d.txt").write_text("note d")
    more = located.fingerprint()
    assert more != before
    assert "note d" in located.load()
    (notes / "notes" / "d.txt").unlink()
    assert located.fingerprint() == before
    first, second = notes / "notes" / "a.txt", notes / "notes" / "b.txt"
    first.rename(notes / "kept")
    second.rename(first)
    (notes / "kept").rename(second)
    assert located.fingerprint() != before  # the same contents under each other's names


def test_fingerprint_of_plain_files_is_what_records_quote(notes: Path) -> None:
    digests = [hashlib.sha256(f"note {name}".encode()).hexdigest() for name in ("c", "a")]
    expected = hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()
    assert fingerprint(notes, ("notes/c.txt", "notes/a.txt")) == expected


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda folder: (folder / "notes" / "b.txt").write_text("other"), "b.txt: is not what was fetched"),
        (lambda folder: (folder / "notes" / "b.txt").unlink(), "b.txt: is missing, though it was fetched"),
        (lambda folder: (folder / "notes" / "z.txt").write_text("new"), "z.txt: was not fetched with the others"),
    ],
)
def test_verify_compares_all_files_of_a_pattern(
    site: Path, notes: Path, monkeypatch: pytest.MonkeyPatch, change: object, problem: str
) -> None:
    monkeypatch.delenv("DL_DATA_DIR")
    cached = manifest_path("x").parent.parent / "data" / "notes"
    cached.parent.mkdir(parents=True)
    notes.rename(cached)
    files = {str(path.relative_to(cached)): sha256(path) for path in matching_files(cached, ("notes/*.txt", "*.csv"))}
    write_json(manifest_path("toy-notes"), {"source": "test", "files": files})
    located = find("toy-notes")
    assert located is not None
    located.verify()
    assert callable(change)
    change(cached)
    with pytest.raises(UserError) as caught:
        located.verify()
    assert problem in str(caught.value)
    assert "`data remove toy-notes`" in str(caught.value)


def test_own_files_may_be_a_pattern(notes: Path) -> None:
    own = DataSet(
        "n", LocalizedText("N", "N"), "notes", "own", "", lambda folder: FileContents(b""), files=("notes/*.txt",)
    )
    assert len(own_files(own, notes).files()) == 3
    with pytest.raises(UserError, match=r"notes/\*\.txt is not a file"):
        own_files(own, notes / "notes")


def imported_modules(path: Path) -> set[str]:
    """Modules of the data registry that a file imports, anywhere in it."""
    package, names = data.__name__, set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
            names.add(str(node.module).removeprefix(f"{package}."))
    return names


def test_no_module_of_the_registry_imports_itself_by_way_of_others() -> None:
    imports = {path.stem: imported_modules(path) for path in Path(data.__file__).parent.glob("*.py")}
    assert {"cifar10", "pretrained_models"} <= imports["registry"]
    for module in imports:
        reached: set[str] = set()
        waiting = [module]
        while waiting:
            new = imports.get(waiting.pop(), set()) - reached
            reached |= new
            waiting += new
        assert module not in reached, f"{module} imports itself by way of {sorted(reached)}"
