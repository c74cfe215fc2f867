"""`data`: lists, fetches, verifies and removes data sets."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from dlcommon.runtime.data import registry
from dlcommon.runtime.data.decoded_cache import decoded_folders
from dlcommon.runtime.data.fetch import exclusive, fetch, manifest_path, partial_path
from dlcommon.runtime.data.locate import LocatedDataSet, data_cache, data_dir, find
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.runtime.files import explained_disk_errors, read_json, sha256
from dlcommon.runtime.output import Output

Names = tyro.conf.Positional[tuple[str, ...]]


@dataclass(frozen=True)
class ListOptions:
    """Show all data sets: where they lie, their size and licence."""

    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class FetchOptions:
    """Download data sets to the cache."""

    names: Names
    """Data sets."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class VerifyOptions:
    """Read data sets from end to end and compare their checksums."""

    names: Names = ()
    """Data sets; by default all that are on this machine."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class PathOptions:
    """Print the folder of a data set."""

    name: tyro.conf.Positional[str]
    """Data set."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class RemoveOptions:
    """Delete a data set from the cache; what lies in DL_DATA_DIR is never touched."""

    name: tyro.conf.Positional[str]
    """Data set."""
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
        UsageError: there is no data set of that name.
        UserError: the command cannot be done; says why.
    """
    description = "Data sets: in DL_DATA_DIR, in the cache (DL_CACHE_DIR), or built in."
    options: Any = tyro.cli(Options, prog="data", args=argv, description=description)
    output = Output(options.json)
    match options:
        case ListOptions():
            return _list(output)
        case FetchOptions(names):
            return _fetch(names, output)
        case VerifyOptions(names):
            return _verify(names, output)
        case PathOptions(name):
            return _path(name, output)
        case _:
            return _remove(options.name, output)


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def facts(located: LocatedDataSet | None, name: str) -> dict[str, Any]:
    dataset = registry.get(name)
    return {
        "name": name,
        "title": dataset.title.en,
        "description": dataset.description,
        "origin": located.origin if located else None,
        "path": str(located.path) if located and located.path else None,
        "bytes": located.size() if located and located.path else None,
        "licence": dataset.licence,
        "home": dataset.home or None,
        "files": list(dataset.files),
    }


def _list(output: Output) -> int:
    rows = [facts(find(name), name) for name in registry.DATA_SETS]
    table = [("NAME", "WHERE", "SIZE", "LICENCE")]
    for row in rows:
        size = megabytes(row["bytes"]) if row["bytes"] is not None else "-"
        where = row["origin"] or "not fetched"
        table.append((row["name"], where, size, row["licence"]))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for line, description in zip(table, ["", *(row["description"] for row in rows)], strict=True):
        output.say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if description:
            output.say(f"    {description}")
    root = data_dir()
    output.say(f"\nDL_DATA_DIR: {root or 'not set'}\ncache: {data_cache()}")
    output.result({"data_sets": rows, "data_dir": str(root) if root else None, "cache": str(data_cache())})
    return 0


def _fetch(names: tuple[str, ...], output: Output) -> int:
    if not names:
        raise UsageError("data fetch: name one or more data sets; `data list` shows them")
    for name in names:  # a misspelt last name shows before the first download
        registry.get(name)
    failed, done = [], []
    for name in names:
        try:
            located = fetch(name)
        except DataUnavailableError as error:
            failed.append(str(error))
            continue
        output.say(f"{located.describe()}: {located.path or 'nothing to fetch'}")
        done.append(facts(located, name))
    output.result({"data_sets": done, "failed": failed})
    if failed:
        raise DataUnavailableError("; ".join(failed))
    return 0


def _verify(names: tuple[str, ...], output: Output) -> int:
    """Exit code 1 if any of them is damaged; all are looked at in any case."""
    asked = [(name, find(name)) for name in names or registry.DATA_SETS]
    results, bad = [], 0
    for name, located in asked:
        if located is None and not names:
            continue
        problem = f"{name} is not on this machine; `data fetch {name}` brings it"
        if located is not None:
            problem = _problem(located)
        output.say(f"{name}: {problem or f'whole, {located.describe()}'}" if located else problem)
        results.append({"name": name, "ok": not problem, "problem": problem or None})
        bad += bool(problem)
    output.result({"data_sets": results})
    return 1 if bad else 0


def _problem(located: LocatedDataSet) -> str:
    """What is wrong with a data set; empty if nothing is."""
    manifest, folder = manifest_path(located.name), located.path
    try:
        if folder is not None and located.origin == "cache" and manifest.is_file():
            for file, expected in read_json(manifest)["files"].items():
                if sha256(path := folder / file) != expected:
                    return (
                        f"{path} is not what was fetched: its checksum differs; fetch it again "
                        f"with `data remove {located.name}` and `data fetch {located.name}`"
                    )
        located.load()
    except UserError as error:
        return str(error)
    return ""


def _path(name: str, output: Output) -> int:
    located = find(name)
    if located is None:
        raise UserError(f"{name} is not on this machine; `data fetch {name}` brings it")
    if located.path is None:
        raise UserError(f"{name} is built in: it has no folder")
    if not output.as_json:
        output.say(str(located.path))
    output.result(facts(located, name))
    return 0


def _remove(name: str, output: Output) -> int:
    dataset = registry.get(name)
    if dataset.builtin:
        raise UserError(f"{name} is built in: there is nothing to remove")
    folder, root = data_cache() / dataset.folder, data_dir()
    if root is not None and folder.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{folder} lies in DL_DATA_DIR, where this command removes nothing")
    removed = []
    with exclusive(name):
        for path in (folder, partial_path(name), manifest_path(name), *decoded_folders(name)):
            if path.is_symlink() or path.exists():
                _delete(path)
                removed.append(str(path))
    if str(folder) in removed:
        output.say(f"removed {folder}")
    elif (located := find(name)) is not None:
        output.say(f"{name} is not in the cache; {located.path} lies in DL_DATA_DIR and stays")
    else:
        output.say(f"{name} is not in the cache")
    output.result({"name": name, "removed": removed})
    return 0


def _delete(path: Path) -> None:
    """A link is deleted itself, not what it points to."""
    with explained_disk_errors(path):
        action: Callable[[Path], None] = shutil.rmtree if path.is_dir() and not path.is_symlink() else Path.unlink
        action(path)
