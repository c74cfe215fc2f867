"""What the columns of the Ames files say about a house: grades as numbers, sums of areas, ages, and categories.

The features are built from whichever of Kaggle's columns a table has. Missing values are imputed first
(`ImputedColumns`), so that everything after is a formula of known numbers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.tables.columns import Column
from dlcommon.runtime.tables.features import Block, OneHot
from dlcommon.runtime.tables.graph import Graph

from house_prices.expressions import (
    Expression,
    Formulas,
    at_least,
    grade,
    known_or,
    logarithm,
    number,
    square_root,
)
from house_prices.levels import AmongNeighbours, PriceLevel

QUALITY = {"Ex": 5.0, "Gd": 4.0, "TA": 3.0, "Fa": 2.0, "Po": 1.0}
"""Excellent, good, typical, fair, poor; "None" is 0."""
GRADES: dict[str, dict[str, float]] = {
    **dict.fromkeys(
        "ExterQual ExterCond BsmtQual BsmtCond HeatingQC KitchenQual FireplaceQu GarageQual GarageCond PoolQC".split(),
        QUALITY,
    ),
    "BsmtExposure": {"Gd": 4, "Av": 3, "Mn": 2, "No": 1},
    "BsmtFinType1": {"GLQ": 6, "ALQ": 5, "BLQ": 4, "Rec": 3, "LwQ": 2, "Unf": 1},
    "BsmtFinType2": {"GLQ": 6, "ALQ": 5, "BLQ": 4, "Rec": 3, "LwQ": 2, "Unf": 1},
    "Functional": {"Typ": 7, "Min1": 6, "Min2": 5, "Mod": 4, "Maj1": 3, "Maj2": 2, "Sev": 1},
    "GarageFinish": {"Fin": 3, "RFn": 2, "Unf": 1},
    "Fence": {"GdPrv": 4, "MnPrv": 3, "GdWo": 2, "MnWw": 1},
    "LandSlope": {"Gtl": 3, "Mod": 2, "Sev": 1},
    "LotShape": {"Reg": 4, "IR1": 3, "IR2": 2, "IR3": 1},
    "PavedDrive": {"Y": 3, "P": 2, "N": 1},
    "CentralAir": {"Y": 1},
    "Street": {"Pave": 1},
}
CATEGORIES = (
    "MSSubClass MSZoning Neighborhood Condition1 Condition2 BldgType HouseStyle RoofStyle RoofMatl Exterior1st "
    "Exterior2nd MasVnrType Foundation Heating Electrical GarageType SaleType SaleCondition LandContour LotConfig "
    "Alley MiscFeature MoSold YrSold"
).split()
"""Columns of which each frequent value becomes a feature; MSSubClass is a code, and months have no order."""

GROUPS: dict[str, tuple[str, ...]] = {
    name: tuple(columns.split())
    for name, columns in {
        "Size": "GrLivArea 1stFlrSF 2ndFlrSF LowQualFinSF TotRmsAbvGrd BedroomAbvGr KitchenAbvGr FullBath HalfBath "
        "HouseStyle BldgType MSSubClass",
        "Quality": "OverallQual OverallCond ExterQual ExterCond KitchenQual Functional Heating HeatingQC CentralAir "
        "Electrical Fireplaces FireplaceQu",
        "Location": "Neighborhood MSZoning Condition1 Condition2 Longitude Latitude",
        "Age": "YearBuilt YearRemodAdd",
        "Basement": "TotalBsmtSF BsmtFinSF1 BsmtFinSF2 BsmtUnfSF BsmtQual BsmtCond BsmtExposure BsmtFinType1 "
        "BsmtFinType2 BsmtFullBath BsmtHalfBath Foundation",
        "Garage": "GarageType GarageYrBlt GarageFinish GarageCars GarageArea GarageQual GarageCond PavedDrive",
        "Lot": "LotArea LotFrontage LotShape LandContour LandSlope LotConfig Street Alley Utilities Fence",
        "Outside": "WoodDeckSF OpenPorchSF EnclosedPorch 3SsnPorch ScreenPorch PoolArea PoolQC RoofStyle RoofMatl "
        "Exterior1st Exterior2nd MasVnrType MasVnrArea MiscFeature MiscVal",
        "Sale": "SaleType SaleCondition MoSold YrSold",
    }.items()
}
"""Columns that belong together where an answer is explained. A feature of several groups counts to the first."""

LEVELS = ("Neighborhood", "MSSubClass")
"""Columns whose categories stand for a price level."""

MEANINGFUL_GAPS = ("LotFrontage", "GarageYrBlt")
"""Imputed by a formula, not by the training rows' typical value."""


class ImputedColumns:
    """Replaces missing values by the training rows' median or most frequent text, except for `MEANINGFUL_GAPS`."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = [column for column in columns if column.kind != "text"]

    def fit(self, arrays: Arrays) -> None:
        self.typical: dict[str, float | str] = {}
        for column in self.columns:
            values = arrays[column.name][:, 0]
            if column.kind == "number":
                known = values[~np.isnan(values)]
                self.typical[column.name] = float(np.float32(np.median(known))) if known.size else 0.0
            else:
                levels, counts = np.unique(values[values != ""].astype(str), return_counts=True)
                self.typical[column.name] = str(levels[counts.argmax()]) if levels.size else ""

    def transform(self, arrays: Arrays) -> dict[str, np.ndarray]:
        filled: dict[str, np.ndarray] = {}
        for column in self.columns:
            values, typical = arrays[column.name], self.typical[column.name]
            if column.kind == "category":
                filled[column.name] = np.where(values == "", np.array(typical, object), values)
            elif column.name in MEANINGFUL_GAPS:
                filled[column.name] = values
            else:
                filled[column.name] = np.where(np.isnan(values), np.float32(typical), values)
        return filled

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> dict[str, str]:
        filled = {}
        for column in self.columns:
            name, typical = inputs[column.name], self.typical[column.name]
            if column.kind == "category":
                missing = graph.add("Equal", name, graph.constant([[""]], object))
                filled[column.name] = graph.add("Where", missing, graph.constant([[typical]], object), name)
            elif column.name in MEANINGFUL_GAPS:
                filled[column.name] = name
            else:
                missing = graph.add("IsNaN", name)
                filled[column.name] = graph.add("Where", missing, graph.constant([[typical]]), name)
        return filled


def formulas() -> dict[str, Expression]:
    """Returns all numbers that a model sees, by name."""
    graded = {column: grade(column, values) for column, values in GRADES.items()}
    plain = (
        "OverallQual OverallCond BsmtFullBath BsmtHalfBath FullBath HalfBath BedroomAbvGr KitchenAbvGr TotRmsAbvGrd "
        "Fireplaces GarageCars YearBuilt YearRemodAdd YrSold Longitude Latitude"
    ).split()
    areas = (
        "LotArea MasVnrArea BsmtFinSF1 BsmtFinSF2 BsmtUnfSF TotalBsmtSF 1stFlrSF 2ndFlrSF LowQualFinSF GrLivArea "
        "GarageArea WoodDeckSF OpenPorchSF EnclosedPorch 3SsnPorch ScreenPorch PoolArea MiscVal"
    ).split()
    frontage = known_or(number("LotFrontage"), square_root(number("LotArea")) * 0.7)
    garage_year = known_or(number("GarageYrBlt"), number("YearBuilt"))
    above = number("1stFlrSF") + number("2ndFlrSF")
    total = number("TotalBsmtSF") + number("GrLivArea")
    finished = number("BsmtFinSF1") + number("BsmtFinSF2") + number("GrLivArea")
    bathrooms = number("FullBath") + number("BsmtFullBath") + number("HalfBath") * 0.5 + number("BsmtHalfBath") * 0.5
    porch = number("OpenPorchSF") + number("EnclosedPorch") + number("3SsnPorch") + number("ScreenPorch")
    age = at_least(number("YrSold") - number("YearBuilt"), 0)
    since_works = at_least(number("YrSold") - number("YearRemodAdd"), 0)
    quality, condition = number("OverallQual"), number("OverallCond")
    log_total, log_living = logarithm(total), logarithm(number("GrLivArea"))
    return {
        **{name: number(name) for name in plain},
        **{f"log {name}": logarithm(number(name)) for name in areas},
        **graded,
        "log LotFrontage": logarithm(frontage),
        "garage age": at_least(number("YrSold") - garage_year, 0),
        "log area above ground": logarithm(above),
        "log total area": log_total,
        "total area": total * 0.001,
        "log finished area": logarithm(finished),
        "bathrooms": bathrooms,
        "log porches": logarithm(porch),
        "age": age,
        "log age": logarithm(age),
        "years since works": since_works,
        "log years since works": logarithm(since_works),
        "remodelled": number("YearRemodAdd") > number("YearBuilt"),
        "new when sold": number("YearBuilt") + 2 > number("YrSold"),
        "basement": number("TotalBsmtSF") > 0,
        "second floor": number("2ndFlrSF") > 0,
        "garage": number("GarageArea") > 0,
        "fireplace": number("Fireplaces") > 0,
        "pool": number("PoolArea") > 0,
        "veneer": number("MasVnrArea") > 0,
        "deck": number("WoodDeckSF") > 0,
        "area per room": logarithm(number("GrLivArea") / at_least(number("TotRmsAbvGrd"), 1)),
        "lot per area": logarithm(number("LotArea") / at_least(number("GrLivArea"), 1)),
        "quality squared": quality * quality,
        "quality times condition": quality * condition,
        "quality times log total area": quality * log_total,
        "quality times log living area": quality * log_living,
        "condition times age": condition * age * 0.01,
        "kitchen times quality": graded["KitchenQual"] * quality,
        "exterior times quality": graded["ExterQual"] * quality,
        "basement quality times area": graded["BsmtQual"] * number("TotalBsmtSF") * 0.001,
        "garage quality times cars": graded["GarageQual"] * number("GarageCars"),
        "fireplace quality": graded["FireplaceQu"] * number("Fireplaces"),
    }


def compared() -> dict[str, Expression]:
    """Lists what a house is compared with its neighbourhood in."""
    areas = {f"log {name}": logarithm(number(name)) for name in ("GrLivArea", "LotArea", "TotalBsmtSF")}
    return {**areas, "OverallQual": number("OverallQual"), "YearBuilt": number("YearBuilt")}


def house_blocks(columns: Sequence[Column]) -> list[Block]:
    """Makes the features of a list of houses, as far as its columns allow."""
    names = {column.name for column in columns}
    possible = {name: e for name, e in formulas().items() if e.sources <= names}
    conform = {f"{name}, among neighbours": value for name, value in compared().items() if value.sources <= names}
    levels = [PriceLevel(name) for name in LEVELS if name in names]
    return [
        Formulas(possible),
        AmongNeighbours(conform),
        *levels,
        *[OneHot(name) for name in CATEGORIES if name in names],
    ]


DESCRIPTIONS = {
    "Neighborhood": "Within Ames.",
    "GrLivArea": "Living area above ground, square feet.",
    "LotArea": "Square feet.",
    "LotFrontage": "Feet of street connected to the lot; left out: from the lot's area.",
    "OverallQual": "Material and finish, 1 to 10.",
    "OverallCond": "Condition, 1 to 10.",
    "YearRemodAdd": "Year of the last works; the year built if there were none.",
    "TotalBsmtSF": "Basement, square feet.",
    "1stFlrSF": "First floor, square feet.",
    "2ndFlrSF": "Second floor, square feet.",
    "GarageCars": "Cars that the garage holds.",
    "MSSubClass": "Kind of dwelling, as a code of the assessor's office.",
    "KitchenQual": "Excellent, good, typical, fair, poor.",
    "SaleCondition": "Partial: not finished when it was assessed.",
    "MoSold": "Month of the sale.",
    "YrSold": "Year of the sale.",
}
"""Of columns whose name does not say it, for the API's page; all are described in Kaggle's data_description.txt."""
