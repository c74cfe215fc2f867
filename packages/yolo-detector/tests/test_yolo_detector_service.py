"""The service, over a detector made by hand whose answers are known."""

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.images import ImageLimits
from dlcommon.runtime.serving.media import encode_png
from dlcommon.testing.commands import environment, run, script
from dlcommon.testing.service_answers import batched_answers
from PIL import Image
from pydantic import ValidationError
from yolo_detector.examples import clip
from yolo_detector.findings import Findings
from yolo_detector.service import DetectorService
from yolo_detector.square_detector import write

RED, GREEN, BLUE = range(3)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("model") / "squares.onnx")


@pytest.fixture(scope="module")
def service(path: Path) -> DetectorService:
    return DetectorService(OnnxModel(path, threads=1))


def squares(*placed: tuple[int, int, int, int], size: tuple[int, int] = (320, 320)) -> np.ndarray:
    """Paints squares of 32 pixels on gray: class, column and row in the grid, brightness."""
    image = np.full((size[1], size[0], 3), 114, np.uint8)
    for channel, column, row, level in placed:
        image[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32] = 0
        image[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32, channel] = level
    return image


def found(service: DetectorService, image: np.ndarray | bytes, **fields: Any) -> Findings:
    content = image if isinstance(image, bytes) else encode_png(image)
    return batched_answers(service, {"image": content, **fields})[0]


def corners(findings: Findings) -> list[tuple[float, ...]]:
    return [(each.box.left, each.box.top, each.box.right, each.box.bottom) for each in findings.detections]


def test_objects_are_found_counted_and_named_in_both_languages(service: DetectorService) -> None:
    answer = found(service, squares((RED, 1, 2, 255), (RED, 5, 5, 204), (BLUE, 9, 9, 153)))
    assert [(each.label, each.label_zh) for each in answer.detections] == [
        ("RBC", "红细胞"),
        ("RBC", "红细胞"),
        ("Platelets", "血小板"),
    ]
    assert [each.score for each in answer.detections] == [1.0, 0.8, 0.6]
    assert corners(answer)[0] == (32, 64, 64, 96)
    assert answer.counts == {"RBC": 2, "WBC": 0, "Platelets": 1}
    assert (answer.width, answer.height, answer.tiles, answer.annotated_picture) == (320, 320, 0, None)


def test_boxes_are_in_pixels_of_the_picture_whatever_its_size(service: DetectorService) -> None:
    image = squares((GREEN, 3, 1, 255), size=(320, 160))
    large = np.repeat(np.repeat(image, 3, 0), 3, 1)
    assert corners(found(service, large)) == [(288, 96, 384, 192)]
    turned = Image.fromarray(np.rot90(image))  # on its side, with EXIF saying so
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    answer = found(service, file.getvalue())
    assert corners(answer) == [(96, 32, 128, 64)]
    assert (answer.width, answer.height) == (320, 160)


def test_thresholds_count_for_each_item_of_a_batch(service: DetectorService) -> None:
    image = encode_png(squares((RED, 0, 0, 255), (RED, 2, 2, 153), (RED, 4, 4, 51)))
    settings: list[dict[str, Any]] = [{"confidence": 0.5}, {}, {"confidence": 0.1}, {"confidence": 0.7, "iou": 0.3}]
    answers = batched_answers(service, *({"image": image, **each} for each in settings))
    assert [len(answer.detections) for answer in answers] == [2, 2, 3, 1]


def test_items_of_one_iou_go_through_the_model_together(service: DetectorService) -> None:
    seen = []

    class Watched:
        metadata, labels = service.model.metadata, service.model.labels

        def __call__(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            seen.append((len(arrays["images"]), set(arrays["iou"].tolist())))
            return service.model(arrays)

    watched = DetectorService(Watched())  # type: ignore[arg-type]
    pictures = [encode_png(squares((place, place, place, 255))) for place in range(3)]
    items = [{"image": pictures[place % 3], "iou": (0.5, 0.75)[place % 2]} for place in range(5)]
    answers = batched_answers(watched, *items)
    assert sorted(seen) == [(2, {0.75}), (3, {0.5})]
    assert [answer.detections[0].label for answer in answers] == ["RBC", "WBC", "Platelets", "RBC", "WBC"]


def test_the_models_own_confidence_is_the_default(tmp_path: Path) -> None:
    strict = DetectorService(OnnxModel(write(tmp_path / "strict.onnx", confidence="0.7"), threads=1))
    image = squares((RED, 0, 0, 255), (RED, 2, 2, 153))
    assert len(found(strict, image).detections) == 1
    assert len(found(strict, image, confidence=0.5).detections) == 2


def test_a_large_picture_in_slices_shows_what_is_small(service: DetectorService) -> None:
    image = np.tile(squares((RED, 0, 0, 255), size=(320, 240)), (3, 3, 1))  # 960 × 720
    small = np.array([(x, y) for y in (0, 240, 480) for x in (0, 320, 640)])
    answer = found(service, image, slices=True)
    assert answer.tiles == 12
    centers = np.array([((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in corners(answer)])
    assert all(np.hypot(*(centers - place - 16).T).min() < 24 for place in small)
    assert found(service, image).tiles == 0


def test_the_annotated_picture_is_sent_on_request(service: DetectorService) -> None:
    image = squares((RED, 4, 4, 255))
    answer = found(service, image, annotated=True)
    assert answer.annotated_picture is not None
    drawn = np.asarray(Image.open(io.BytesIO(answer.annotated_picture)))
    assert drawn.shape == image.shape
    changed = np.argwhere((drawn != image).any(-1))
    assert len(changed)
    assert changed.min() > 96, "the box's surroundings alone change"
    encoded = json.loads(answer.model_dump_json())["annotated_picture"]
    assert base64.b64decode(encoded) == answer.annotated_picture


def test_odd_pictures(service: DetectorService) -> None:
    for shape in ((1, 10_000, 3), (10_000, 1, 3), (1, 1, 3), (7, 3, 3)):
        for slices in (False, True):
            answer = found(service, np.full(shape, 200, np.uint8), slices=slices)
            assert (answer.height, answer.width) == shape[:2]
            assert answer.detections == []
    gray, transparent = Image.new("L", (320, 320), 90), Image.new("RGBA", (320, 320), (0, 0, 0, 0))
    transparent.paste((255, 0, 0, 255), (32, 32, 64, 64))
    for picture, count in ((gray, 0), (transparent, 1)):
        file = io.BytesIO()
        picture.save(file, "PNG")
        assert len(found(service, file.getvalue()).detections) == count


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"this is no picture", "not an image"),
        (encode_png(np.zeros((64, 64, 3), np.uint8))[:-30], "damaged or cut off"),
        (encode_png(np.zeros((300, 300, 3), np.uint8)), "at most 50,000"),
    ],
)
def test_bad_pictures_are_refused(service: DetectorService, content: bytes, said: str) -> None:
    limits, service.image_limits = service.image_limits, ImageLimits(50_000)
    try:
        with pytest.raises(InvalidInputError, match=said):
            service.prepare(service.item(image=content))
    finally:
        service.image_limits = limits


@pytest.mark.parametrize(
    "fields", [{"confidence": 0}, {"confidence": 1.1}, {"iou": -0.1}, {"iou": float("nan")}, {"time": -1}, {"x": 1}]
)
def test_bad_values_are_named(service: DetectorService, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        service.item(image=b"x", **fields)


def test_predict_annotates_pictures_and_videos_and_names_what_is_bad(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "slides").mkdir(parents=True)
    image = squares((RED, 1, 2, 255), (BLUE, 5, 5, 255))
    (folder / "slides" / "one.png").write_bytes(encode_png(image))
    (folder / "bad.jpg").write_bytes(b"no picture")
    video = clip(folder / "cells.mp4", seconds=0.5)
    (folder / "cut.mp4").write_bytes(video.read_bytes()[:-500])
    out = tmp_path / "out"
    command = [script("yolo-detector"), "predict", str(folder), "--model", str(path), "--out", str(out)]
    done = run(command, environment(tmp_path))
    assert done.code == 1, done.stderr
    assert "bad.jpg: this is not an image" in done.stderr
    assert "cut.mp4" in done.stderr
    assert (out / "slides" / "one.txt").read_text() == (
        "0 0.150000 0.250000 0.100000 0.100000\n2 0.550000 0.550000 0.100000 0.100000\n"
    )
    with Image.open(out / "slides" / "one.png") as drawn:
        assert drawn.size == (320, 320)
    assert (out / "cells.mp4").stat().st_size > 1000
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    whole = [each for each in answers if each["source"].endswith("cells.mp4")]
    assert [each["frame"] for each in whole] == [1, 2, 3, 4, 5, 6]
    assert [each["answer"]["time"] for each in whole] == pytest.approx(np.arange(6) / 12, abs=1e-4)
    assert {file for each in whole for file in each["files"]} == {"cells.mp4"}


def test_predict_counts_the_frames_of_a_video_in_a_table(path: Path, tmp_path: Path) -> None:
    video = clip(tmp_path / "cells.mp4", seconds=0.25)
    (tmp_path / "one.png").write_bytes(encode_png(squares((RED, 1, 2, 255))))
    command = [
        script("yolo-detector"), "predict", str(tmp_path / "one.png"), str(video), "--model", str(path),
        "--out", str(tmp_path / "counts.csv"),
    ]  # fmt: skip
    run(command, environment(tmp_path)).check_success()
    rows = list(csv.DictReader((tmp_path / "counts.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["frame"], row["time"]) for row in rows[:2]] == [("", ""), ("1", "0.0")]
    assert len(rows) == 4
    assert rows[0]["count.RBC"] == "1"
    assert json.loads(rows[0]["detections"])[0]["label_zh"] == "红细胞"
