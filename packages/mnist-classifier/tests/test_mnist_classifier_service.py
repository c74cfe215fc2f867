import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.locate_model import packaged_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.testing.server_process import ServerProcess, serving_pretrained
from mnist_classifier.capstone import CAPSTONE
from mnist_classifier.service import Digit, DigitService, drawn_seven
from PIL import Image


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_pretrained(CAPSTONE) as process:
        yield process


def ask(server: ServerProcess, body: bytes, kind: str) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(f"{server.url}/v1/predict", body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_drawn_seven_is_read(server: ServerProcess) -> None:
    status, reply = ask(server, drawn_seven(), "image/png")
    assert status == 200, reply
    answer = reply["answers"][0]
    assert answer["digit"] == "7"
    assert list(answer["probabilities"]) == list("0123456789")
    assert answer["probabilities"]["7"] > 0.5
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert np.asarray(answer["seen"]).shape == (28, 28)


def test_pixels_and_an_inverted_picture_give_the_same_answer(server: ServerProcess) -> None:
    with Image.open(io.BytesIO(drawn_seven())) as opened:
        inverted = 255 - np.asarray(opened)
    _, dark = ask(server, drawn_seven(), "image/png")
    _, light = ask(server, png(inverted), "image/png")
    assert light["answers"] == dark["answers"]
    seen = dark["answers"][0]["seen"]
    _, pixels = ask(server, json.dumps({"items": [{"pixels": seen}]}).encode(), "application/json")
    assert pixels["answers"][0]["probabilities"] == pytest.approx(dark["answers"][0]["probabilities"], abs=1e-5)


def test_a_small_digit_in_the_corner_of_a_big_page_is_read_the_same(server: ServerProcess) -> None:
    with Image.open(io.BytesIO(drawn_seven())) as opened:
        page = Image.new("L", (1600, 1200), 255)
        page.paste(opened.resize((70, 70)), (1500, 1100))
    _, reply = ask(server, png(np.asarray(page)), "image/png")
    assert reply["answers"][0]["digit"] == "7"


GOOD = [[0.0] * 28 for _ in range(27)] + [[255.0] * 28]
PICTURE = base64.b64encode(drawn_seven()).decode()


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({}, "either image or pixels"),
        ({"image": PICTURE, "pixels": GOOD}, "either image or pixels"),
        ({"pixels": [[0] * 28] * 28}, "no ink"),
        ({"image": base64.b64encode(png(np.full((40, 40), 255, np.uint8))).decode()}, "no ink"),
        ({"pixels": GOOD[:-1]}, "28"),
        ({"pixels": [*GOOD[:-1], [256.0] * 28]}, "255"),
        ({"pixels": [*GOOD[:-1], [-1.0] * 28]}, "0"),
        ({"pixels": [*GOOD[:-1], ["dark"] * 28]}, "number"),
    ],
)
def test_what_is_no_digit_is_refused_with_the_reason(server: ServerProcess, item: dict[str, Any], reason: str) -> None:
    status, reply = ask(server, json.dumps({"items": [item]}).encode(), "application/json")
    assert status == 422
    assert reason in json.dumps(reply)


def test_answers_belong_to_their_items() -> None:
    path = packaged_model(CAPSTONE)
    assert path is not None
    service = DigitService(OnnxModel(path))
    item = Digit(image=drawn_seven())
    prepared = service.prepare(item)
    arrays = {"images": np.stack([np.zeros((28, 28), np.uint8), prepared["images"]])}
    outputs = service.run(service.model, arrays)
    reading = service.answer_for(item, {name: values[1] for name, values in outputs.items()})
    assert reading.seen == prepared["images"].tolist()
