"""The documentation page at /docs, whose addresses are relative to it."""

import html

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse

STATIC = "static-offline-docs"
"""Folder that fastapi_offline serves; at the same level as the page."""


def add_docs_page(app: FastAPI) -> None:
    """Adds /docs: Swagger UI from this server's own files."""
    # The library puts the title into the page as it is.
    title = f"{html.escape(app.title)} · REST API"

    async def docs(_: Request) -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=title,
            oauth2_redirect_url=None,
            swagger_js_url=f"{STATIC}/swagger-ui-bundle.js",
            swagger_css_url=f"{STATIC}/swagger-ui.css",
            swagger_favicon_url=f"{STATIC}/favicon.png",
        )

    app.add_route("/docs", docs, include_in_schema=False)
