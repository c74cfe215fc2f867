"""The application: REST routes, documentation and, where wanted, the demo page."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi_offline import FastAPIOffline
from PIL import Image
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from dlcommon import __version__
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving import openapi
from dlcommon.runtime.serving.access import Access
from dlcommon.runtime.serving.engine import Engine
from dlcommon.runtime.serving.errors import CLIENT_CLOSED_REQUEST, RequestError
from dlcommon.runtime.serving.gate import HEALTH, METRICS, MODEL, MODELS, PREDICT, READY, STREAM, Gate
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.requests import bad_request, read_items
from dlcommon.runtime.serving.service import PageBuilder, Service
from dlcommon.runtime.serving.settings import ServeConfig
from dlcommon.runtime.serving.streams import server_sent_events


def refusal(error: RequestError) -> Response:
    return Response(error.body(), error.status, error.headers, "application/json")


def answers_response(results: list[BaseModel | RequestError]) -> Response:
    """200 with one entry an item, an answer or an error; an error status where no item has an answer."""
    errors = [result for result in results if isinstance(result, RequestError)]
    entries = [
        result.body() if isinstance(result, RequestError) else result.model_dump_json().encode() for result in results
    ]
    answers = b'"answers":[' + b",".join(entries) + b"]}"
    if len(errors) < len(results):
        return Response(b"{" + answers, media_type="application/json")
    worst = max(errors, key=lambda error: error.status)
    if len(results) == 1:
        return refusal(worst)
    return Response(worst.body()[:-1] + b"," + answers, worst.status, media_type="application/json")


async def unless_gone(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """The work's response; where the client hangs up, the work is cancelled and its items dropped."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answering, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    finally:
        for task in (answering, leaving):
            task.cancel()


def model_card(service: Service, model: OnnxModel, settings: ServeConfig) -> dict[str, Any]:
    """What a client may want to know about the model."""
    known = ("capstone", "title", "data", "data_builtin", "metrics", "labels")
    return {
        "capstone": model.metadata.get("capstone", ""),
        "title": model.metadata.get("title", ""),
        "data": {"name": model.data_name, "builtin": model.data_is_builtin},
        "metrics": model.metrics,
        "labels": model.labels,
        **{key: value for key, value in sorted(model.metadata.items()) if key not in known},
        "inputs": [str(tensor) for tensor in model.inputs],
        "outputs": [str(tensor) for tensor in model.outputs],
        "runtime": model.runtime,
        "limits": {
            "items": settings.max_items,
            "bytes": settings.max_bytes,
            "pixels": settings.max_pixels,
            "seconds": settings.timeout,
        },
    }


def create_app(
    service: Service, model: OnnxModel, settings: ServeConfig, build_page: PageBuilder | None = None
) -> FastAPI:
    """Makes the whole server as an ASGI application; `app.state.gate` stops it gracefully.

    Args:
        build_page: of the demo page; without one the server has the REST API alone, as with `--no-demo`.

    Raises:
        UserError: the model does not answer the service's own example.
    """
    metrics = Metrics()
    engine = Engine(service, model, settings, metrics)
    engine.self_test()
    gate = Gate(settings, Access(settings), metrics)
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
    _add_routes(app, engine, gate)
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.state.engine, app.state.gate = engine, gate
    if settings.demo and build_page is not None:
        from dlcommon.runtime.serving.demo import mount_demo

        mount_demo(app, engine, build_page)

    def gated(inner: ASGIApp) -> Gate:
        return gate.around(inner)

    app.add_middleware(gated)
    return app


def _add_routes(app: FastAPI, engine: Engine, gate: Gate) -> None:
    service, settings, metrics = engine.service, engine.settings, engine.metrics
    card = model_card(service, engine.model, settings)
    offered = service.models or {engine.model.path.stem: engine.model}
    cards = [{"name": name, **model_card(service, model, settings)} for name, model in offered.items()]

    async def answered(raw: list[Any]) -> Response:
        return answers_response(await engine.answers(raw))

    @app.post(
        PREDICT,
        summary="Predict one item or many",
        responses=openapi.prediction_responses(service),
        openapi_extra={"requestBody": openapi.request_body(service, settings)},
        tags=["prediction"],
    )
    async def predict(request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        raw = await read_items(content_type, request.stream(), engine)
        return await unless_gone(request, answered(raw))

    if service.streams:

        @app.post(
            STREAM,
            summary="One item's answer, piece by piece, as server-sent events",
            responses=openapi.stream_responses(service),
            openapi_extra={"requestBody": openapi.request_body(service, settings)},
            tags=["prediction"],
        )
        async def stream(request: Request) -> Response:
            content_type = request.headers.get("content-type", "")
            raw = await read_items(content_type, request.stream(), engine)
            if len(raw) != 1:
                raise bad_request("too_many_items", f"a stream answers one item, not {len(raw)}", 413)
            pieces = engine.stream(raw[0])
            first = await anext(pieces)  # what is wrong with the item is said by the status
            headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            return StreamingResponse(server_sent_events(first, pieces), media_type="text/event-stream", headers=headers)

    @app.get(MODEL, summary="The model's card", tags=["model"])
    async def show_model() -> dict[str, Any]:
        return card

    @app.get(MODELS, summary="The cards of all models that can be asked for by name", tags=["model"])
    async def show_models() -> dict[str, list[dict[str, Any]]]:
        return {"models": cards}

    @app.get(HEALTH, summary="The process lives", tags=["operations"])
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(READY, summary="Work is accepted", tags=["operations"])
    async def ready() -> Response:
        if gate.stopping:
            return JSONResponse({"status": "stopping"}, 503, {"Retry-After": "5"})
        if engine.batcher.admitted >= settings.queue:
            return JSONResponse({"status": "overloaded"}, 503, {"Retry-After": "1"})
        return JSONResponse({"status": "ready"})

    @app.get(METRICS, summary="Metrics for Prometheus", tags=["operations"])
    async def show_metrics() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return refusal(error)


async def _http_error(_: Request, error: Exception) -> Response:
    """Starlette's own refusals (404, 405) in the form of ours."""
    assert isinstance(error, StarletteHTTPException | HTTPException)
    codes = {
        404: ("not_found", "there is nothing here; see /docs"),
        405: ("method_not_allowed", "this path does not take that method; see /docs"),
    }
    code, message = codes.get(error.status_code, ("refused", str(error.detail)))
    return refusal(RequestError(error.status_code, code, message, dict(error.headers or {})))
