"""Looks data sets and assets up by name.

A new one that several lessons or capstones use is a module here and a line below. One that belongs to a single
package stays in that package, which names it in its `pyproject.toml`:

    [project.entry-points."dlcommon.data_sets"]
    my-data = "my_package.data:DATA_SET"
    [project.entry-points."dlcommon.assets"]
    my-weights = "my_package.asset:ASSET"
"""

import difflib
from collections.abc import Iterable, Iterator, MutableMapping
from importlib import metadata
from typing import Generic, TypeVar

from dlcommon.runtime.data import (
    ames,
    anime_faces,
    bccd,
    cell_scenes,
    chinese_reviews,
    cifar10,
    colour_scenes,
    generated_instructions,
    generated_names,
    generated_questions,
    generated_reviews,
    house_prices,
    instructions,
    iris,
    mnist,
    mnist_sample,
    multi30k,
    orl_faces,
    pretrained_models,
    python_manual,
    sst2,
    stocks,
    tinyshakespeare,
    titanic,
    titanic_sample,
    wikitext,
    wnut17,
    xquad,
)
from dlcommon.runtime.data.asset import Asset
from dlcommon.runtime.data.dataset import DataSet, Entry
from dlcommon.runtime.errors import UsageError, UserError

E = TypeVar("E", bound=Entry)


class Registry(MutableMapping[str, E], Generic[E]):
    """Maps names to entries: this package's own, then those that installed packages bring as entry points.

    An entry point is imported when its name is looked up, not before.
    """

    def __init__(self, kind: str, group: str, entry_type: type[E], entries: Iterable[E]) -> None:
        self.kind, self.group, self.entry_type = kind, group, entry_type
        self._own = {entry.name: entry for entry in entries}

    def entry_points(self) -> dict[str, metadata.EntryPoint]:
        """Returns the entry points of installed packages by name, without importing them.

        Raises:
            UserError: a name is declared twice.
        """
        points: dict[str, metadata.EntryPoint] = {}
        for point in sorted(metadata.entry_points(group=self.group), key=lambda point: point.name):
            if point.name in points or point.name in self._own:
                first = _package(points[point.name]) if point.name in points else "dlcommon"
                raise UserError(
                    f"{first} and {_package(point)} both bring a {self.kind} called {point.name!r}; uninstall one, "
                    f"or rename it in the entry points {self.group!r} of its pyproject.toml"
                )
            points[point.name] = point
        return points

    def __getitem__(self, name: str) -> E:
        if name in self._own:
            return self._own[name]
        return self._load(self.entry_points()[name])

    def __setitem__(self, name: str, entry: E) -> None:
        self._own[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self.entry_points()

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self.entry_points()

    def __len__(self) -> int:
        return len(self._own) + len(self.entry_points())

    def find(self, name: str) -> E:
        """Returns the entry of that name.

        Raises:
            UsageError: there is none; names the most similar ones.
            UserError: the package that brings it is broken.
        """
        if name not in self:
            raise unknown(self.kind, name, self)
        return self[name]

    def _load(self, point: metadata.EntryPoint) -> E:
        where = f"the {self.kind} {point.name!r} of {_package(point)} ({point.value})"
        try:
            entry = point.load()
        except Exception as error:  # whatever importing someone else's module may raise
            raise UserError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
        if not isinstance(entry, self.entry_type) or entry.name != point.name:
            found = f"is called {entry.name!r}" if isinstance(entry, Entry) else f"is a {type(entry).__name__}"
            raise UserError(f"{where} {found}; it must be a {self.entry_type.__name__} of the entry point's name")
        return entry


class AssetRegistry(Registry[Asset]):
    """Knows, besides the assets that are declared, every language model of the hub by its name there."""

    def __getitem__(self, name: str) -> Asset:
        found = None if super().__contains__(name) else pretrained_models.hub_model(name)
        return found or super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and pretrained_models.hub_model(name) is not None)


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unnamed package"


DATA_SETS = Registry(
    "data set",
    "dlcommon.data_sets",
    DataSet,
    (
        module.DATA_SET
        for module in (
            *(cifar10, mnist, mnist_sample, colour_scenes),
            *(anime_faces, orl_faces, bccd, cell_scenes, multi30k, sst2, generated_reviews, chinese_reviews),
            *(wnut17, generated_names, xquad, generated_questions, instructions, generated_instructions),
            *(tinyshakespeare, wikitext, python_manual, stocks),
            *(titanic, titanic_sample, iris, house_prices, ames),
        )
    ),
)
ASSETS = AssetRegistry("asset", "dlcommon.assets", Asset, pretrained_models.ASSETS)


def unknown(kind: str, name: str, names: Iterable[str]) -> UsageError:
    """Returns the error for a name that is not among `names`; it suggests similar ones."""
    known = list(names)
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(known)}"
    return UsageError(f"there is no {kind} {name!r}; {hint}")


def check_name(name: str) -> None:
    """Checks that the name stands for one thing, a data set or an asset.

    Raises:
        UsageError: it stands for nothing; names the most similar ones.
        UserError: it stands for both, so that a command could not tell which is meant.
    """
    if name in DATA_SETS and name in ASSETS:
        raise UserError(
            f"a data set and an asset are both called {name!r}; rename one where it is declared, in the entry points "
            f"{DATA_SETS.group!r} or {ASSETS.group!r} of its package's pyproject.toml"
        )
    if name not in DATA_SETS and name not in ASSETS:
        raise unknown("data set or asset", name, (*DATA_SETS, *ASSETS))
