"""A detector made by hand, whose answers tests can foretell: it finds red, green and blue squares of 32 pixels.

It takes and returns what an exported network does. A cell of the grid of 32 pixels is an object of the class of its
color, with the brightness as its score: (255, 0, 0) is red with score 1, (128, 0, 0) with score 0.5, gray is nothing.
"""

import json
from pathlib import Path
from typing import Any

from onnxscript import FLOAT, UINT8, opset20, script

op: Any = opset20
NAMES = ("RBC", "WBC", "Platelets")


@script(default_opset=op)
def squares(
    images: UINT8[None, None, None, 3],  # type: ignore[type-arg, valid-type]
    confidence: FLOAT[None],  # type: ignore[type-arg]
    iou: FLOAT[None],  # type: ignore[type-arg]
) -> FLOAT[None, 300, 6]:  # type: ignore[type-arg, valid-type]
    colors = op.Transpose(op.Cast(images, to=1) / 255.0, perm=[0, 3, 1, 2])
    cells = op.AveragePool(colors, kernel_shape=[32, 32], strides=[32, 32])
    scores = 2.0 * cells - op.ReduceSum(cells, op.Constant(value_ints=[1]), keepdims=1)  # [batch, 3, rows, columns]
    columns = op.Shape(cells, start=3, end=4)
    count = op.Shape(cells, start=2, end=3) * columns
    flat = op.Flatten(scores, axis=1)
    found = op.Where(flat > op.Unsqueeze(confidence, op.Constant(value_ints=[1])), flat, 0.0)
    padded = op.Pad(found, op.Constant(value_ints=[0, 0, 0, 300]))
    best, place = op.TopK(padded, op.Constant(value_ints=[300]), axis=1)
    label = place / count
    cell = place - label * count
    row = cell / columns
    column = cell - row * columns
    last = op.Constant(value_ints=[2])
    places = op.Concat(op.Unsqueeze(column, last), op.Unsqueeze(row, last), axis=2)
    corners = op.Cast(places, to=1) * 32.0  # [batch, 300, 2]
    score = op.Unsqueeze(best, last)
    kind = op.Unsqueeze(op.Cast(label, to=1), last)
    detections = op.Where(score > 0.0, op.Concat(corners, corners + 32.0, score, kind, axis=2), 0.0)
    return detections  # type: ignore[no-any-return]  # noqa: RET504 — the variable names the graph's output


def write(path: Path, image_size: int = 320, **metadata: str) -> Path:
    """Writes it as an exported model of this capstone."""
    graph: Any = squares
    model = graph.to_model_proto()
    known = {
        "capstone": "yolo-detector", "title": "Squares", "data": "squares", "labels": json.dumps(NAMES),
        "image_size": str(image_size), "network": "squares", "licence": "Apache-2.0",
    }  # fmt: skip
    for key, value in {**known, **metadata}.items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path
