"""Many requests, too many requests, and the end: by real HTTP against the real process."""

import asyncio
import json
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from dlcommon.runtime.serving.http import MAX_CONNECTIONS
from dlcommon.testing.raw_http import Reply, Target, read_reply
from dlcommon.testing.server_process import ServerProcess, serving
from dlcommon.testing.toy_serving import DELAY, ToyService, write_toy_model

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
def slow(command: list[str]) -> Iterator[ServerProcess]:
    """One item at a time, 0.3 s each, at most 8 of them."""
    with serving([*command, "--max-batch", "1", "--queue", "8", "--max-items", "8"], {DELAY: "0.3"}) as server:
        yield server


def metric(target: Target, name: str) -> float:
    """The sum of a metric's samples over its labels."""
    text = target.request("GET", "/metrics").body.decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE))


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
        runs, items = metric(target, "dl_batch_size_count"), metric(target, "dl_batch_size_sum")
        assert items >= statuses[200]
        assert items / runs > 1.5, f"{items:.0f} items went through the model in {runs:.0f} runs"
        assert metric(target, "dl_items_in_flight") == 0
        assert metric(target, "dl_queue_length") == 0


def test_overload_is_answered_503_and_recovers(slow: ServerProcess) -> None:
    target = target_of(slow)
    with ThreadPoolExecutor(40) as pool:
        replies = list(pool.map(lambda _: target.post_items([target.example]), range(40)))
    statuses = Counter(reply.status for reply in replies)
    assert set(statuses) == {200, 503}
    assert statuses[200] >= 8
    for reply in replies:
        if reply.status == 503:
            assert int(reply.headers["retry-after"]) >= 1
            assert json.loads(reply.body)["error"]["code"] == "overloaded"
    target.check_alive()
    assert target.request("GET", "/readyz").status == 200
    assert metric(target, "dl_items_in_flight") == 0


def test_readiness_and_health_while_the_queue_is_full(slow: ServerProcess) -> None:
    target = target_of(slow)
    asking = threading.Thread(target=target.post_items, args=([target.example] * 8,))
    asking.start()
    deadline = time.monotonic() + 10
    while target.request("GET", "/readyz").status == 200:
        assert time.monotonic() < deadline, "a full queue never showed in /readyz"
    assert target.request("GET", "/healthz").status == 200
    asking.join()
    assert target.request("GET", "/readyz").status == 200


def test_an_answer_that_takes_too_long_is_504(command: list[str]) -> None:
    with serving([*command, "--timeout", "1"], {DELAY: "1.5"}) as server:
        target = target_of(server)
        reply = target.post_items([target.example])
        assert reply.status == 504
        assert json.loads(reply.body)["error"]["code"] == "timeout"
        assert target.request("GET", "/healthz").status == 200


def test_a_client_that_hangs_up_has_its_items_dropped(slow: ServerProcess) -> None:
    target = target_of(slow)
    body = json.dumps({"items": [target.example] * 8}).encode()
    with target.connect() as connection:
        connection.sendall(target.post_head(body) + body)
        deadline = time.monotonic() + 10
        while metric(target, "dl_items_in_flight") < 8:
            assert time.monotonic() < deadline
    started = time.monotonic()
    target.check_alive()
    assert time.monotonic() - started < 1.5, "the items of a client that has gone were run all the same"
    assert metric(target, "dl_items_in_flight") == 0
    text = target.request("GET", "/metrics").body.decode()
    assert 'dl_items_total{outcome="abandoned"} 8.0' in text


def test_sigterm_finishes_what_was_accepted_and_refuses_the_rest(slow: ServerProcess) -> None:
    target = target_of(slow)
    accepted: list[Reply] = []

    def ask() -> None:
        accepted.append(target.post_items([target.example] * 2))

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    deadline = time.monotonic() + 10
    while metric(target, "dl_items_in_flight") < 6:
        assert time.monotonic() < deadline
    slow.process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    refused = target.post_items([target.example])
    assert refused.status == 503
    assert "retry-after" in refused.headers
    assert json.loads(refused.body)["error"]["code"] == "stopping"
    assert target.request("GET", "/readyz").status == 503
    assert target.request("GET", "/healthz").status == 200
    assert slow.process.wait(timeout=30) == 0
    for thread in asking:
        thread.join()
    assert [reply.status for reply in accepted] == [200, 200, 200]
    assert all(len(json.loads(reply.body)["answers"]) == 2 for reply in accepted)
    assert "Traceback" not in slow.log_text()


def test_connections_are_bounded_and_come_back(slow: ServerProcess) -> None:
    target = target_of(slow)
    with ExitStack() as opened:
        connections = [opened.enter_context(target.connect()) for _ in range(MAX_CONNECTIONS)]
        for connection in connections[:: MAX_CONNECTIONS - 1]:
            connection.sendall(target.head("GET", "/healthz", {"Connection": "keep-alive"}))
            reply = read_reply(connection)
            assert reply is not None
            assert reply.status == 200
        refused = target.request("GET", "/healthz")
        assert refused.status == 503
        assert "retry-after" in refused.headers
    deadline = time.monotonic() + 10
    while target.request("GET", "/healthz").status != 200:
        assert time.monotonic() < deadline


def test_sigint_stops_an_idle_server_at_once(command: list[str]) -> None:
    with serving(command) as server, target_of(server).connect() as idle:
        started = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=30) == 0
        assert time.monotonic() - started < 5
        assert read_reply(idle) is None
