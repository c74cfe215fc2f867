"""Answers that hold pictures: base64 in JSON, or the bytes alone."""

import base64
import io
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import pytest
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.app import create_app
from dlcommon.runtime.serving.media import JSON, MediaType, PngBytes, encode_png, media_fields, preferred_type
from dlcommon.runtime.serving.service import Answer
from dlcommon.runtime.serving.settings import ServeConfig
from dlcommon.testing.toy_serving import ToyPainter, write_toy_model
from PIL import Image
from starlette.testclient import TestClient

ITEM = {"pixels": [0.0, 50.0, 100.0, 200.0]}
PIXELS = [[0, 51], [102, 203]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    model = OnnxModel(write_toy_model(tmp_path_factory.mktemp("model") / "toy.onnx"))
    with TestClient(create_app(ToyPainter(model), model, ServeConfig(demo=False)), "http://localhost") as opened:
        yield opened


def pixels(png: bytes) -> list[list[int]]:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        rows: list[list[int]] = np.asarray(image).tolist()
        return rows


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/html", "application/json, image/png;q=0.5"])
def test_pictures_are_base64_in_json(client: TestClient, accept: str | None) -> None:
    headers = {} if accept is None else {"Accept": accept}
    reply = client.post("/v1/predict", json={"items": [ITEM, ITEM]}, headers=headers)
    assert reply.headers["content-type"] == JSON
    for answer in reply.json()["answers"]:
        assert pixels(base64.b64decode(answer["picture"], validate=True)) == PIXELS
        assert answer["total"] == 356.0


@pytest.mark.parametrize("accept", ["image/png", "image/*", "IMAGE/PNG", "image/png, application/json;q=0.9"])
def test_one_picture_is_sent_as_it_is_where_that_is_asked_for(client: TestClient, accept: str) -> None:
    reply = client.post("/v1/predict", json={"items": [ITEM]}, headers={"Accept": accept})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "image/png"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert pixels(reply.content) == PIXELS


def test_an_error_is_json_whatever_is_asked_for(client: TestClient) -> None:
    for item, status in (({"pixels": [1]}, 422), (ITEM | {"row": 99}, 500)):
        reply = client.post("/v1/predict", json={"items": [item]}, headers={"Accept": "image/png"})
        assert (reply.status_code, reply.headers["content-type"]) == (status, JSON)
        assert reply.json()["error"]["message"]


def test_several_pictures_do_not_fit_into_one_file(client: TestClient) -> None:
    body = {"items": [ITEM, ITEM]}
    reply = client.post("/v1/predict", json=body, headers={"Accept": "image/png"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (406, "not_acceptable")
    assert "one item" in reply.json()["error"]["message"]


def test_the_documentation_types_them(client: TestClient) -> None:
    responses = client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["responses"]
    content = responses["200"]["content"]
    assert content["image/png"]["schema"] == {"type": "string", "format": "binary"}
    entry, _error = content[JSON]["schema"]["properties"]["answers"]["items"]["anyOf"]
    picture = entry["properties"]["picture"]
    assert {key: picture[key] for key in ("type", "contentEncoding", "contentMediaType")} == {
        "type": "string",
        "contentEncoding": "base64",
        "contentMediaType": "image/png",
    }
    assert "406" in responses


class Spoken(Answer):
    text: str
    speech: Annotated[bytes, MediaType("audio/wav")]
    slower: Annotated[bytes, MediaType("audio/wav")]
    spectrum: PngBytes | None = None


def test_other_bytes_are_fields_too() -> None:
    assert media_fields(Spoken) == {"audio/wav": "speech"}  # one that may be missing cannot be all of an answer
    answer = Spoken(text="", speech=b"\xff\0", slower=b"")
    assert '"speech":"/wA="' in answer.model_dump_json()
    assert answer.model_dump()["speech"] == b"\xff\0"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("image/png", "image/png"),
        ("image/png;q=0", JSON),
        ("image/*;q=0.2, application/json;q=0.1", "image/png"),
        ("image/png;q=0.2, image/*, application/json;q=0.5", JSON),
        ("*/*;q=0.1, image/png", "image/png"),
        ("image/png;q=high", JSON),
        (", ;;, image/webp", JSON),
    ],
)
def test_the_preferred_type_follows_the_weights(accept: str, chosen: str) -> None:
    assert preferred_type(accept, [JSON, "image/png"]) == chosen


def test_png_holds_gray_and_colour() -> None:
    for shape in ((3, 5), (3, 5, 3)):
        values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        assert pixels(encode_png(values)) == values.tolist()
