"""Many requests, too many requests, and the end: by real HTTP against the real process."""

import asyncio
import json
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from dlcommon.runtime.serving.clients import MAX_CONNECTIONS, REQUESTS_OF_ONE
from dlcommon.testing.held_steps import HeldSteps
from dlcommon.testing.raw_http import Target, read_reply, wait_until
from dlcommon.testing.server_process import ServerProcess, serving
from dlcommon.testing.toy_serving import ToyService, write_toy_model

REQUESTS, WARM_UP, CONNECTIONS = 10_000, 1_000, 16
GROWTH_MIB = 15
"""Of the resident set over the requests after the warm-up. A leak of 2 kB a request would be 20."""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    model: Path = write_toy_model(tmp_path_factory.mktemp("model") / "toy.onnx")
    return [sys.executable, "-m", "dlcommon.testing.toy_serving", "--model", str(model), "--no-demo"]


def target_of(server: ServerProcess) -> Target:
    return Target(server.address, dict(ToyService.example), ToyService.upload)


@pytest.fixture
def steps() -> Iterator[HeldSteps]:
    with HeldSteps() as held:
        yield held


@pytest.fixture
def server(command: list[str], steps: HeldSteps) -> Iterator[ServerProcess]:
    """One item at a time, at most 8 of them."""
    options = ["--max-batch", "1", "--queue", "8", "--max-items", "8"]
    with serving([*command, *options], steps.environment) as process:
        yield process


HELD = dict(ToyService.example) | {"held": True}
"""An item that the model works on until the test says so."""


async def keep_asking(target: Target, requests: int) -> Counter[int]:
    """Sends good and bad items over one connection that is kept open."""
    reader, writer = await asyncio.open_connection(*target.address)
    statuses: Counter[int] = Counter()
    for number in range(requests):
        item = {"pixels": [number, 0, 0, 0]} if number % 10 else {"pixels": [number]}
        body = json.dumps({"items": [item]}).encode()
        writer.write(target.post_head(body, Connection="keep-alive") + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        answer = json.loads(await reader.readexactly(int(length[1])))
        status = int(head.split()[1])
        assert status != 200 or answer["answers"][0]["scores"] == [number, 1, 2, 3]
        statuses[status] += 1
    writer.close()
    await writer.wait_closed()
    return statuses


async def keep_many_asking(target: Target, requests: int) -> Counter[int]:
    share = requests // CONNECTIONS
    parts = await asyncio.gather(*(keep_asking(target, share) for _ in range(CONNECTIONS)))
    return sum(parts, Counter())


def test_ten_thousand_requests_leave_memory_flat_and_are_batched(command: list[str]) -> None:
    with serving(command) as server:
        target = target_of(server)
        asyncio.run(keep_many_asking(target, WARM_UP))
        before = server.process.memory_info().rss
        statuses = asyncio.run(keep_many_asking(target, REQUESTS))
        growth = (server.process.memory_info().rss - before) / 2**20
        assert set(statuses) == {200, 422}
        assert statuses.total() == REQUESTS // CONNECTIONS * CONNECTIONS
        assert growth < GROWTH_MIB, f"{growth:.1f} MiB more after {REQUESTS} requests"
        runs, items = target.metric("dl_batch_size_count"), target.metric("dl_batch_size_sum")
        assert items >= statuses[200]
        assert items / runs > 1.5, f"{items:.0f} items went through the model in {runs:.0f} runs"
        assert target.metric("dl_items_in_flight") == 0
        assert target.metric("dl_queue_length") == 0


def test_a_full_queue_is_answered_503_shows_in_readyz_and_recovers(server: ServerProcess, steps: HeldSteps) -> None:
    target = target_of(server)
    with ThreadPoolExecutor(1) as thread:
        accepted = thread.submit(target.post_items, [HELD] * 8)
        with steps.next():
            for _ in range(3):
                reply = target.post_items([target.example])
                assert reply.status == 503
                assert int(reply.headers["retry-after"]) >= 1
                assert json.loads(reply.body)["error"]["code"] == "overloaded"
            ready = target.request("GET", "/readyz")
            assert (ready.status, json.loads(ready.body)["status"]) == (503, "overloaded")
            assert target.request("GET", "/healthz").status == 200
        steps.pass_on(7)
        assert accepted.result().status == 200
    target.check_alive()
    assert target.request("GET", "/readyz").status == 200
    assert target.metric("dl_items_in_flight") == 0


def test_an_answer_that_takes_too_long_is_504_and_its_other_items_are_not_computed(command: list[str]) -> None:
    with HeldSteps() as steps, serving([*command, "--timeout", "3", "--max-batch", "1"], steps.environment) as server:
        target = target_of(server)
        with ThreadPoolExecutor(1) as thread:
            asking = thread.submit(target.post_items, [HELD] * 3)
            with steps.next():
                reply = asking.result()
                assert reply.status == 504
                assert json.loads(reply.body)["error"]["code"] == "timeout"
                wait_until(lambda: target.request("GET", "/readyz").status == 503)
                assert json.loads(target.request("GET", "/readyz").body)["status"] == "stalled"
        wait_until(lambda: target.request("GET", "/readyz").status == 200)
        target.check_alive()
        assert target.metric("dl_model_seconds_count") == 2


def test_a_client_that_hangs_up_has_its_items_dropped(server: ServerProcess, steps: HeldSteps) -> None:
    target = target_of(server)
    body = json.dumps({"items": [HELD] * 8}).encode()
    with target.connect() as connection:
        connection.sendall(target.post_head(body) + body)
        with steps.next():
            connection.close()
            target.wait_for_items("abandoned", 8)
            assert target.metric("dl_items_in_flight") == 0
    target.check_alive()
    assert target.metric("dl_model_seconds_count") == 2  # the one that had begun, and the last request's


def test_sigterm_finishes_what_was_accepted_and_refuses_the_rest(server: ServerProcess, steps: HeldSteps) -> None:
    target = target_of(server)
    with ThreadPoolExecutor(3) as threads:
        accepted = [threads.submit(target.post_items, [HELD] * 2) for _ in range(3)]
        with steps.next():
            wait_until(lambda: target.metric("dl_items_in_flight") == 6)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: target.request("GET", "/readyz").status == 503)
            refused = target.post_items([target.example])
            assert refused.status == 503
            assert "retry-after" in refused.headers
            assert json.loads(refused.body)["error"]["code"] == "stopping"
            assert target.request("GET", "/healthz").status == 200
        steps.pass_on(5)
        replies = [one.result() for one in accepted]
    assert server.process.wait(timeout=600) == 0
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert all(len(json.loads(reply.body)["answers"]) == 2 for reply in replies)
    assert "Traceback" not in server.log_text()


def test_sigterm_ends_a_server_whose_model_never_returns(command: list[str]) -> None:
    with HeldSteps() as steps, serving([*command, "--grace-seconds", "0.5"], steps.environment) as server:
        target = target_of(server)
        with ThreadPoolExecutor(1) as thread:
            asking = thread.submit(target.post_items, [HELD])
            with steps.next():
                server.process.send_signal(signal.SIGTERM)
                reply = asking.result()
                assert (reply.status, json.loads(reply.body)["error"]["code"]) == (503, "stopping")
                assert server.process.wait(timeout=600) == 0
        assert "leaving without waiting" in server.log_text()
        assert "Traceback" not in server.log_text()


def begun_body(target: Target, opened: ExitStack, address: str) -> socket.socket:
    """Begins a request, whose body does not come, from one of this machine's addresses."""
    connection = socket.create_connection(target.address, timeout=600, source_address=(address, 0))
    connection.sendall(target.head("POST", "/v1/predict", {"Content-Type": "application/json", "Content-Length": "9"}))
    return opened.enter_context(connection)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a second address of this machine")
def test_requests_of_one_client_and_of_all_are_bounded_and_come_back(server: ServerProcess) -> None:
    target = target_of(server)
    with ExitStack() as opened:
        for _ in range(REQUESTS_OF_ONE):
            begun_body(target, opened, "127.0.0.1")
        refused = read_reply(begun_body(target, opened, "127.0.0.1"))
        assert refused is not None
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        others = [begun_body(target, opened, "127.0.0.2") for _ in range(MAX_CONNECTIONS - REQUESTS_OF_ONE - 1)]
        answered = opened.enter_context(socket.create_connection(target.address, source_address=("127.0.0.2", 0)))
        answered.sendall(target.head("GET", "/healthz", {"Connection": "keep-alive"}))
        reply = read_reply(answered)
        assert reply is not None
        assert reply.status == 200
        # The place of a connection that waits for nothing is given to the next one; then all are taken.
        others.append(begun_body(target, opened, "127.0.0.2"))
        assert read_reply(answered) is None
        full = target.request("GET", "/healthz")
        assert full.status == 503
        assert "retry-after" in full.headers
    wait_until(lambda: target.request("GET", "/healthz").status == 200)


def test_connections_that_ask_for_nothing_keep_nobody_out(server: ServerProcess) -> None:
    target = target_of(server)
    with ExitStack() as opened:
        for _ in range(MAX_CONNECTIONS):
            connection = opened.enter_context(target.connect())
            connection.sendall(b"GET /healthz HT")
        for _ in range(3):
            assert target.request("GET", "/healthz").status == 200


def test_sigint_stops_an_idle_server_without_waiting_for_the_grace(command: list[str]) -> None:
    with serving([*command, "--grace-seconds", "100000"]) as server, target_of(server).connect() as idle:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=600) == 0
        assert read_reply(idle) is None
