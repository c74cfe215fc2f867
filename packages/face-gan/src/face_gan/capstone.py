"""The capstone's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric

from face_gan.config import PRESETS, TUNING, Config

CAPSTONE = Capstone(
    name="face-gan",
    phase=8,
    title=LocalizedText("Anime faces", "动漫头像生成"),
    summary=LocalizedText(
        "Draws faces that nobody has drawn: choose a seed, walk from one face to another, turn its features.",
        "画出从未有人画过的头像：选一个种子，从一张脸走到另一张，调节它的特征。",
    ),
    config=Config,
    presets=PRESETS,
    data_sets=("anime-faces-64", "drawn-faces"),
    headline=Metric("kernel_distance", "minimize", tolerance=0.05, relative=True, unit="plain"),
    tuning=TUNING,
)
