"""Files that installed libraries ship."""

from importlib.util import find_spec
from pathlib import Path

from dlcommon.runtime.errors import UserError


def package_file(library: str, file: str, dataset: str) -> Path:
    """The file below the library's folder, found without importing the library.

    Raises:
        UserError: the library is not installed.
    """
    spec = find_spec(library)
    if spec is None or spec.origin is None:
        name = library.replace("_", "-")
        raise UserError(f"{dataset} comes with {name}, which is not installed; add it with `uv add 'dlcommon[tables]'`")
    return Path(spec.origin).parent / file
