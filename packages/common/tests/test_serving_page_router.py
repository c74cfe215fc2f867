"""Which paths reach the page, without Gradio behind them."""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
from dlcommon.runtime.serving.demo import FILES_KEPT, PageRouter
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.upload_folder import UploadFolder
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("page")(scope, receive, send)


async def api(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("api")(scope, receive, send)


def ask(folder: Path, path: str, method: str = "GET") -> str:
    async def asked() -> str:
        transport = httpx.ASGITransport(PageRouter(api, page, uploads=folder, max_upload_bytes=1000))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return (await client.request(method, path)).text

    return asyncio.run(asked())


@pytest.mark.parametrize(
    ("path", "reached"),
    [
        ("/", "page"),
        ("/config", "page"),
        ("/assets/index.js", "page"),
        ("/gradio_api/queue/join", "page"),
        ("/gradio_api/file=/tmp/dl-demo/picture.png", "page"),
        ("/gradio_api/file=C:/Temp/dl-demo/picture.png", "page"),
        ("/gradio_api/file=http://127.0.0.1/", "api"),
        ("/gradio_api/file=", "api"),
        ("/gradio_api/heartbeat/../proxy=x", "api"),
        ("/gradio_api/run/describe", "api"),
        ("/gradio_api/call/describe", "api"),
        ("/gradio_api/proxy=https://x.hf.space", "api"),
        ("/v1/predict", "api"),
        ("/docs", "api"),
        ("/config%0a", "api"),
    ],
)
def test_only_what_the_page_asks_for_reaches_it(path: str, reached: str, tmp_path: Path) -> None:
    assert ask(tmp_path, path) == reached


def test_the_folder_of_uploads_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "picture.png").write_bytes(b"x" * 1000)
    assert ask(tmp_path, "/gradio_api/upload", "POST") == "page"
    (tmp_path / "another.png").write_bytes(b"x")
    with pytest.raises(RequestError, match="too many uploads") as refused:
        ask(tmp_path, "/gradio_api/upload", "POST")
    assert refused.value.status == 503
    assert ask(tmp_path, "/") == "page"


def test_the_number_of_uploads_is_bounded(tmp_path: Path) -> None:
    for number in range(FILES_KEPT):
        (tmp_path / str(number)).touch()
    assert ask(tmp_path, "/gradio_api/upload", "POST") == "page"
    (tmp_path / "one more").touch()
    with pytest.raises(RequestError, match="too many uploads"):
        ask(tmp_path, "/gradio_api/upload", "POST")


def test_folders_of_killed_servers_are_deleted_and_those_of_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = "import os; from dlcommon.runtime.serving.upload_folder import UploadFolder\nprint(UploadFolder().path)\n"
    killed = subprocess.run(
        [sys.executable, "-c", f"{script}import sys; sys.stdout.flush(); os.kill(os.getpid(), 9)"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    left = Path(killed.stdout.strip())
    assert left.parent == tmp_path
    (left / "picture.png").touch()
    strangers = tmp_path / "dl-demo-by-hand"
    strangers.mkdir()
    (tmp_path / "dl-demo-link").symlink_to(strangers)
    first = UploadFolder()
    assert not left.exists()
    second = UploadFolder()
    assert first.path.is_dir()
    assert strangers.is_dir()
    first.cleanup()
    second.cleanup()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dl-demo-by-hand", "dl-demo-link"]
