"""Findings as files that people take with them: CSV that spreadsheets open, and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from yolo_detector.classes import shown_name
from yolo_detector.findings import Findings

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Without it Excel misreads Chinese."""


def objects_csv(findings: Findings) -> bytes:
    """Returns a CSV file of a picture's objects: one row each."""
    rows = [
        (each.label, each.label_zh or "", each.score, each.box.left, each.box.top, each.box.right, each.box.bottom)
        for each in findings.detections
    ]
    return _csv(("class", "类别", "score", "left", "top", "right", "bottom"), rows)


def objects_json(findings: Findings) -> bytes:
    """Returns a JSON file of a picture's objects and their counts."""
    return findings.model_dump_json(indent=1, exclude={"annotated_picture", "time"}).encode()


def counts_csv(frames: Sequence[Findings]) -> bytes:
    """Returns a CSV file of a video's counts: one row a frame."""
    names = list(frames[0].counts)
    rows = [(each.time, *each.counts.values()) for each in frames]
    return _csv(("seconds", *(shown_name(name) for name in names)), rows)


def counts_json(frames: Sequence[Findings]) -> bytes:
    """Returns a JSON file of a video's counts and objects: one element a frame."""
    dumped = [each.model_dump(mode="json", include={"time", "counts", "detections"}) for each in frames]
    return json.dumps({"frames": dumped}, ensure_ascii=False).encode()


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return BYTE_ORDER_MARK + file.getvalue().encode()
