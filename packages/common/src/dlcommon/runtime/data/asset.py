"""Defines assets: weights and tokenizers that others have trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dlcommon.runtime.data.dataset import Entry, Source
from dlcommon.runtime.data.package_files import InstalledPackage


@dataclass(frozen=True)
class AssetForm:
    """Describes one form that an asset comes in, such as safetensors or GGUF, and the places that have it."""

    name: str
    files: Mapping[str, str | None] = field(hash=False)
    """sha256 of each file by its path; None where only the hub that the file comes from states its checksum."""
    package: InstalledPackage | None = None
    sources: tuple[Source, ...] = ()
    """Tried in order."""


@dataclass(frozen=True)
class Asset(Entry):
    """Describes pretrained weights, a tokenizer, or both.

    The forms hold the same model, but maybe rounded differently, so that whoever loads one must look at its name.
    """

    forms: tuple[AssetForm, ...]
    """Preferred first."""

    def folder(self, form: AssetForm) -> str:
        """Returns the folder of a form's files, below `DL_DATA_DIR` or the cache."""
        return f"assets/{self.name}/{form.name}"

    def key(self, form: AssetForm) -> str:
        """Returns the name that a form's locks, manifests and unfinished downloads go by in the cache."""
        return f"{self.name}@{form.name}"
