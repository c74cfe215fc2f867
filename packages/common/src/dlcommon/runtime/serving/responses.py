"""HTTP responses of the prediction routes."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.media import JSON, media_fields, preferred_type

Result = TypeVar("Result")


def refusal(error: RequestError) -> Response:
    """Returns an error as JSON, whatever the client accepts."""
    return Response(error.body(), error.status, error.headers, JSON)


def media_type_for(accept: str | None, answer: type[BaseModel], items: int) -> str:
    """Chooses between JSON and the media types of the answer's fields.

    Raises:
        RequestError: 406, what the client asks for can hold one answer only.
    """
    offered = [JSON, *media_fields(answer)]
    chosen = preferred_type(accept or JSON, offered)
    if chosen != JSON and items > 1:
        reason = f"{chosen} holds the answer to one item, not to {items}; accept {JSON} as well, or send one item"
        raise RequestError(406, "not_acceptable", reason)
    return chosen


def answers_response(results: Sequence[BaseModel | RequestError], media_type: str = JSON) -> Response:
    """Returns 200 with one entry an item, an answer or an error; an error status where no item has an answer.

    Args:
        media_type: of `media_fields`, to send the only answer's bytes as they are.
    """
    if media_type != JSON and isinstance(answer := results[0], BaseModel):
        return Response(getattr(answer, media_fields(type(answer))[media_type]), media_type=media_type)
    errors = [result for result in results if isinstance(result, RequestError)]
    entries = [
        result.body() if isinstance(result, RequestError) else result.model_dump_json().encode() for result in results
    ]
    answers = b'"answers":[' + b",".join(entries) + b"]}"
    if len(errors) < len(results):
        return Response(b"{" + answers, media_type=JSON)
    worst = max(errors, key=lambda error: error.status)
    if len(results) == 1:
        return refusal(worst)
    return Response(worst.body()[:-1] + b"," + answers, worst.status, media_type=JSON)


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Returns the work's result; where the client hangs up, cancels the work.

    Raises:
        ClientDisconnect: the client has hung up.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answering, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        raise ClientDisconnect
    finally:
        for task in (answering, leaving):
            task.cancel()
        # Waited for, so that what the request held is free again when the request has ended.
        await asyncio.gather(answering, leaving, return_exceptions=True)
