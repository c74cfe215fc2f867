"""Lists, finds, fetches and loads data sets and pretrained assets."""

from dlcommon.runtime.data.asset import Asset, AssetForm, InstalledPackage
from dlcommon.runtime.data.dataset import DamagedDataError, DataSet, ImageClassification, UnlabelledImages
from dlcommon.runtime.data.fetch import fetch, fetch_asset, resolve
from dlcommon.runtime.data.locate import LocatedDataSet, find, own_files
from dlcommon.runtime.data.locate_asset import (
    LocatedAsset,
    find_asset,
    read_asset_records,
    require_asset,
    require_recorded_asset,
)
from dlcommon.runtime.data.registry import ASSETS, DATA_SETS
from dlcommon.runtime.data.table import Table

__all__ = [
    "ASSETS",
    "DATA_SETS",
    "Asset",
    "AssetForm",
    "DamagedDataError",
    "DataSet",
    "ImageClassification",
    "InstalledPackage",
    "LocatedAsset",
    "LocatedDataSet",
    "Table",
    "UnlabelledImages",
    "fetch",
    "fetch_asset",
    "find",
    "find_asset",
    "own_files",
    "read_asset_records",
    "require_asset",
    "require_recorded_asset",
    "resolve",
]
