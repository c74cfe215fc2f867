"""Page and API behind reverse proxies, at the top and below a path, with the headers that they send by default."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from dlcommon.runtime.serving.guard import security_headers
from dlcommon.runtime.serving.settings import ServeConfig
from dlcommon.testing import bad_bodies
from dlcommon.testing.reverse_proxy import PROXIES, Forwarded, ReverseProxy, nginx_default
from dlcommon.testing.server_process import ServerProcess, serving
from dlcommon.testing.toy_serving import write_toy_model

TITLE = "A <script>alert('toy')</script> & more"
EVIL = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}


def command(folder: Path, *options: str) -> list[str]:
    model = write_toy_model(folder / "toy.onnx", title=TITLE)
    return [sys.executable, "-m", "dlcommon.testing.toy_serving", "--model", str(model), *options]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(command(tmp_path_factory.mktemp("model"))) as process:
        yield process


def press(page: str, origin: str) -> dict[str, object]:
    """Does what the page does when its button is pressed, as a browser sends it; returns the queue's last message."""
    browser = {"Origin": origin, "Referer": f"{page}/", "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=page, timeout=600, headers=browser) as client:
        uploaded = client.post("/gradio_api/upload", files={"files": ("a.png", bad_bodies.png(), "image/png")}).json()
        config = client.get("/config").json()
        index = next(entry["id"] for entry in config["dependencies"] if entry["api_name"] == "describe")
        file = {"path": uploaded[0], "meta": {"_type": "gradio.FileData"}}
        event = {"data": [file], "fn_index": index, "session_hash": "session"}
        joined = client.post("/gradio_api/queue/join", json=event)
        assert joined.status_code == 200, joined.text
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "session"}) as stream:
            for line in stream.iter_lines():
                message: dict[str, object] = json.loads(line[6:]) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed":
                    return message
    raise AssertionError("the queue ended without an answer")


@pytest.mark.parametrize("prefix", ["", "/digits"])
@pytest.mark.parametrize("forwarded", PROXIES, ids=lambda forwarded: forwarded.__name__)
def test_page_and_api_work_behind_it(forwarded: Forwarded, prefix: str, server: ServerProcess) -> None:
    with ReverseProxy(server.address, forwarded, prefix) as proxy:
        origin = proxy.url.removesuffix(prefix)
        assert press(proxy.url, origin)["success"]
        documentation = httpx.get(f"{proxy.url}/docs").text
        addresses = re.findall(r'(?:src|href)="([^"]*)"', documentation)
        assert len(addresses) == 3
        for address in [*addresses, "openapi.json"]:
            assert httpx.get(httpx.URL(f"{proxy.url}/docs").join(address)).status_code == 200, address
        assert httpx.get(f"{proxy.url}/openapi.json").json()["servers"] == [{"url": "."}]
        assert proxy.refused == []


@pytest.mark.parametrize("strips", [True, False])
def test_a_root_path_is_an_option(strips: bool, tmp_path: Path) -> None:
    with (
        serving(command(tmp_path, "--root-path", "/digits")) as server,
        ReverseProxy(server.address, nginx_default, "/digits", strips) as proxy,
    ):
        assert press(proxy.url, proxy.url.removesuffix("/digits"))["success"]
        for path in ("/healthz", "/docs", "/", "/theme.css"):
            assert httpx.get(proxy.url + path).status_code == 200
        assert httpx.get(f"{server.url}/digits", headers={"X-Other": "1"}).headers["location"] == "digits/"
        assert httpx.get(f"{server.url}/digits", follow_redirects=True).status_code == 200
        for address in ("/digitshealthz", "/other/healthz", "/digits/digits/healthz"):
            assert httpx.get(server.url + address).status_code == 404, address


def test_no_address_is_made_of_a_host_that_a_client_sent(server: ServerProcess) -> None:
    for path in ("/", "/config", "/docs", "/openapi.json", "/gradio_api/info"):
        reply = httpx.get(server.url + path, headers=EVIL)
        assert reply.status_code == 200
        assert "evil" not in reply.text, path
    for damaged in ("digits", "//evil.example", "/a/../b?", "/" + "x" * 300, "/<script>"):
        assert "evil" not in httpx.get(f"{server.url}/config", headers={"X-Forwarded-Prefix": damaged}).text
        assert httpx.get(f"{server.url}/healthz", headers={"X-Forwarded-Prefix": damaged}).status_code == 200


def test_the_documentation_shows_the_title_as_text(server: ServerProcess) -> None:
    documentation = httpx.get(f"{server.url}/docs").text
    assert "alert(" in documentation
    assert "<script>alert(" not in documentation
    assert "<title>A &lt;script&gt;" in documentation
    assert "cdn" not in documentation


def test_only_sites_that_are_named_may_frame_the_page() -> None:
    def policy(*sites: str) -> str:
        return dict(security_headers(ServeConfig(frame_sites=sites).frame_sites))[b"content-security-policy"].decode()

    assert policy().endswith("frame-ancestors 'self'")
    assert policy("https://huggingface.co").endswith("frame-ancestors 'self' https://huggingface.co")
    for damaged in ("huggingface.co", "https://a b", "https://a;script-src *", "*", "https://a/b"):
        with pytest.raises(ValueError, match="frame_sites"):
            policy(damaged)


@pytest.mark.browser
def test_a_browser_behind_each_proxy_shows_a_page_that_answers(server: ServerProcess, tmp_path: Path) -> None:
    from dlcommon.testing.browser import opened

    picture = tmp_path / "picture.png"
    picture.write_bytes(bad_bodies.png())
    with ExitStack() as stack:
        proxies = [
            stack.enter_context(ReverseProxy(server.address, forwarded, prefix))
            for forwarded, prefix in zip(PROXIES, ("/digits", "", "/digits", "/a/b", "/digits", ""), strict=True)
        ]
        failed: list[str] = []
        page = stack.enter_context(opened("about:blank"))
        page.on("response", lambda reply: failed.append(f"{reply.status} {reply.url}") if reply.status >= 400 else None)
        for proxy in proxies:
            page.goto(f"{proxy.url}/")
            page.set_input_files("input[type=file]", picture)
            page.get_by_role("button", name="Describe").click()
            page.get_by_text("total").wait_for()
            assert (failed, proxy.refused) == ([], []), proxy.forwarded.__name__
        page.goto(f"{proxies[0].url}/docs")
        page.get_by_text("Predict one item or many").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        page.locator(".responses-table.live-responses-table").get_by_text("200").first.wait_for()
        assert (failed, proxies[0].refused) == ([], [])
