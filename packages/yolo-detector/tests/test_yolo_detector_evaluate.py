"""The evaluation of a detector that finds everything, of one that finds nothing, and of one in between."""

from pathlib import Path

import numpy as np
import pytest
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.data.cell_scenes import generate
from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.detection import ObjectDetection
from dlcommon.runtime.localization import LocalizedText
from yolo_detector.detections import FittedPictures
from yolo_detector.evaluate import evaluate

SIDE = 160
SCENES = generate(train=1, validation=0, test=5)


class Oracle:
    """Answers with the true boxes of `SCENES`, the largest ones first, up to a share of them."""

    def __init__(self, share: float) -> None:
        self.metadata = {"image_size": str(SIDE)}
        self.share = share

    def __call__(self, arrays: Arrays) -> dict[str, np.ndarray]:
        fitted = FittedPictures.of(SCENES.test, SIDE).fitted
        rows = np.zeros((len(fitted), 300, 6), np.float32)
        for number, (how, sample) in enumerate(zip(fitted, SCENES.test, strict=True)):
            n = int(self.share * len(sample.boxes))
            rows[number, :n, :4], rows[number, :n, 5] = how.fit(sample.boxes[:n]), sample.labels[:n]
            rows[number, :n, 4] = np.linspace(0.9, 0.8, n)
        nothing = np.zeros((len(fitted), 1, 4), np.float32)
        return {"detections": rows, "boxes": nothing, "scores": nothing}


@pytest.fixture(scope="module")
def located() -> LocatedDataSet:
    def load(folder: Path) -> ObjectDetection:
        return SCENES

    dataset = DataSet("scenes", LocalizedText("scenes", "场景"), "", "", "", load, builtin=True)
    return LocatedDataSet(dataset, Path(), "built-in")


def test_finding_everything_is_one_and_counts_are_right(located: LocatedDataSet, tmp_path: Path) -> None:
    evaluation = evaluate(Oracle(1.0), located, tmp_path)
    for name in ("map50", "map50_95", "map50_ultralytics"):
        assert evaluation.metrics[name] == pytest.approx(1, abs=0.006), name
    assert evaluation.metrics["count_error"] == 0
    objects = sum(row["objects"] for row in evaluation.tables["by_class"])
    assert objects == sum(len(sample.boxes) for sample in SCENES.test)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "counts.png",
        "precision_recall.png",
        "worst_pictures.png",
    ]


def test_finding_half_is_half_and_finding_nothing_is_zero(located: LocatedDataSet) -> None:
    half = evaluate(Oracle(0.5), located, None)
    assert 0.2 < half.metrics["map50"] < 0.8
    assert half.metrics["count_error"] > 0
    low, high = half.intervals["map50"]
    assert low <= half.metrics["map50"] <= high
    nothing = evaluate(Oracle(0.0), located, None)
    assert nothing.metrics["map50"] == 0
