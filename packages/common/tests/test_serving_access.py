"""The token guards the API, the page and everything that the page uses."""

import asyncio
import http.client
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from dlcommon.runtime.serving.access import WRONG_TOKEN_SECONDS, Access
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.guard import RequestGuard
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.settings import ServeConfig
from dlcommon.testing import bad_bodies
from dlcommon.testing.server_process import ServerProcess, serving
from dlcommon.testing.toy_serving import ToyService, write_toy_model
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

TOKEN = "open-sesame-4711"
GUARDED = (
    "/v1/model",
    "/v1/models",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/config",
    "/theme.css",
    "/gradio_api/info",
    "/gradio_api/queue/data?session_hash=x",
    "/gradio_api/heartbeat/x",
    "/gradio_api/startup-events",
    "/gradio_api/file=/etc/passwd",
    "/assets/index.js",
    "/nothing",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    model: Path = write_toy_model(tmp_path_factory.mktemp("model") / "toy.onnx")
    command = [sys.executable, "-m", "dlcommon.testing.toy_serving", "--model", str(model)]
    with serving(command, {"DL_TOKEN": TOKEN}) as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=600) as opened:
        yield opened


@pytest.mark.parametrize("address", GUARDED)
def test_without_the_token_nothing_is_shown(address: str, client: httpx.Client) -> None:
    for headers in ({}, {"Cookie": "dl_session=x"}):
        reply = client.get(address, headers=headers)
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.json()["error"]["code"] == "unauthorized"


def test_wrong_tokens_open_nothing_and_are_slowed_down_as_at_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    async def main() -> list[int]:
        settings = ServeConfig(token=TOKEN)
        guard = RequestGuard(settings, Access(settings), Metrics()).around(never)
        monkeypatch.setattr("dlcommon.runtime.serving.access.asyncio.sleep", sleep)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://localhost") as client:
            wrong = [f"Bearer {guess}" for guess in ("wrong", "", TOKEN[:-1])] + [f"Basic {TOKEN}"]
            replies = [await client.get("/v1/model", headers={"Authorization": guess}) for guess in wrong]
            replies.append(await client.post("/login", data={"token": "wrong"}))
            assert slept == [WRONG_TOKEN_SECONDS] * len(replies)
            replies.append(await client.get("/v1/model"))  # nobody guesses without a token
            assert len(slept) == len(replies) - 1
        return [reply.status_code for reply in replies]

    assert set(asyncio.run(main())) == {401}


def test_without_the_token_nothing_is_accepted(client: httpx.Client) -> None:
    assert client.post("/v1/predict", json={"items": [dict(ToyService.example)]}).status_code == 401
    assert client.post("/gradio_api/upload", files={"files": ("a.png", bad_bodies.png())}).status_code == 401
    assert client.post("/gradio_api/queue/join", json={"data": [None], "fn_index": 0}).status_code == 401


def test_health_is_open(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_the_token_opens_the_api(client: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    reply = client.post("/v1/predict", json={"items": [dict(ToyService.example)]}, headers=headers)
    assert reply.json()["answers"][0]["total"] == 25.5
    for address in ("/v1/model", "/metrics", "/docs", "/config", "/"):
        assert client.get(address, headers=headers).status_code == 200


def test_the_page_asks_for_the_token_and_keeps_a_session(client: httpx.Client) -> None:
    asked = client.get("/")
    assert asked.status_code == 401
    assert 'name="token"' in asked.text
    assert asked.headers["referrer-policy"] == "same-origin"
    wrong = client.post("/login", data={"token": "wrong"})
    assert wrong.status_code == 401
    assert "not the token" in wrong.text
    assert not client.cookies
    right = client.post("/login", data={"token": TOKEN})
    assert right.status_code == 303
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in right.headers["set-cookie"]
    assert "gradio" in client.get("/").text
    assert client.get("/config").status_code == 200
    assert client.post("/gradio_api/upload", files={"files": ("a.png", bad_bodies.png())}).status_code == 200


def test_a_session_is_of_no_use_to_another_site(client: httpx.Client, server: ServerProcess) -> None:
    client.post("/login", data={"token": TOKEN})
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        reply = client.post("/v1/predict", json={"items": []}, headers={"Origin": origin})
        assert reply.status_code == 403
        assert "access-control-allow-origin" not in reply.headers
        assert client.get("/config", headers={"Origin": origin}).status_code == 403
        preflight = client.options("/v1/predict", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert preflight.status_code == 403
    own = client.post("/v1/predict", json={"items": [dict(ToyService.example)]}, headers={"Origin": server.url})
    assert own.status_code == 200


def test_foreign_host_names_are_refused(server: ServerProcess) -> None:
    host, port = server.ready["url"].removeprefix("http://").split(":")
    for name, status in (("localhost", 200), ("127.0.0.1", 200), (f"localhost:{port}", 200), ("[::1]", 200)):
        assert _status(host, int(port), name) == status
    for name in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "[::2]",
        "[",
        "@localhost@x",
    ):
        assert _status(host, int(port), name) in (400, 421)


def _status(host: str, port: int, name: str) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=600)
    connection.request("GET", "/healthz", headers={"Host": name})
    status = connection.getresponse().status
    connection.close()
    return status


def test_further_host_names_can_be_allowed() -> None:
    headers = Headers({"host": "models.example.org:443"})
    with pytest.raises(RequestError) as refused:
        Access(ServeConfig()).check_address(headers)
    assert refused.value.status == 421
    Access(ServeConfig(allowed_hosts=("models.example.org",))).check_address(headers)
    Access(ServeConfig(host="0.0.0.0")).check_address(headers)


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Prefix": "/digits"}])
def test_after_the_login_comes_the_page_where_the_browser_found_it(
    headers: dict[str, str], client: httpx.Client
) -> None:
    reply = client.post("/login", data={"token": TOKEN}, headers=headers, follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (303, "./")


@pytest.mark.browser
def test_a_person_logs_in_and_uses_the_page(server: ServerProcess, tmp_path: Path) -> None:
    from dlcommon.testing.browser import PHONE, check_no_sideways_scrolling, opened, screenshot

    picture = tmp_path / "picture.png"
    picture.write_bytes(bad_bodies.png())
    with opened(server.url, PHONE) as page:
        page.fill("#token", "wrong")
        page.get_by_role("button").click()
        page.get_by_role("alert").wait_for()
        page.fill("#token", TOKEN)
        page.get_by_role("button").click()
        page.get_by_role("heading", name="A toy").wait_for()
        check_no_sideways_scrolling(page)
        page.set_input_files("input[type=file]", picture)
        page.get_by_role("button", name="Describe").click()
        page.get_by_text("total").wait_for()
        screenshot(page, "toy-phone", tmp_path)
        page.goto(f"{server.url}/docs")
        page.get_by_text("Predict one item or many").wait_for()
