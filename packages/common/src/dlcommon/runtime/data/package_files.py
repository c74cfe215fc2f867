"""Finds files inside installed Python packages without importing the packages."""

from importlib.util import find_spec
from pathlib import Path

from dlcommon.runtime.errors import UserError


def package_folder(module: str) -> Path | None:
    """Returns the folder of an installed top-level package; None if it is not installed."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def package_file(module: str, file: str, data_set: str, extra: str = "tables") -> Path:
    """Returns the path of a file that a data set reads from an installed package.

    Args:
        module: import name of the package.
        file: path below the package's folder.
        data_set: name that the error gives.
        extra: extra of `dlcommon` that installs the package.

    Raises:
        UserError: the package is not installed.
    """
    folder = package_folder(module)
    if folder is None:
        package = module.replace("_", "-")
        raise UserError(
            f"{data_set} comes with {package}, which is not installed; add it with `uv add 'dlcommon[{extra}]'`"
        )
    return folder / file
