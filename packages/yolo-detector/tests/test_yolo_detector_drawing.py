"""Boxes that are drawn, on pictures and on the page."""

import io
import re

import numpy as np
import pytest
from PIL import Image, ImageFont
from yolo_detector import drawing
from yolo_detector.classes import COLORS, color_of, shown_name
from yolo_detector.detections import Detections
from yolo_detector.drawing import Labeled, annotated, line_width
from yolo_detector.exports import objects_csv
from yolo_detector.findings import Findings
from yolo_detector.overlay import LONGEST, overlay

NAMES = ("RBC", "WBC", "Platelets")


def findings(*scores: float, size: tuple[int, int] = (320, 240), names: tuple[str, ...] = NAMES) -> Findings:
    boxes = np.array([[20 * n, 10, 20 * n + 15, 30] for n in range(len(scores))], np.float32).reshape(-1, 4)
    labels = np.arange(len(scores)) % len(names)
    return Findings.of(Detections(boxes, np.array(scores, np.float32), labels), names, size, 0, None)


def test_a_box_is_drawn_in_its_classes_color_around_the_object() -> None:
    image = np.full((240, 320, 3), 200, np.uint8)
    drawn = annotated(image, [Labeled("WBC", 0.9, (100, 100, 180, 160))], NAMES)
    assert (drawn[130, 100] == color_of("WBC", NAMES)).all()
    assert (drawn[130, 140] == 200).all(), "what is within stays"
    assert (drawn[101:160, 99] == 255).all(), "a white rim sets it off"
    assert (image == 200).all(), "the picture itself stays"
    assert (drawn[200:] == 200).all()


def test_a_label_stays_within_the_picture() -> None:
    image = np.full((240, 320, 3), 200, np.uint8)
    for box in ((0, 0, 20, 20), (300, 0, 320, 20), (300, 220, 320, 240), (0, 100, 320, 140)):
        drawn = annotated(image, [Labeled("Platelets", 0.5, box)], NAMES)
        filled = (drawn == color_of("Platelets", NAMES)).all(-1)
        assert filled.sum() > 150, "its ground is there"


def test_lines_and_letters_grow_with_the_picture() -> None:
    assert line_width(64, 64) == 1
    assert line_width(640, 480) < line_width(4_000, 3_000)


def test_what_is_more_certain_lies_on_top() -> None:
    image = np.full((240, 320, 3), 200, np.uint8)
    low, high = Labeled("RBC", 0.3, (100, 100, 200, 200)), Labeled("WBC", 0.9, (100, 100, 200, 200))
    for order in ((low, high), (high, low)):
        assert (annotated(image, order, NAMES)[150, 100] == color_of("WBC", NAMES)).all()


@pytest.mark.parametrize("shape", [(1, 10_000), (10_000, 1), (1, 1), (5, 5)])
def test_any_size_can_be_drawn_on(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    assert annotated(image, [Labeled("RBC", 0.9, (0, 0, shape[1], shape[0]))], NAMES).shape == image.shape


def test_without_a_chinese_font_labels_are_latin(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr(drawing, "font", lambda size: (ImageFont.load_default(size), False))

    def first(letters: object, given: list[str], width: float) -> str:
        texts.extend(given)
        return given[0]

    monkeypatch.setattr(drawing, "_fitting", first)
    image = np.zeros((100, 400, 3), np.uint8)
    annotated(image, [Labeled("RBC", 0.9, (0, 0, 300, 50)), Labeled("细胞", 0.5, (0, 0, 9, 9))], ("RBC", "细胞"))
    assert texts == ["?? .50", "??", "RBC .90", "RBC"]


def test_colors_can_be_told_apart_and_stay_with_their_class() -> None:
    assert len(set(COLORS)) == len(COLORS)
    many = [str(number) for number in range(80)]
    assert color_of("3", many) == color_of(str(3 + len(COLORS)), many)
    assert shown_name("WBC") == "WBC · 白细胞"
    assert shown_name("zebra") == "zebra"


def test_the_page_holds_all_objects_and_hides_those_that_are_less_sure() -> None:
    rendered = overlay(np.zeros((240, 320, 3), np.uint8), findings(0.9, 0.5, 0.1, 0.3), 0.25)
    assert len(re.findall(r"<g [^>]*>", rendered)) == 4
    assert len(re.findall(r'<g [^>]*class="hidden">', rendered)) == 1
    assert re.findall(r'data-of="(\w+)">(\d)<', rendered) == [("RBC", "2"), ("WBC", "1"), ("Platelets", "0")]


def test_names_of_classes_are_no_html() -> None:
    rendered = overlay(np.zeros((240, 320, 3), np.uint8), findings(0.9, names=('<img src=x onerror="alert(1)">',)), 0.2)
    assert "<img src=x" not in rendered


def test_a_large_picture_is_shown_smaller() -> None:
    import base64

    rendered = overlay(np.zeros((100, 5_000, 3), np.uint8), findings(0.9, size=(5_000, 100)), 0.2)
    found = re.search(r"data:image/jpeg;base64,([^\"]+)", rendered)
    assert found is not None
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as picture:
        assert picture.size == (LONGEST, 26)
    assert 'viewBox="0 0 5000 100"' in rendered


def test_a_table_opens_in_a_spreadsheet() -> None:
    content = objects_csv(findings(0.9))
    assert content.startswith(b"\xef\xbb\xbf")
    assert content.decode("utf-8-sig").splitlines()[1] == "RBC,红细胞,0.9,0.0,10.0,15.0,30.0"
