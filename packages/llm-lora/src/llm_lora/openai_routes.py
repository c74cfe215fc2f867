"""The routes of OpenAI's protocol that its clients use: /v1/chat/completions and /v1/models."""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime
from typing import Any

from dlcommon.runtime.serving import paths
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.event_stream import EventStream
from dlcommon.runtime.serving.item_answers import ItemAnswers
from dlcommon.runtime.serving.requests import parse_json
from dlcommon.runtime.serving.responses import refusal, unless_gone
from dlcommon.runtime.serving.routes import model_card
from dlcommon.runtime.serving.service import AnyService
from dlcommon.runtime.serving.validation import validate_item
from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from llm_lora.openai_messages import ChatRequest, Completion, OpenAIError, as_openai, invalid, read_request

Events = Callable[[BaseModel, AsyncGenerator[BaseModel, None]], AsyncGenerator[bytes, None]]
_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": ChatRequest.model_json_schema(ref_template="#/paths/~1v1~1chat~1completions/x-{model}"),
            "example": {"model": "…", "messages": [{"role": "user", "content": "Name a river in Europe."}]},
        }
    },
}


def add_openai_routes(app: FastAPI, service: AnyService, answers: ItemAnswers, names: Sequence[str]) -> None:
    """Adds the routes.

    Args:
        service: that of `llm_lora.service`.
        answers: what answers its items.
        names: the models that can be asked for.
    """
    model = answers.model
    created = int(datetime.fromisoformat(model.metadata.get("created", "1970-01-01T00:00:00+00:00")).timestamp())
    listed = [{"id": name, "object": "model", "created": created, "owned_by": "llm-lora"} for name in names]
    cards = [{"name": model.name, **model_card(model, answers.settings)}]

    @app.get(paths.MODELS, summary="The models that can be asked for by name", tags=["model"])
    async def show_models() -> dict[str, Any]:
        return {"object": "list", "data": listed, "models": cards}

    @app.get(paths.MODELS + "/{name:path}", summary="One model", tags=["model"])
    async def show_model(name: str) -> Response:
        for one in listed:
            if one["id"] == name:
                return JSONResponse(one)
        return refusal(_no_model(name, names))

    @app.post(paths.CHAT, summary="OpenAI's chat completions", openapi_extra={"requestBody": _BODY}, tags=["chat"])
    async def complete(request: Request) -> Response:
        try:
            asked = await _read(request, answers)
            if asked.model not in names:
                raise _no_model(asked.model, names)
            item = validate_item(service, asked.item())
            if asked.stream:
                return await _streamed(request, answers, asked, item)
            (reply,) = await unless_gone(request, answers.answers([item]))
            if isinstance(reply, RequestError):
                raise reply
            return JSONResponse(Completion(asked.model).whole(reply, asked.logprobs))
        except RequestError as error:
            return refusal(as_openai(error))


async def _read(request: Request, answers: ItemAnswers) -> ChatRequest:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise invalid("the content type must be application/json")
    body = await request.body()
    return read_request(await answers.in_pool(parse_json, body))


async def _streamed(request: Request, answers: ItemAnswers, asked: ChatRequest, item: BaseModel) -> Response:
    pieces = answers.stream(item)

    async def first_of() -> BaseModel:
        return await anext(pieces)

    # The first piece is waited for before the status is sent, so that the status can say what is wrong.
    first = await unless_gone(request, first_of())
    return EventStream(first, pieces, answers.settings.timeout, _chunk_events(asked))


def _chunk_events(asked: ChatRequest) -> Events:
    """Returns what writes pieces as OpenAI's server-sent events."""
    completion = Completion(asked.model)
    usage = asked.stream_options is not None and asked.stream_options.include_usage

    def written(piece: BaseModel, is_first: bool) -> bytes:
        chunks = completion.chunks(piece, is_first, asked.logprobs, usage)
        return b"".join(_event(chunk) for chunk in chunks)

    async def events(first: BaseModel, rest: AsyncGenerator[BaseModel, None]) -> AsyncGenerator[bytes, None]:
        yield written(first, True)
        try:
            async for piece in rest:
                yield written(piece, False)
        except RequestError as error:
            yield _event(as_openai(error).content())
            return
        yield b"data: [DONE]\n\n"

    return events


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def _no_model(name: str, names: Sequence[str]) -> OpenAIError:
    message = f"there is no model {name[:100]!r}; choose one of {', '.join(names)}"
    return OpenAIError(404, "model_not_found", message, "model", "invalid_request_error")
