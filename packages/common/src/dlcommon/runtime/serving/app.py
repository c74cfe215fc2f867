"""The application: REST routes, documentation and, where wanted, the demo page."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi_offline import FastAPIOffline
from PIL import Image
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp

from dlcommon import __version__
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving import openapi, routes
from dlcommon.runtime.serving.access import Access
from dlcommon.runtime.serving.demo import mount_demo
from dlcommon.runtime.serving.engine import Engine
from dlcommon.runtime.serving.errors import CLIENT_CLOSED_REQUEST, RequestError
from dlcommon.runtime.serving.guard import RequestGuard
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.responses import refusal
from dlcommon.runtime.serving.service import AnyService, PageBuilder
from dlcommon.runtime.serving.settings import ServeConfig


def create_app(
    service: AnyService, model: OnnxModel, settings: ServeConfig, build_page: PageBuilder | None = None
) -> FastAPI:
    """Builds the whole server as an ASGI application, with its `Engine` and `RequestGuard` in `app.state`.

    Args:
        build_page: builds the demo page; without one the server has the REST API alone, as with `--no-demo`.

    Raises:
        UserError: the model does not answer the service's own example.
    """
    metrics = Metrics()
    engine = Engine(service, model, settings, metrics)
    engine.self_test()
    guard = RequestGuard(settings, Access(settings), metrics)
    # Pillow's own bound holds for whatever decodes an image besides `decode_image`.
    Image.MAX_IMAGE_PIXELS = settings.max_pixels

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        engine.start()
        yield
        await engine.stop()
        if cache := getattr(app.state, "cache", None):
            cache.cleanup()

    app = FastAPIOffline(
        redoc_url=None,
        title=model.metadata.get("title") or model.metadata.get("capstone") or "Model",
        version=__version__,
        description=openapi.description(model),
        lifespan=lifespan,
    )
    service.add_routes(app, engine)
    routes.add_prediction_routes(app, engine)
    routes.add_model_routes(app, engine)
    routes.add_operation_routes(app, engine, guard, metrics)
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(ClientDisconnect, _client_disconnect)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.state.engine, app.state.guard = engine, guard
    if settings.demo and build_page is not None:
        mount_demo(app, engine, build_page)

    def guarded(inner: ASGIApp) -> RequestGuard:
        return guard.around(inner)

    app.add_middleware(guarded)
    return app


async def _request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return refusal(error)


async def _client_disconnect(_: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _http_error(_: Request, error: Exception) -> Response:
    """Turns Starlette's own refusals (404, 405) into the form of ours."""
    assert isinstance(error, StarletteHTTPException | HTTPException)
    codes = {
        404: ("not_found", "there is nothing here; see /docs"),
        405: ("method_not_allowed", "this path does not take that method; see /docs"),
    }
    code, message = codes.get(error.status_code, ("refused", str(error.detail)))
    return refusal(RequestError(error.status_code, code, message, dict(error.headers or {})))
