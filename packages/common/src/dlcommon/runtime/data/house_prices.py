"""Loads House Prices, as Kaggle's competition gives it: 1,460 sales in Ames, Iowa, with the price, and 1,459 without.

How "NA" is read: in the columns whose description lists it as a value (no alley, no basement, no garage, …;
`NONE_COLUMNS`), it becomes the category "None"; anywhere else it means "not known" and becomes NaN. The few houses
whose basement or garage was described in part have "NA" in the other columns of it, too; nothing in the files tells
those apart.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from dlcommon.runtime.data.cells import CellReader
from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.table import Table, check, read_csv
from dlcommon.runtime.localization import LocalizedText

if TYPE_CHECKING:
    import pandas as pd

TARGET, IDENTIFIER = "SalePrice", "Id"

NONE_COLUMNS = (
    "Alley BsmtQual BsmtCond BsmtExposure BsmtFinType1 BsmtFinType2 FireplaceQu GarageType GarageFinish GarageQual "
    "GarageCond PoolQC Fence MiscFeature"
).split()
TEXT_COLUMNS = (
    "MSZoning Street LotShape LandContour Utilities LotConfig LandSlope Neighborhood Condition1 Condition2 BldgType "
    "HouseStyle RoofStyle RoofMatl Exterior1st Exterior2nd MasVnrType ExterQual ExterCond Foundation Heating HeatingQC "
    "CentralAir Electrical KitchenQual Functional PavedDrive SaleType SaleCondition"
).split()
AREAS = (
    "LotFrontage LotArea MasVnrArea BsmtFinSF1 BsmtFinSF2 BsmtUnfSF TotalBsmtSF 1stFlrSF 2ndFlrSF LowQualFinSF "
    "GrLivArea GarageArea WoodDeckSF OpenPorchSF EnclosedPorch 3SsnPorch ScreenPorch PoolArea"
).split()
"""In square feet; LotFrontage in feet."""
OTHER_NUMBERS = (
    "MSSubClass OverallQual OverallCond YearBuilt YearRemodAdd BsmtFullBath BsmtHalfBath FullBath HalfBath "
    "BedroomAbvGr KitchenAbvGr TotRmsAbvGrd Fireplaces GarageYrBlt GarageCars MiscVal MoSold YrSold"
).split()

# "None" is not a missing value: MasVnrType has it as a category.
NUMBER, TEXT = CellReader("number", frozenset({"", "NA"})), CellReader("text", frozenset({"", "NA"}))
GRADE = NUMBER.bounded(1, 10, "from 1 to 10", whole=True)
YEAR = NUMBER.bounded(1700, 2100, "a year", whole=True)
COUNT = NUMBER.bounded(0, 100, "from 0 to 100")
READERS: dict[str, CellReader] = {
    IDENTIFIER: NUMBER,
    **dict.fromkeys(NONE_COLUMNS, CellReader("text", frozenset({""}), {"NA": "None"})),
    **dict.fromkeys(TEXT_COLUMNS, TEXT),
    **dict.fromkeys(AREAS, NUMBER.bounded(0, 100_000, "an area from 0 to 100,000")),
    **dict.fromkeys(OTHER_NUMBERS, COUNT),
    "LotArea": NUMBER.bounded(0, 10_000_000, "an area from 0 to 10,000,000"),
    "MSSubClass": NUMBER.bounded(0, 1000, "a code from 0 to 1000", whole=True),
    "MiscVal": NUMBER.bounded(0, 10_000_000, "from 0 to 10,000,000"),
    **dict.fromkeys(("OverallQual", "OverallCond"), GRADE),
    **dict.fromkeys(("YearBuilt", "YearRemodAdd", "YrSold"), YEAR),
    "GarageYrBlt": NUMBER.bounded(1700, 2300, "a year", whole=True),  # one says 2207
    "MoSold": NUMBER.bounded(1, 12, "a month", whole=True),
    "Longitude": NUMBER.bounded(-180, 180, "a longitude"),
    "Latitude": NUMBER.bounded(-90, 90, "a latitude"),
}
COLUMNS = {name: READERS[name] for name in (IDENTIFIER, *NONE_COLUMNS, *TEXT_COLUMNS, *AREAS, *OTHER_NUMBERS)}
"""Of Kaggle's files; other lists of Ames have a place on the map in addition."""


def read_houses(path: Path, readers: dict[str, CellReader]) -> "pd.DataFrame":
    """Reads houses, in the columns of `readers`.

    Raises:
        DamagedDataError: the file is damaged or a value is impossible; says in which line.
    """
    frame = read_csv(path, readers)
    check(frame, path, IDENTIFIER, ~frame[IDENTIFIER].duplicated(), "a number of its own")
    for column in ("OverallQual", "OverallCond", "YearBuilt", "YearRemodAdd", "YrSold", "MoSold"):
        check(frame, path, column, frame[column].notna(), readers[column].expected)
    return frame


def load(folder: Path) -> Table:
    """Reads both files.

    Raises:
        DamagedDataError: one is damaged; says in which line.
    """
    path = folder / "train.csv"
    train = read_houses(path, {**COLUMNS, TARGET: NUMBER})
    check(train, path, TARGET, train[TARGET] > 0, "a price")
    test = read_houses(folder / "test.csv", COLUMNS)
    return Table(train.reset_index(drop=True), test.reset_index(drop=True), TARGET, IDENTIFIER, READERS)


DATA_SET = DataSet(
    name="house-prices",
    title=LocalizedText("House Prices (Kaggle)", "房价预测 (Kaggle)"),
    description="2,919 houses sold in Ames, Iowa, 79 columns: 1,460 with their price, 1,459 that Kaggle asks it for",
    licence="educational use (De Cock 2011)",
    home="https://www.kaggle.com/c/house-prices-advanced-regression-techniques/data",
    folder="house-prices",
    files=("train.csv", "test.csv"),
    load=load,
)
