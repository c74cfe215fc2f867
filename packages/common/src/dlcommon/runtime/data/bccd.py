"""Loads BCCD: photographs of blood under a microscope, with a box around every cell."""

from pathlib import Path

from dlcommon.runtime.data.archive import unzip
from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.detection import ObjectDetection
from dlcommon.runtime.data.sources import RemoteFile, WebSource
from dlcommon.runtime.data.voc import FILES, count_skipped, read_voc
from dlcommon.runtime.localization import LocalizedText

CLASSES = ("RBC", "WBC", "Platelets")
"""Red blood cells, white blood cells, platelets."""
FINGERPRINT = "a0ac4b4649833e86ba13c91e8346d6eab448fab0213546cc985ddda7042d2de7"
"""Fingerprint of the files: the archive has no checksum, since GitHub packs it anew for each request."""


def load(folder: Path) -> ObjectDetection:
    """Reads all images: 335 MB once they are decoded.

    Raises:
        DamagedDataError: a file is missing or damaged; says which, and in which row.
    """
    return read_voc(folder, CLASSES)


def details(folder: Path) -> str:
    """Says how many boxes have no area and are skipped."""
    return f"{count_skipped(folder, CLASSES)} boxes without an area skipped"


DATA_SET = DataSet(
    name="bccd",
    title=LocalizedText("BCCD blood cells", "BCCD 血细胞"),
    description="364 photographs of blood, 640×480 pixels, 4,886 boxes around three kinds of cells; 205 to train",
    licence="MIT (Shenggan)",
    home="https://github.com/Shenggan/BCCD_Dataset",
    folder="BCCD",
    files=FILES,
    sources=(
        WebSource(
            "github-bccd",
            ("https://codeload.github.com/Shenggan/BCCD_Dataset/zip/",),
            (RemoteFile("d272fb14cdff6e473fafeeeba32aba5f560e9e43", None, 100 * 10**6),),
            unzip("BCCD", FILES, FINGERPRINT),
        ),
    ),
    load=load,
    details=details,
)
