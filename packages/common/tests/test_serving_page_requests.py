"""What only an attacker sends to the page's own routes: 4xx, and at most one line in the log."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from dlcommon.runtime.serving.clients import LASTING_OF_ONE, MAX_CONNECTIONS
from dlcommon.testing import bad_bodies
from dlcommon.testing.raw_http import Target
from dlcommon.testing.server_process import ServerProcess, serving
from dlcommon.testing.toy_serving import ToyService, write_toy_model

JOIN, COMPONENT, RESULTS = "/gradio_api/queue/join", "/gradio_api/component_server", "/gradio_api/queue/data"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    model: Path = write_toy_model(tmp_path_factory.mktemp("model") / "toy.onnx")
    with serving([sys.executable, "-m", "dlcommon.testing.toy_serving", "--model", str(model)]) as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=600) as opened:
        yield opened


def event(**fields: Any) -> dict[str, Any]:
    return {"json": {"data": [None], "fn_index": 0, "session_hash": "s", **fields}}


def component(**fields: Any) -> dict[str, Any]:
    return {"json": {"data": None, "component_id": 1, "session_hash": "s", "fn_name": "x", **fields}}


OCTETS = {"content": b"\xff\x00octets", "headers": {"Content-Type": "application/octet-stream"}}
REQUESTS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    (JOIN, event(fn_index=-1), (404,)),
    (JOIN, event(fn_index=999), (404,)),
    (JOIN, event(fn_index=10**30), (422, 404)),
    (JOIN, event(fn_index=True), (422,)),
    (JOIN, event(fn_index=None), (422,)),
    (JOIN, event(fn_index=0.5), (422,)),
    (JOIN, event(session_hash=None), (422,)),
    (JOIN, event(session_hash=""), (422,)),
    (JOIN, event(session_hash="s" * 101), (422,)),
    (JOIN, event(session_hash=["s"]), (422,)),
    (JOIN, event(trigger_id="x"), (422,)),
    (JOIN, event(data=[]), (422,)),
    (JOIN, event(data="x"), (422,)),
    (JOIN, {"json": []}, (422,)),
    (JOIN, {"json": {}}, (422,)),
    (JOIN, {"content": b"{", "headers": {"Content-Type": "application/json"}}, (400,)),
    (JOIN, {"content": b"[" * 10**6, "headers": {"Content-Type": "application/json"}}, (413,)),
    (JOIN, OCTETS, (415,)),
    (JOIN, {"files": {"files": ("a.png", b"x")}}, (415,)),
    (JOIN, {"content": b""}, (400,)),
    *[(f"/gradio_api/{name}", OCTETS, (415,)) for name in ("cancel", "reset", "stream/x", "stream/x/close")],
    ("/gradio_api/cancel", {"json": {"event_id": "x", "fn_index": "x", "session_hash": 1}}, (422,)),
    ("/gradio_api/stream/x", {"json": {"data": [None]}}, (404,)),
    (COMPONENT, component(), (400, 404)),
    (COMPONENT, component(component_id=999), (400, 404)),
    (COMPONENT, component(component_id="x"), (400, 404)),
    (COMPONENT, component(component_id=[1]), (400, 404)),
    (COMPONENT, component(session_hash=[1]), (400, 404)),
    (COMPONENT, component(fn_name=1), (400, 404)),
    (COMPONENT, component(fn_name="__init__"), (400, 404)),
    (COMPONENT, OCTETS, (400, 415)),
    (COMPONENT, {"files": {"files": ("a.png", b"x")}}, (400,)),
    (COMPONENT, {"files": {"a": b"x"}, "data": {"component_id": "999", "session_hash": "s", "fn_name": "x"}}, (400,)),
    (COMPONENT, {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, (400,)),
    ("/gradio_api/upload", OCTETS, (400, 415)),
    ("/gradio_api/upload", {"data": {"files": "no file"}, "files": {"other": ("a", b"x")}}, (400,)),
    ("/gradio_api/upload", {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, (400,)),
]


@pytest.mark.parametrize(("path", "sent", "statuses"), REQUESTS, ids=lambda value: str(value)[:60])
def test_it_is_refused_and_leaves_at_most_one_line(
    path: str, sent: dict[str, Any], statuses: tuple[int, ...], client: httpx.Client, server: ServerProcess
) -> None:
    logged = server.log_text()
    reply = client.post(path, **sent)
    assert reply.status_code in statuses, reply.text
    assert "Traceback" not in reply.text
    new = server.log_text().removeprefix(logged)
    assert len(new.splitlines()) <= 1, new


@pytest.mark.parametrize("query", ["?session_hash=", "?session_hash=x", "", "?session_hash=%00&session_hash=x"])
def test_results_of_no_session_are_not_waited_for(query: str, client: httpx.Client, server: ServerProcess) -> None:
    logged = server.log_text()
    assert client.get(RESULTS + query).status_code == 404
    assert server.log_text() == logged


@pytest.mark.parametrize("data", [["x"], [5], [{"path": 5}], [{"path": "/etc/passwd"}], [[]], [{"meta": {}}]])
def test_an_event_that_fails_on_what_was_sent_leaves_one_line(
    data: list[Any], client: httpx.Client, server: ServerProcess
) -> None:
    logged = server.log_text()
    assert client.post(JOIN, **event(data=data)).status_code == 200
    assert '"success":false' in client.get(RESULTS, params={"session_hash": "s"}).text
    new = server.log_text().removeprefix(logged)
    assert len(new.splitlines()) <= 1, new
    assert "Traceback" not in new


def test_the_page_still_answers(client: httpx.Client) -> None:
    path = client.post("/gradio_api/upload", files={"files": ("a.png", bad_bodies.png(), "image/png")}).json()[0]
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    assert client.post(JOIN, **event(data=[file])).status_code == 200
    assert '"total"' in client.get(RESULTS, params={"session_hash": "s"}).text


def test_the_heartbeats_of_one_client_keep_nobody_out(server: ServerProcess) -> None:
    target = Target(server.address, dict(ToyService.example), ToyService.upload)
    with ExitStack() as opened:
        statuses = []
        for number in range(MAX_CONNECTIONS + 3):
            connection = opened.enter_context(target.connect())
            connection.sendall(target.head("GET", f"/gradio_api/heartbeat/{number}", {"Connection": "keep-alive"}))
            statuses.append(connection.recv(4096).split()[1])
        assert statuses.count(b"200") == LASTING_OF_ONE
        assert set(statuses) == {b"200", b"429"}
        target.check_alive()
        assert target.request("GET", "/").status == 200
