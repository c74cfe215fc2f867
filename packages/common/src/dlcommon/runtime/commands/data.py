"""`data`: lists, fetches, verifies and removes data sets and assets."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from dlcommon.runtime.data.asset import Asset
from dlcommon.runtime.data.cache import data_cache, decoded_folders, manifest_path, partial_path
from dlcommon.runtime.data.fetch import exclusive, fetch, fetch_asset
from dlcommon.runtime.data.locate import LocatedDataSet, data_dir, find
from dlcommon.runtime.data.locate_asset import LocatedAsset, find_asset, how_to_get
from dlcommon.runtime.data.registry import ASSETS, DATA_SETS, check_name
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.runtime.files import explained_disk_errors
from dlcommon.runtime.output import Output

Names = tyro.conf.Positional[tuple[str, ...]]
Located = LocatedDataSet | LocatedAsset


@dataclass(frozen=True)
class ListOptions:
    """Show all data sets and assets: where they lie, their size and licence."""

    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class FetchOptions:
    """Download data sets and assets to the cache."""

    names: Names
    """Data sets or assets."""
    form: str | None = None
    """The form of an asset that is wanted, such as safetensors, where it comes in several."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class VerifyOptions:
    """Read data sets and assets from end to end and compare their checksums."""

    names: Names = ()
    """Data sets or assets; by default all that are on this machine."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class PathOptions:
    """Print the folder of a data set or an asset."""

    name: tyro.conf.Positional[str]
    """Data set or asset."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class RemoveOptions:
    """Delete a data set or an asset from the cache; what lies in DL_DATA_DIR or a package is never touched."""

    name: tyro.conf.Positional[str]
    """Data set or asset."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


Options = (
    Annotated[ListOptions, tyro.conf.subcommand("list")]
    | Annotated[FetchOptions, tyro.conf.subcommand("fetch")]
    | Annotated[VerifyOptions, tyro.conf.subcommand("verify")]
    | Annotated[PathOptions, tyro.conf.subcommand("path")]
    | Annotated[RemoveOptions, tyro.conf.subcommand("remove")]
)


def main(argv: list[str]) -> int:
    """Runs `data …`; returns the exit code.

    Raises:
        UsageError: there is no data set or asset of that name.
        UserError: the command cannot be done; says why.
    """
    description = (
        "Data sets and pretrained assets: in DL_DATA_DIR, in the cache (DL_CACHE_DIR), built in, or in packages."
    )
    options: Any = tyro.cli(Options, prog="data", args=argv, description=description)
    output = Output(options.json)
    match options:
        case ListOptions():
            return _list(output)
        case FetchOptions(names, form):
            return _fetch(names, form, output)
        case VerifyOptions(names):
            return _verify(names, output)
        case PathOptions(name):
            return _path(name, output)
        case _:
            return _remove(options.name, output)


def _find(name: str) -> Located | None:
    """Finds the data set or asset of that name on this machine.

    Raises:
        UsageError: there is none of that name.
    """
    check_name(name)
    return find(name) if name in DATA_SETS else find_asset(name)


def _fetch_one(name: str, form: str | None) -> Located:
    if name not in DATA_SETS:
        return fetch_asset(name, form)
    if form is not None:
        raise UsageError(f"{name} is a data set; --form chooses the form of an asset")
    return fetch(name)


def _unavailable(name: str) -> str:
    """Says how to get what is not on this machine."""
    way = f"`data fetch {name}` brings it" if name in DATA_SETS else how_to_get(ASSETS[name])
    return f"{name} is not on this machine; {way}"


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f} MB"


def facts(located: Located | None, name: str) -> dict[str, Any]:
    """Returns what `--json` says about a data set or an asset; `located` is None where it is not on this machine."""
    entry = DATA_SETS[name] if name in DATA_SETS else ASSETS[name]
    content: dict[str, Any] = {
        "name": name,
        "title": entry.title.en,
        "description": entry.description,
        "origin": located.origin if located else None,
        "path": str(located.path) if located and located.path else None,
        "bytes": located.size() if located and located.path else None,
        "licence": entry.licence,
        "home": entry.home or None,
    }
    if isinstance(entry, Asset):
        content["form"] = located.form.name if isinstance(located, LocatedAsset) else None
        content["files"] = list(located.form.files) if isinstance(located, LocatedAsset) else []
    else:
        content["files"] = list(entry.files)
    return content


def _list(output: Output) -> int:
    data_sets = [facts(find(name), name) for name in DATA_SETS]
    assets = [facts(find_asset(name), name) for name in ASSETS]
    _say_table(output, ("DATA SET", "WHERE", "SIZE", "LICENCE"), data_sets)
    if assets:
        output.say()
        _say_table(output, ("ASSET", "WHERE", "SIZE", "LICENCE"), assets)
    root = data_dir()
    output.say(f"\nDL_DATA_DIR: {root or 'not set'}\ncache: {data_cache()}")
    output.result(
        {
            "data_sets": data_sets,
            "assets": assets,
            "data_dir": str(root) if root else None,
            "cache": str(data_cache()),
        }
    )
    return 0


def _say_table(output: Output, header: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    table = [header]
    for row in rows:
        form = f" ({row['form']})" if row.get("form") else ""
        table.append((row["name"], (row["origin"] or "not fetched") + form, _megabytes(row["bytes"]), row["licence"]))
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for line, description in zip(table, ["", *(row["description"] for row in rows)], strict=True):
        output.say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if description:
            output.say(f"    {description}")


def _fetch(names: tuple[str, ...], form: str | None, output: Output) -> int:
    if not names:
        raise UsageError("data fetch: name one or more data sets or assets; `data list` shows them")
    for name in names:  # a misspelt last name shows before the first download
        check_name(name)
    failed, done = [], []
    for name in names:
        try:
            located = _fetch_one(name, form)
        except DataUnavailableError as error:
            failed.append(str(error))
            continue
        output.say(f"{located.describe()}: {located.path or 'nothing to fetch'}")
        done.append(facts(located, name))
    output.result({**_by_kind(done), "failed": failed})
    if failed:
        raise DataUnavailableError("; ".join(failed))
    return 0


def _by_kind(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {
        "data_sets": [row for row in rows if row["name"] in DATA_SETS],
        "assets": [row for row in rows if row["name"] not in DATA_SETS],
    }


def _verify(names: tuple[str, ...], output: Output) -> int:
    """Verifies all of them even if the first is damaged; returns exit code 1 if any is."""
    asked = [(name, _find(name)) for name in names or (*DATA_SETS, *ASSETS)]
    results = []
    for name, located in asked:
        if located is None and not names:
            continue
        problem = _unavailable(name) if located is None else _problem(located)
        output.say(problem if located is None else f"{name}: {problem or f'whole, {located.describe()}'}")
        results.append({"name": name, "ok": not problem, "problem": problem or None})
    output.result(_by_kind(results))
    return 0 if all(result["ok"] for result in results) else 1


def _problem(located: Located) -> str:
    """Returns what is wrong with a data set or an asset; empty if nothing is."""
    try:
        located.verify()
    except UserError as error:
        return str(error)
    return ""


def _path(name: str, output: Output) -> int:
    located = _find(name)
    if located is None:
        raise DataUnavailableError(_unavailable(name))
    if located.path is None:
        raise UserError(f"{name} is built in: it has no folder")
    if not output.as_json:
        output.say(str(located.path))
    output.result(facts(located, name))
    return 0


def _remove(name: str, output: Output) -> int:
    check_name(name)
    if name in DATA_SETS:
        entry = DATA_SETS[name]
        if entry.builtin:
            raise UserError(f"{name} is built in: there is nothing to remove")
        keys, folder = [name], data_cache() / entry.folder
    else:
        asset = ASSETS[name]
        keys, folder = [asset.key(form) for form in asset.forms], data_cache() / "assets" / name
    root = data_dir()
    if root is not None and folder.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{folder} lies in DL_DATA_DIR, where this command removes nothing")
    removed = []
    with ExitStack() as locks:
        for key in keys:
            locks.enter_context(exclusive(key))
        traces = [path for key in keys for path in (partial_path(key), manifest_path(key))]
        for path in (folder, *traces, *decoded_folders(name)):
            if path.is_symlink() or path.exists():
                _delete(path)
                removed.append(str(path))
    if str(folder) in removed:
        output.say(f"removed {folder}")
    elif (located := _find(name)) is not None:
        output.say(f"{name} is not in the cache; {located.path} lies in {_place(located)} and stays")
    else:
        output.say(f"{name} is not in the cache")
    output.result({"name": name, "removed": removed})
    return 0


def _place(located: Located) -> str:
    return "an installed package" if located.origin == "package" else located.origin


def _delete(path: Path) -> None:
    """Deletes a file or a folder; of a link the link itself, not what it points to."""
    with explained_disk_errors(path):
        action: Callable[[Path], None] = shutil.rmtree if path.is_dir() and not path.is_symlink() else Path.unlink
        action(path)
