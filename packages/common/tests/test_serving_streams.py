"""Answers that come piece by piece, over real HTTP from a real process."""

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dlcommon.testing.server_process import ServerProcess, serving
from dlcommon.testing.toy_serving import DELAY, ROWS, write_toy_model

ITEM = {"pixels": [0.0, 0.5, 1.0, 2.0], "row": 1}
STREAM = "/v1/stream"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_model(tmp_path_factory.mktemp("model") / "toy.onnx")


@pytest.fixture
def server(model: Path) -> Iterator[ServerProcess]:
    command = [sys.executable, "-m", "dlcommon.testing.toy_serving", "--model", str(model), "--streams", "2"]
    with serving([*command, "--timeout", "3", "--no-demo", "--queue", "4"], {DELAY: "0.2"}) as process:
        yield process


def events(reply: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Event name and content, as they come."""
    name = "message"
    for line in reply.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
            name = "message"


def ask(server: ServerProcess, item: dict[str, Any] = ITEM) -> list[tuple[str, Any]]:
    with httpx.stream("POST", server.url + STREAM, json={"items": [item]}, timeout=30) as reply:
        assert reply.status_code == 200
        return list(events(reply))


def test_pieces_come_as_they_are_made(server: ServerProcess) -> None:
    with httpx.stream("POST", server.url + STREAM, json={"items": [ITEM]}, timeout=30) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["cache-control"] == "no-store"
        times, found = [], []
        for event in events(reply):
            times.append(time.perf_counter())
            found.append(event)
    assert [name for name, _ in found] == ["message"] * 4 + ["end"]
    assert [piece["scores"] for _, piece in found[:4]] == [[4.0], [5.5], [7.0], [9.0]]
    assert found[3][1]["total"] == 25.5
    assert times[3] - times[0] > 0.4, "the pieces came together, not as they were made"


def test_what_is_wrong_with_the_request_is_said_by_the_status(server: ServerProcess) -> None:
    for body, status, word in [
        ({"items": [{"pixels": [1.0]}]}, 422, "pixels"),
        ({"items": [{}]}, 422, "either pixels or an image"),
        ({"items": [ITEM, ITEM]}, 413, "one item"),
        ({"items": [ITEM | {"row": 10**6}]}, 500, "its log says more"),
    ]:
        reply = httpx.post(server.url + STREAM, json=body, timeout=30)
        assert reply.status_code == status, reply.text
        assert word in reply.json()["error"]["message"]
    assert httpx.get(server.url + STREAM).status_code == 405


def test_a_failure_half_way_is_an_event_and_leaks_nothing(server: ServerProcess) -> None:
    found = ask(server, ITEM | {"row": ROWS - 1})
    assert [name for name, _ in found] == ["message"] * 4 + ["error"]
    assert found[-1][1]["error"]["code"] == "internal"
    assert "Traceback" not in json.dumps(found)
    assert [name for name, _ in ask(server)][-1] == "end"


def test_too_many_are_refused_and_those_that_wait_get_their_turn(server: ServerProcess) -> None:
    results: list[Any] = []

    def one() -> None:
        reply = httpx.post(server.url + STREAM, json={"items": [ITEM]}, timeout=30)
        results.append((reply.status_code, reply.headers.get("retry-after"), "event: end" in reply.text))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [result for result in results if result[0] == 503]
    assert [result for result in results if result[0] == 200] == [(200, None, True)] * (8 - len(refused))
    assert 1 <= len(refused) <= 4
    assert all(retry for _, retry, _ in refused)


def test_a_client_that_hangs_up_frees_its_place(server: ServerProcess) -> None:
    for _ in range(6):
        with httpx.stream("POST", server.url + STREAM, json={"items": [ITEM]}, timeout=30) as reply:
            next(events(reply))
    assert [name for name, _ in ask(server)][-1] == "end"
    metrics = httpx.get(server.url + "/metrics").text
    assert 'dl_items_total{outcome="abandoned"} 6.0' in metrics
    assert "dl_items_in_flight 0.0" in metrics


def test_sigterm_finishes_the_stream_that_was_accepted(server: ServerProcess) -> None:
    with httpx.stream("POST", server.url + STREAM, json={"items": [ITEM]}, timeout=30) as reply:
        following = events(reply)
        next(following)
        server.process.send_signal(signal.SIGTERM)
        rest = list(following)
    assert rest[-1][0] == "end"
    assert server.process.wait(timeout=30) == 0
    assert "Traceback" not in server.log_text()
