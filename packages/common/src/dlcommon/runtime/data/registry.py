"""All data sets by name. A new one is a module that defines `DATA_SET`, and its line here."""

import difflib

from dlcommon.runtime.data import (
    ames,
    cifar10,
    colour_scenes,
    house_prices,
    iris,
    mnist,
    mnist_sample,
    python_manual,
    stocks,
    tinyshakespeare,
    titanic,
    titanic_sample,
    wikitext,
)
from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.errors import UsageError

DATA_SETS: dict[str, DataSet] = {
    module.DATA_SET.name: module.DATA_SET
    for module in (
        *(cifar10, mnist, mnist_sample, colour_scenes),
        *(tinyshakespeare, wikitext, python_manual, stocks),
        *(titanic, titanic_sample, iris, house_prices, ames),
    )
}


def get(name: str) -> DataSet:
    """The entry of that name.

    Raises:
        UsageError: there is none; names the most similar ones.
    """
    if name in DATA_SETS:
        return DATA_SETS[name]
    close = difflib.get_close_matches(name.lower(), DATA_SETS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(DATA_SETS)}"
    raise UsageError(f"there is no data set {name!r}; {hint}")
