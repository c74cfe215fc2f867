"""The capstone's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric

from yolo_detector.config import HEADLINE, PRESETS, TUNING, Config

CAPSTONE = Capstone(
    name="yolo-detector",
    phase=10,
    title=LocalizedText("Cell counter", "细胞检测与计数"),
    summary=LocalizedText(
        "Finds every cell in a picture of blood, tells its kind and counts: pictures, camera, short videos.",
        "找出血液图片中的每个细胞，分辨种类并计数：支持图片、摄像头和短视频。",
    ),
    config=Config,
    presets=PRESETS,
    data_sets=("bccd", "cell-scenes"),
    headline=Metric(HEADLINE, tolerance=0.01),
    tuning=TUNING,
    licence="AGPL-3.0",
)
