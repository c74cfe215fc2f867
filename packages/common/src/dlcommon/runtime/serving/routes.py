"""The routes of the REST API."""

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving import openapi, paths
from dlcommon.runtime.serving.engine import Engine
from dlcommon.runtime.serving.errors import bad_request
from dlcommon.runtime.serving.event_stream import EventStream
from dlcommon.runtime.serving.guard import RequestGuard
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.requests import read_items
from dlcommon.runtime.serving.responses import answers_response, media_type_for, unless_gone
from dlcommon.runtime.serving.settings import ServeConfig


def model_card(model: OnnxModel, settings: ServeConfig) -> dict[str, Any]:
    """Returns what a client may want to know about the model."""
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
            "tokens": settings.max_tokens,
            "seconds": settings.timeout,
        },
    }


def add_prediction_routes(app: FastAPI, engine: Engine) -> None:
    """Adds /v1/predict, and /v1/stream where the service generates."""
    service, settings = engine.service, engine.settings

    async def items_of(request: Request) -> list[Any]:
        return await read_items(request.headers.get("content-type", ""), request.stream(), engine)

    @app.post(
        paths.PREDICT,
        summary="Predict one item or many",
        responses=openapi.prediction_responses(service),
        openapi_extra={"requestBody": openapi.request_body(service, settings)},
        tags=["prediction"],
    )
    async def predict(request: Request) -> Response:
        raw = await items_of(request)
        media_type = media_type_for(request.headers.get("accept"), service.answer, len(raw))
        return answers_response(await unless_gone(request, engine.answers(raw)), media_type)

    if not engine.streams:
        return

    async def first_of(pieces: AsyncGenerator[BaseModel, None]) -> BaseModel:
        try:
            return await anext(pieces)
        except StopAsyncIteration:
            raise RuntimeError("the service generated no piece") from None

    @app.post(
        paths.STREAM,
        summary="One item's answer, piece by piece, as server-sent events",
        responses=openapi.stream_responses(service),
        openapi_extra={"requestBody": openapi.request_body(service, settings)},
        tags=["prediction"],
    )
    async def stream(request: Request) -> Response:
        raw = await items_of(request)
        if len(raw) != 1:
            raise bad_request("too_many_items", f"a stream answers one item, not {len(raw)}", 413)
        pieces = engine.stream(raw[0])
        # The first piece is waited for before the status is sent, so that the status can say what is wrong.
        first = await unless_gone(request, first_of(pieces))
        return EventStream(first, pieces, settings.timeout)


def add_model_routes(app: FastAPI, engine: Engine) -> None:
    """Adds /v1/model and /v1/models."""
    card = model_card(engine.model, engine.settings)
    offered = engine.service.models or {engine.model.name: engine.model}
    cards = [{"name": name, **model_card(model, engine.settings)} for name, model in offered.items()]

    @app.get(paths.MODEL, summary="The model's card", tags=["model"])
    async def show_model() -> dict[str, Any]:
        return card

    @app.get(paths.MODELS, summary="The cards of all models that can be asked for by name", tags=["model"])
    async def show_models() -> dict[str, list[dict[str, Any]]]:
        return {"models": cards}


def add_operation_routes(app: FastAPI, engine: Engine, guard: RequestGuard, metrics: Metrics) -> None:
    """Adds /healthz, /readyz and /metrics."""

    @app.get(paths.HEALTH, summary="The process lives", tags=["operations"])
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(paths.READY, summary="Work is accepted, and the model gets on with it", tags=["operations"])
    async def ready() -> Response:
        status = "stopping" if guard.stopping else engine.status()
        if status == "ready":
            return JSONResponse({"status": status})
        return JSONResponse({"status": status}, 503, {"Retry-After": "1" if status == "overloaded" else "5"})

    @app.get(paths.METRICS, summary="Metrics for Prometheus", tags=["operations"])
    async def show_metrics() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
