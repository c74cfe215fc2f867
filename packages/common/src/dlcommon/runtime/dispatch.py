"""Chooses the capstone that a command runs.

All members of a workspace share one `.venv/bin`, so two that both declared a script `train` would overwrite
each other. `dlcommon` alone owns the commands, and finds out whom they are meant for.
"""

import os
import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.errors import UsageError

GROUP = "dlcommon.capstones"
VARIABLE = "DL_CAPSTONE"

# Options of `uv run` that take a value, as its next word; what follows the first other word is the command.
UV_OPTIONS_WITH_VALUE = frozenset(
    [
        "-p",
        "--python",
        "-w",
        "--with",
        "--with-editable",
        "--no-editable-package",
        "--with-requirements",
        "--extra",
        "--group",
        "--no-group",
        "--only-group",
        "--env-file",
        "--index",
        "--default-index",
        "-i",
        "--index-url",
        "--extra-index-url",
        "-f",
        "--find-links",
        "--index-strategy",
        "--keyring-provider",
        "--resolution",
        "--prerelease",
        "--prerelease-package",
        "--fork-strategy",
        "-C",
        "--config-setting",
        "--config-settings-package",
        "--no-build-isolation-package",
        "--exclude-newer",
        "--exclude-newer-package",
        "--link-mode",
        "-P",
        "--upgrade-package",
        "--upgrade-group",
        "--reinstall-package",
        "--refresh-package",
        "--no-extra",
        "--no-sources-package",
        "--no-build-package",
        "--no-binary-package",
        "--cache-dir",
        "--color",
        "--allow-insecure-host",
        "--directory",
        "--config-file",
        "--python-platform",
        "--package",
        "--project",
        "--preview-features",
        "--env-file",
        "--malware-check",
    ]
)


def installed() -> dict[str, metadata.EntryPoint]:
    """Returns the entry points of this environment's capstones by name, without importing them."""
    points = metadata.entry_points(group=GROUP)
    return {point.name: point for point in sorted(points, key=lambda point: point.name)}


def uv_run_target(command: list[str]) -> tuple[str | None, str | None] | None:
    """Reads `--package` and `--project` from a `uv run` command line; returns None for any other command."""
    if not command or Path(command[0]).name.removesuffix(".exe") != "uv":
        return None
    found: dict[str, str] = {}
    running = False
    words = iter(command[1:])
    for word in words:
        name, equals, value = word.partition("=")
        if name in UV_OPTIONS_WITH_VALUE:
            found[name] = value if equals else next(words, "")
        elif word in ("--", "-"):
            break
        elif not word.startswith("-"):
            if running:
                break
            if word != "run":
                return None
            running = True
    return (found.get("--package"), found.get("--project")) if running else None


def _known(name: str, capstones: dict[str, Any]) -> str | None:
    """Finds the capstone of a name, spelled in any of the ways that packaging treats as equal."""
    name = re.sub(r"[-_.]+", "-", name).lower()
    return name if name in capstones else None


def _from_ancestors(capstones: dict[str, Any]) -> str | None:
    """Finds the package of the nearest `uv run` above this process."""
    for parent in psutil.Process().parents():
        try:
            target = uv_run_target(parent.cmdline())
            folder = parent.cwd() if target and target[1] else ""
        except psutil.Error:
            continue
        if target is None:
            continue
        package, project = target
        if package:
            return _known(package, capstones)
        if project:
            return _from_folder(Path(folder, project), capstones)
        return None  # the nearest one names nothing: what is farther up belongs to another command
    return None


def _from_folder(folder: Path, capstones: dict[str, Any]) -> str | None:
    """Finds the capstone whose `pyproject.toml` is the nearest at or above the folder."""
    for candidate in (folder.resolve(), *folder.resolve().parents):
        project = candidate / "pyproject.toml"
        if project.is_file():
            try:
                name = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("name")
            except (tomllib.TOMLDecodeError, UnicodeDecodeError):
                return None
            return _known(str(name), capstones)
    return None


def choose(command: str) -> str:
    """Chooses the capstone by `uv run --package`, then `DL_CAPSTONE`, then the current folder, then the only one.

    Raises:
        UsageError: nothing says which one, or the one named is not installed.
    """
    capstones = installed()
    named = ", ".join(capstones) or "none"
    if found := _from_ancestors(capstones):
        return found
    if chosen := os.environ.get(VARIABLE):
        if found := _known(chosen, capstones):
            return found
        raise UsageError(f"{VARIABLE}={chosen} is no installed capstone; installed: {named}")
    if found := _from_folder(Path.cwd(), capstones):
        return found
    if len(capstones) == 1:
        return next(iter(capstones))
    raise UsageError(
        f"which capstone? Installed: {named}. Type `uv run --package NAME {command}`, or set {VARIABLE}=NAME"
    )


def load(name: str) -> Capstone[Any]:
    """Imports the declaration of an installed capstone.

    Raises:
        UsageError: none of that name is installed.
    """
    if name not in (capstones := installed()):
        raise UsageError(f"there is no capstone {name!r}; installed: {', '.join(capstones) or 'none'}")
    capstone = capstones[name].load()
    if not isinstance(capstone, Capstone):
        raise TypeError(f"the entry point {name} of {GROUP} is a {type(capstone).__name__}, not a Capstone")
    return capstone
