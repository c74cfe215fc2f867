"""Generations over real HTTP from a real process, whose steps the test holds and lets go."""

import json
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from dlcommon.testing.hang_ups import check_hang_ups
from dlcommon.testing.held_steps import HeldSteps
from dlcommon.testing.raw_http import Reply, Target, wait_until
from dlcommon.testing.server_process import ServerProcess, serving
from dlcommon.testing.toy_serving import ToyWriter, write_toy_model

STREAM = "/v1/stream"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    model = write_toy_model(tmp_path_factory.mktemp("model") / "toy.onnx", service="writer")
    return [sys.executable, "-m", "dlcommon.testing.toy_serving", "--model", str(model)]


@pytest.fixture(scope="module")
def steps() -> Iterator[HeldSteps]:
    with HeldSteps() as held:
        yield held


@pytest.fixture(scope="module")
def server(command: list[str], steps: HeldSteps) -> Iterator[ServerProcess]:
    """One generation at a time, two at most accepted."""
    with serving([*command, "--slots", "1", "--queue", "2", "--max-tokens", "1000"], steps.environment) as process:
        yield process


@pytest.fixture
def target(server: ServerProcess) -> Target:
    return target_of(server)


def target_of(server: ServerProcess) -> Target:
    return Target(server.address, dict(ToyWriter.example), None)


def events(reply: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Yields event name and content, as they come."""
    name = "message"
    for line in reply.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
            name = "message"


def stream(url: str, item: dict[str, Any]) -> list[tuple[str, Any]]:
    with httpx.stream("POST", url + STREAM, json={"items": [item]}, timeout=600) as reply:
        assert reply.status_code == 200
        return list(events(reply))


@contextmanager
def opened(url: str, item: dict[str, Any], steps: HeldSteps) -> Iterator[tuple[httpx.Response, Iterator[Any]]]:
    """A stream whose first piece is there, while its second step is not yet let go."""
    with httpx.Client(timeout=600) as client, ThreadPoolExecutor(1) as thread:
        request = client.build_request("POST", url + STREAM, json={"items": [item]})
        opening = thread.submit(client.send, request, stream=True)
        assert steps.pass_on(1) == [item["held"]]
        reply = opening.result()
        try:
            following = events(reply)
            assert next(following) == ("message", {"text": "t"})
            yield reply, following
        finally:
            reply.close()


def test_pieces_come_as_they_are_made(server: ServerProcess, steps: HeldSteps) -> None:
    with opened(server.url, {"letters": 3, "held": "a"}, steps) as (reply, following):
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["cache-control"] == "no-store"
        steps.pass_on(1)
        with steps.next():  # the second piece is there while the third is in the making
            assert next(following) == ("message", {"text": "o"})
        assert list(following) == [("message", {"text": "y"}), ("end", {})]


def test_predict_is_the_joined_stream(server: ServerProcess, target: Target) -> None:
    item = {"letters": 7, "word": "piece"}
    pieces = stream(server.url, item)
    assert [name for name, _ in pieces] == ["message"] * 7 + ["end"]
    (answer,) = json.loads(target.post_items([item]).body)["answers"]
    assert answer == {"text": "".join(piece["text"] for _, piece in pieces[:-1])} == {"text": "piecepi"}
    assert stream(server.url, item | {"quiet": True}) == [("message", answer), ("end", {})]


def test_what_is_wrong_with_the_request_is_said_by_the_status(server: ServerProcess) -> None:
    for body, status, word in [
        ({"items": [{"letters": 0}]}, 422, "letters"),
        ({"items": [{"word": "a b"}]}, 422, "spaces"),
        ({"items": [{}, {}]}, 413, "one item"),
        ({"items": [{"letters": 1001}]}, 413, "1001 tokens"),
        ({"items": [{"fails_after": 0}]}, 500, "its log says more"),
    ]:
        reply = httpx.post(server.url + STREAM, json=body, timeout=600)
        assert reply.status_code == status, reply.text
        assert word in reply.json()["error"]["message"]
    assert httpx.get(server.url + STREAM).status_code == 405


def test_a_failure_half_way_is_an_event_and_leaks_nothing(server: ServerProcess) -> None:
    found = stream(server.url, {"letters": 5, "fails_after": 2})
    assert [name for name, _ in found] == ["message"] * 2 + ["error"]
    assert found[-1][1]["error"]["code"] == "internal"
    assert "Traceback" not in json.dumps(found)
    assert "pencil" not in json.dumps(found)
    assert stream(server.url, {"letters": 1})[-1][0] == "end"


def test_a_client_that_hangs_up_frees_the_model_after_one_step(
    server: ServerProcess, target: Target, steps: HeldSteps
) -> None:
    gone = target.metric('dl_items_total{outcome="abandoned"}')
    with opened(server.url, {"letters": 1000, "held": "streamed"}, steps) as (reply, _), steps.next():
        reply.close()
        target.wait_for_items("abandoned", int(gone) + 1)
    body = json.dumps({"items": [{"letters": 500, "held": "joined"}] * 2}).encode()
    with target.connect() as connection:
        connection.sendall(target.post_head(body) + body)
        with steps.next() as name:
            assert name == "joined"
            connection.close()
            target.wait_for_items("abandoned", int(gone) + 3)
            assert target.metric("dl_items_in_flight") == 0
    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(target.post_items, [{"letters": 2, "held": "next"}])
        assert steps.pass_on(2) == ["next", "next"]  # and no step of those that are gone
        assert asking.result().status == 200


def test_one_that_hangs_up_while_it_waits_for_a_slot_leaves_the_queue(
    server: ServerProcess, target: Target, steps: HeldSteps
) -> None:
    gone = target.metric('dl_items_total{outcome="abandoned"}')
    with opened(server.url, {"letters": 2, "held": "first"}, steps) as (_, following):
        body = json.dumps({"items": [{"letters": 1, "held": "second"}]}).encode()
        for path in (STREAM, "/v1/predict"):
            with target.connect() as connection:
                head = target.head("POST", path, {"Content-Type": "application/json", "Content-Length": str(len(body))})
                connection.sendall(head + body)
                wait_until(lambda: target.metric("dl_items_in_flight") == 2)
            gone += 1
            target.wait_for_items("abandoned", int(gone))
        assert steps.pass_on(1) == ["first"]
        assert [name for name, _ in following] == ["message", "end"]


def test_too_many_are_refused_and_those_that_wait_get_their_turn(
    server: ServerProcess, target: Target, steps: HeldSteps
) -> None:
    with ThreadPoolExecutor(2) as threads:
        accepted = [threads.submit(target.post_items, [{"letters": 1, "held": "a"}]) for _ in range(2)]
        with steps.next():
            wait_until(lambda: target.metric("dl_items_in_flight") == 2)
            for path in (STREAM, "/v1/predict"):
                refused = target.request("POST", path, b'{"items": [{}]}', Content_Type="application/json")
                assert refused.status == 503
                assert refused.headers["retry-after"] == "1"
            ready = target.request("GET", "/readyz")
            assert (ready.status, json.loads(ready.body)["status"]) == (503, "overloaded")
        steps.pass_on(1)
        assert [one.result().status for one in accepted] == [200, 200]
    assert target.request("GET", "/readyz").status == 200


def test_a_timeout_is_answered_and_a_stalled_model_is_not_ready(command: list[str]) -> None:
    with HeldSteps() as steps, serving([*command, "--no-demo", "--timeout", "3"], steps.environment) as server:
        target = target_of(server)
        with ThreadPoolExecutor(1) as thread:
            asking = thread.submit(target.post_items, [{"letters": 3, "held": "a"}])
            with steps.next():
                assert asking.result().status == 504
                wait_until(lambda: target.request("GET", "/readyz").status == 503)
                assert json.loads(target.request("GET", "/readyz").body)["status"] == "stalled"
        wait_until(lambda: target.request("GET", "/readyz").status == 200)
        target.check_alive()


def test_sigterm_finishes_the_stream_that_was_accepted(command: list[str]) -> None:
    with HeldSteps() as steps, serving([*command, "--no-demo"], steps.environment) as server:
        with opened(server.url, {"letters": 3, "held": "a"}, steps) as (_, following):
            with steps.next():
                server.process.send_signal(signal.SIGTERM)
                wait_until(lambda: target_of(server).request("GET", "/readyz").status == 503)
            steps.pass_on(1)
            assert list(following)[-1] == ("end", {})
        assert server.process.wait(timeout=600) == 0
        assert "Traceback" not in server.log_text()


def test_sigterm_ends_what_does_not_finish_even_while_the_model_computes(command: list[str]) -> None:
    with HeldSteps() as steps, serving([*command, "--no-demo", "--grace-seconds", "0.5"], steps.environment) as server:
        target = target_of(server)
        replies: list[Reply] = []
        with opened(server.url, {"letters": 1000, "held": "a"}, steps) as (_, following), steps.next():
            with ThreadPoolExecutor(1) as thread:
                asking = thread.submit(target.post_items, [{"letters": 1000, "held": "b"}])
                wait_until(lambda: target.metric("dl_items_in_flight") == 2)
                server.process.send_signal(signal.SIGTERM)
                (name, content) = list(following)[-1]
                assert (name, content["error"]["code"]) == ("error", "stopping")
                replies.append(asking.result())
            # The step that is held never comes back.
            assert server.process.wait(timeout=600) == 0
        assert (replies[0].status, json.loads(replies[0].body)["error"]["code"]) == (503, "stopping")
        assert "Traceback" not in server.log_text()


def test_a_cancelled_event_of_the_page_frees_the_model(server: ServerProcess, target: Target, steps: HeldSteps) -> None:
    gone = target.metric('dl_items_total{outcome="abandoned"}')
    with httpx.Client(base_url=server.url, timeout=600) as client:
        config = client.get("/config").json()
        index = next(entry["id"] for entry in config["dependencies"] if entry["api_name"] == "write")
        event = {"data": ["page"], "fn_index": index, "session_hash": "session"}
        joined = client.post("/gradio_api/queue/join", json=event).json()
        assert steps.pass_on(2) == ["page", "page"]
        with steps.next():
            body = {"session_hash": "session", "fn_index": index, "event_id": joined["event_id"]}
            with ThreadPoolExecutor(1) as thread:
                cancelling = thread.submit(client.post, "/gradio_api/cancel", json=body)
                target.wait_for_items("abandoned", int(gone) + 1)
                assert cancelling.result().status_code == 200
        asking = {"letters": 1, "held": "next"}
        with ThreadPoolExecutor(1) as thread:
            answered = thread.submit(target.post_items, [asking])
            assert steps.pass_on(1) == ["next"]
            assert answered.result().status == 200


def test_of_many_clients_that_hang_up_nothing_goes_on(command: list[str]) -> None:
    with serving([*command, "--no-demo"]) as server:
        target = Target(server.address, {"letters": 300}, None, max_items=4)
        check_hang_ups(target, ToyWriter(None))  # type: ignore[arg-type]
