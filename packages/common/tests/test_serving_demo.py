"""The page on the server's port: it works over HTTP, and gives nothing away."""

import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dlcommon.testing import bad_bodies
from dlcommon.testing.server_process import ServerProcess, serving
from dlcommon.testing.toy_serving import write_toy_model

SECRET = "a secret that no page shows"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    model = write_toy_model(folder / "toy.onnx", data_builtin="true")
    (folder / "secret.txt").write_text(SECRET)
    command = [sys.executable, "-m", "dlcommon.testing.toy_serving", "--model", str(model), "--max-mb", "1"]
    with serving(command) as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=600) as opened:
        yield opened


def upload(client: httpx.Client, content: bytes, name: str = "picture.png") -> str:
    reply = client.post("/gradio_api/upload", files={"files": (name, content, "image/png")})
    assert reply.status_code == 200, reply.text
    path: str = reply.json()[0]
    return path


def press(client: httpx.Client, file: dict[str, Any] | None) -> dict[str, Any]:
    """Does what the page does when its button is pressed, and returns the last message of the queue."""
    config = client.get("/config").json()
    index = next(entry["id"] for entry in config["dependencies"] if entry["api_name"] == "describe")
    event = {"data": [file], "fn_index": index, "session_hash": "session"}
    joined = client.post("/gradio_api/queue/join", json=event)
    assert joined.status_code == 200, joined.text
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "session"}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line[6:]) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("the queue ended without an answer")


def picture(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def test_the_page_answers_like_the_api(client: httpx.Client) -> None:
    content = bad_bodies.png()
    message = press(client, picture(upload(client, content)))
    assert message["success"], message
    direct = client.post("/v1/predict", content=content, headers={"content-type": "image/png"})
    assert message["output"]["data"] == direct.json()["answers"]
    assert 'dl_items_total{outcome="answered"}' in client.get("/metrics").text


def test_the_page_says_what_is_wrong_with_a_picture(client: httpx.Client, server: ServerProcess) -> None:
    for content in (b"%PDF-1.7 not a picture", bad_bodies.png()[:-40], bad_bodies.png_bomb()):
        message = press(client, picture(upload(client, content)))
        assert not message["success"]
        shown = json.dumps(message)
        assert "Traceback" not in shown
        assert ".py" not in shown
    assert client.get("/healthz").status_code == 200


def test_the_page_says_which_model_and_data_it_shows(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "sample data" in page.text
    assert "toy-data" in page.text
    assert "accuracy 0.5" in page.text


def test_the_page_asks_no_other_server_for_anything(client: httpx.Client) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    config = client.get("/config").json()
    assert config["analytics_enabled"] is False
    loaded = re.findall(r'<(?:script|link)[^>]+(?:src|href)="([^"]+)"', page.text)
    assert loaded
    assert not [address for address in loaded if address.startswith(("http:", "https:", "//"))]
    css = client.get("/theme.css").text
    assert "url('static/fonts/" in css
    assert "fonts.googleapis.com" not in css + page.text
    font = re.search(r"url\('(static/fonts/[^']+)'\)", css)
    assert font is not None
    assert client.get(f"/{font[1]}").status_code == 200
    for address in ("/docs", "/static-offline-docs/swagger-ui-bundle.js"):
        assert client.get(address).status_code == 200
    assert "cdn" not in client.get("/docs").text


def test_files_outside_the_page_are_not_served(client: httpx.Client, folder: Path) -> None:
    root = next(parent for parent in Path(__file__).parents if (parent / "pyproject.toml").exists())
    forbidden = [
        "/etc/passwd",
        str(folder / "secret.txt"),
        str(folder / "toy.onnx"),
        str(Path.cwd() / "uv.lock"),
    ]
    forbidden += [
        str(root / "pyproject.toml"),
        "pyproject.toml",
        "uv.lock",
        "../etc/passwd",
        "/proc/self/environ",
    ]
    uploaded = Path(upload(client, bad_bodies.png()))
    forbidden += [f"{uploaded.parent}/../../../../../../etc/passwd", f"{uploaded}/../../../../../etc/passwd"]
    forbidden += [str(uploaded.parent), str(uploaded.parent.parent), "file:///etc/passwd", "\\etc\\passwd"]
    for path in forbidden:
        for address in (
            f"/gradio_api/file={path}",
            f"/gradio_api/file={path.replace('/', '%2f').replace('.', '%2e')}",
        ):
            reply = client.get(address)
            assert 400 <= reply.status_code < 500, (address, reply.status_code)
            assert SECRET not in reply.text
            assert "root:" not in reply.text
            assert "Traceback" not in reply.text
    own = client.get(f"/gradio_api/file={uploaded}")
    assert own.content == bad_bodies.png()


@pytest.mark.parametrize("base", ["/static/", "/assets/", "/svelte/", "/static-offline-docs/"])
def test_static_folders_are_not_left(base: str, server: ServerProcess) -> None:
    for climb in ("../" * 12, "..%2f" * 12, "%2e%2e/" * 12, "..%5c" * 12, "/"):
        with socket.create_connection(tuple(server.ready["url"][7:].split(":"))) as connection:
            request = f"GET {base}{climb}etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        assert re.match(rb"HTTP/1.1 4\d\d ", received), received[:200]
        assert b"root:" not in received


@pytest.mark.parametrize(
    "address",
    [
        "/gradio_api/proxy=https://evil.hf.space/x",
        "/gradio_api/proxy=http://127.0.0.1:1/x",
        "/gradio_api/file=http://127.0.0.1:1/x",
        "/gradio_api/file=https://example.org/x",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/file/etc/passwd",
        "/gradio_api/runs",
        "/gradio_api/run-history/buckets",
        "/gradio_api/deep_link?session_hash=x",
        "/gradio_api/custom_component/x/client/component/__init__.py",
        "/gradio_api/vibe-code",
        "/gradio_api/openapi.json",
        "/gradio_api/mcp/sse",
        "/gradio_api/stream/a/b/1/playlist-file",
        "/gradio_api/dev/reload",
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/profiling/summary",
    ],
)
def test_what_the_page_does_not_need_is_not_there(address: str, client: httpx.Client) -> None:
    assert client.get(address, follow_redirects=False).status_code == 404


@pytest.fixture
def bait() -> Iterator[tuple[str, list[bytes]]]:
    """A server that notes who connects: the address, and what it was sent."""
    caught: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        going = threading.Event()

        def watch() -> None:
            while not going.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                with connection:
                    caught.append(connection.recv(1000))

        thread = threading.Thread(target=watch)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/picture.png", caught
        going.set()
        thread.join()


def test_addresses_and_paths_sent_as_pictures_are_not_read(
    client: httpx.Client, server: ServerProcess, bait: tuple[str, list[bytes]], folder: Path
) -> None:
    address, caught = bait
    files = [picture(address), {**picture("x"), "url": address}, picture("https://example.org/picture.png")]
    files += [picture("/etc/passwd"), picture(str(folder / "secret.txt")), picture(str(folder / "toy.onnx"))]
    files += [
        {"path": None, "url": address, "meta": {"_type": "gradio.FileData"}},
        {"url": "file:///etc/passwd"},
    ]
    for file in files:
        message = press(client, file)
        assert not message["success"], file
        assert SECRET not in json.dumps(message)
    assert caught == []
    # The refusal is this server's own: gradio's would fetch what lies outside this machine.
    assert server.log_text().count("ValueError: addresses are not fetched") >= 2


def test_uploads_are_bounded(client: httpx.Client) -> None:
    reply = client.post("/gradio_api/upload", files={"files": ("big.png", b"x" * 2**21, "image/png")})
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "too_large"
    assert client.get("/healthz").status_code == 200


def test_upload_names_cannot_leave_the_upload_folder(client: httpx.Client) -> None:
    ordinary = Path(upload(client, b"one"))
    for name in ("../../../../tmp/evil.png", "/tmp/evil.png", "..\\..\\evil.png", "x" * 5000 + ".png"):
        reply = client.post("/gradio_api/upload", files={"files": (name, b"two", "image/png")})
        if reply.status_code == 200:
            assert Path(reply.json()[0]).parent.parent == ordinary.parent.parent
        else:
            assert 400 <= reply.status_code < 500
    assert not Path("/tmp/evil.png").exists()


def test_direct_calls_of_the_pages_functions_are_closed(client: httpx.Client) -> None:
    for address in ("/gradio_api/run/describe", "/gradio_api/api/describe", "/gradio_api/call/describe"):
        reply = client.post(address, json={"data": [picture("/etc/passwd")]})
        assert 400 <= reply.status_code < 500, (address, reply.status_code, reply.text)
        assert "root:" not in reply.text


def test_the_process_has_not_loaded_torch(client: httpx.Client, server: ServerProcess) -> None:
    """After the page and the API have been used, no library of torch is mapped into the process."""
    upload(client, bad_bodies.png())
    loaded = {Path(region.path).name for region in server.process.memory_maps()}
    assert any("onnxruntime" in name for name in loaded)
    assert not [name for name in loaded if name.startswith(("libtorch", "libc10"))]


def test_at_last_a_stop_does_not_wait_for_open_pages(client: httpx.Client, server: ServerProcess) -> None:
    uploads = Path(upload(client, bad_bodies.png())).parent.parent
    assert uploads.is_dir()
    logged = len(server.log_text())
    with client.stream("GET", "/gradio_api/heartbeat/session") as heartbeat:
        lines = heartbeat.iter_lines()
        assert "ALIVE" in next(lines)
        server.process.terminate()
        assert server.process.wait(timeout=600) == 0
        assert not any("error" in line for line in lines)
    assert not uploads.exists()
    assert server.log_text()[logged:] == ""
