"""Bad input of every kind, sent by real HTTP to the real process."""

import json
import re
import sys
from collections.abc import Iterator

import pytest
from dlcommon.runtime.serving import paths
from dlcommon.testing import bad_bodies
from dlcommon.testing.bad_inputs import BAD_INPUTS, BadInput, check_refusal
from dlcommon.testing.raw_http import Target
from dlcommon.testing.server_process import ServerProcess, serving
from dlcommon.testing.toy_serving import ToyService, write_toy_model

TIMEOUT = 4
"""Seconds that the slow clients take to be refused, and that a good item has."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    model = write_toy_model(tmp_path_factory.mktemp("model") / "toy.onnx")
    command = [sys.executable, "-m", "dlcommon.testing.toy_serving", "--model", str(model), "--no-demo"]
    with serving([*command, "--timeout", str(TIMEOUT)]) as process:
        yield process
        assert process.stop() == 0


@pytest.fixture(scope="module")
def target(server: ServerProcess) -> Target:
    return Target(server.address, dict(ToyService.example), ToyService.upload)


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=str)
def test_bad_input_is_refused_with_a_reason(bad: BadInput, target: Target, server: ServerProcess) -> None:
    bad.check(target)
    assert "Traceback" not in server.log_text()


def test_metrics_have_few_series_whatever_is_asked_for(target: Target) -> None:
    for number in range(20):
        target.request("GET", f"/path-{number}")
        target.request(f"METHOD{number}", f"/v1/predict?{number}")
    text = target.request("GET", "/metrics").body.decode()
    routes = set(re.findall(r'route="([^"]*)"', text))
    assert {"/v1/predict", "other"} <= routes
    assert routes <= {*paths.KNOWN, "other", "demo"}
    assert set(re.findall(r'status="([^"]*)"', text)) <= {str(status) for status in range(200, 600)}


@pytest.mark.parametrize(
    "item",
    [
        {"pixels": [0, 0, 0]},
        {"pixels": [0, 0, 0, "x"]},
        {"pixels": "1234"},
        {"pixels": [0, 0, 0, 1e39]},
        {"pixels": [0, 0, 0, 10**400]},
        {"pixels": [0, 0, 0, 0], "row": 1.5},
        {"pixels": [0, 0, 0, 0], "row": -1},
        {"pixels": [0, 0, 0, 0], "row": 2**70},
        {"pixels": [0, 0, 0, 0], "image": ""},
        {},
    ],
    ids=str,
)
def test_a_bad_item_fails_alone(item: dict[str, object], target: Target) -> None:
    alone = target.post_items([item])
    assert alone.status == 422
    check_refusal(alone)
    reply = target.post_items([target.example, item, target.example])
    assert reply.status == 200
    first, second, third = json.loads(reply.body)["answers"]
    assert first == third == {"scores": [4.0, 5.5, 7.0, 9.0], "total": 25.5}
    assert second == json.loads(alone.body)


def test_float_overflow_in_the_text_of_a_number(target: Target) -> None:
    reply = target.post(b'{"items": [{"pixels": [1e999, 0, 0, 0]}]}')
    assert reply.status == 422
    assert "finite" in json.loads(reply.body)["error"]["message"]


def test_an_item_that_the_model_fails_on_fails_alone(target: Target, server: ServerProcess) -> None:
    bad = {"pixels": [0, 0, 0, 0], "row": 99}
    reply = target.post_items([target.example, bad, target.example])
    assert reply.status == 200
    first, second, third = json.loads(reply.body)["answers"]
    assert first == third == {"scores": [4.0, 5.5, 7.0, 9.0], "total": 25.5}
    assert second["error"]["code"] == "model_failed"
    identity = second["error"]["message"].split()[-1]
    assert server.log_text().count(identity) == 1
    alone = target.post_items([bad])
    assert alone.status == 500
    check_refusal(alone)


def test_good_uploads_are_answered(target: Target) -> None:
    content_type = f"multipart/form-data; boundary={bad_bodies.BOUNDARY}"
    two = bad_bodies.file_part(bad_bodies.png()) + bad_bodies.multipart(bad_bodies.jpeg())
    reply = target.post(two, content_type)
    assert reply.status == 200, reply.body
    answers = json.loads(reply.body)["answers"]
    assert [answer["scores"][3] for answer in answers] == [64 + 3, 64 + 3]
    raw = target.post(bad_bodies.png(), "image/png")
    assert json.loads(raw.body)["answers"] == [answers[0]]


def test_a_good_file_beside_a_bad_one(target: Target) -> None:
    content_type = f"multipart/form-data; boundary={bad_bodies.BOUNDARY}"
    reply = target.post(bad_bodies.file_part(b"not an image") + bad_bodies.multipart(bad_bodies.png()), content_type)
    assert reply.status == 200
    bad, good = json.loads(reply.body)["answers"]
    assert "not an image" in bad["error"]["message"]
    assert good["scores"][3] == 67


def test_a_chunked_body_within_the_limit_is_answered(target: Target) -> None:
    body = json.dumps({"items": [target.example]}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = target.head("POST", "/v1/predict", {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    reply = target.exchange(head + chunks)
    assert reply is not None
    assert reply.status == 200
