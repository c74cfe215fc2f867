"""Mounts the Gradio page on the server's own port, and closes every Gradio route that the page does not need."""

import os
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from dlcommon.runtime.serving.engine import Engine
from dlcommon.runtime.serving.errors import RequestError, explain, overloaded
from dlcommon.runtime.serving.proxied import route_path, with_page_root
from dlcommon.runtime.serving.service import PageBuilder
from dlcommon.runtime.serving.upload_folder import UploadFolder, files_below

PAGE_CONCURRENCY = 8
"""Events of the page that are handled at once; the engine bounds the model's work anyway."""
UPLOADS_KEPT, FILES_KEPT = 100, 1_000
"""The folder of uploads may hold as much as this many of the largest size, and this many files."""
CACHE_SECONDS = (600, 3600)
"""Seconds between two searches for old uploads, and the age at which an upload is deleted."""

_UPLOAD = "/gradio_api/upload"
_PAGE_ROUTES = re.compile(
    r"/(|config/?|theme\.css|favicon\.ico|manifest\.json|robots\.txt"
    r"|assets/.+|static/.+|svelte/.+"
    r"|gradio_api/(info/?|app_id/?|user/?|token/?|login_check/?|theme\.css|startup-events|upload|upload_progress"
    r"|queue/join|queue/data|queue/status|stream/[\w-]+(/close)?|cancel|reset/?|component_server/?|heartbeat/[\w-]+"
    r"|file=(?!\w{2,}:).+))"
)
"""Paths that the page asks for. Gradio has more: direct calls, a proxy, fetching of addresses, an editor."""


class PageRouter:
    """Routes the page's own paths to Gradio, and all others, unknown ones too, to the REST API (ASGI middleware)."""

    def __init__(self, app: ASGIApp, demo: ASGIApp, uploads: Path, max_upload_bytes: int) -> None:
        self._app = app
        self._demo = demo
        self._uploads = uploads
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope) if scope["type"] == "http" else ""
        is_page = _PAGE_ROUTES.fullmatch(path) is not None
        if is_page and path == _UPLOAD:
            files, size = files_below(self._uploads)
            if files > FILES_KEPT or size > self._max_upload_bytes:
                raise overloaded("too many uploads are kept; try again later")
        if is_page:
            await self._demo(with_page_root(scope), receive, send)
        else:
            await self._app(scope, receive, send)


def private_cache() -> UploadFolder:
    """Makes a folder for this process's uploads; Gradio reads the setting whenever it needs it."""
    folder = UploadFolder()
    os.environ["GRADIO_TEMP_DIR"] = str(folder.path)
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder.path / "examples")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    return folder


def _refuse_downloads() -> None:
    """Keeps Gradio from fetching an address that a client names as its picture."""
    from gradio import processing_utils

    async def refuse(url: str) -> Any:
        raise ValueError("addresses are not fetched")

    if not hasattr(processing_utils, "async_ssrf_protected_get"):
        raise RuntimeError("this version of gradio fetches addresses by another function; name it here")
    processing_utils.async_ssrf_protected_get = refuse


class EnginePredict:
    """Implements `PagePredict`: items take the same path as those of REST requests, errors are shown on the page."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, item: BaseModel) -> BaseModel:
        try:
            return await self._engine.answer(item)
        except Exception as error:
            raise _shown(error) from None

    async def stream(self, item: BaseModel) -> AsyncGenerator[BaseModel, None]:
        try:
            # A page's event that is cancelled closes this generator, which must free the model at once.
            async with aclosing(self._engine.stream(item)) as pieces:
                async for piece in pieces:
                    yield piece
        except Exception as error:
            raise _shown(error) from None


def _shown(error: Exception) -> Exception:
    import gradio as gr

    refusal = error if isinstance(error, RequestError) else explain(error)
    return gr.Error(refusal.message, title="", print_exception=False)


def mount_demo(app: FastAPI, engine: Engine, build_page: PageBuilder) -> Any:
    """Builds the page and puts it at `/`; returns the Gradio blocks."""
    cache = private_cache()
    import gradio as gr

    from dlcommon.runtime.serving.page_requests import PageRequests, log_failed_events_on_one_line
    from dlcommon.runtime.serving.page_template import find_server_from_page
    from dlcommon.runtime.serving.theme import CSS, theme

    _refuse_downloads()
    find_server_from_page()
    log_failed_events_on_one_line()
    page = build_page(EnginePredict(engine))
    page.analytics_enabled = False
    page.delete_cache = CACHE_SECONDS
    page.queue(max_size=engine.settings.queue, default_concurrency_limit=PAGE_CONCURRENCY, api_open=False)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=engine.settings.host,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        blocked_paths=[],
        show_error=False,
        max_file_size=engine.settings.max_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=CSS,
    )
    # Gradio is reached through the router above, not by the mount, which would take every unknown path.
    gradio = app.router.routes.pop().app  # type: ignore[attr-defined]
    demo = PageRequests(gradio, page, engine.max_values)
    limit = UPLOADS_KEPT * engine.settings.max_bytes
    app.add_middleware(PageRouter, demo=demo, uploads=cache.path, max_upload_bytes=limit)
    app.state.cache = cache
    return page
