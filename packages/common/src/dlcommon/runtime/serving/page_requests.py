"""Checks what is sent to Gradio's routes, which fail on what their own page never sends."""

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dlcommon.runtime.serving import paths
from dlcommon.runtime.serving.errors import RequestError, bad_request
from dlcommon.runtime.serving.json_body import check_values, parse_json
from dlcommon.runtime.serving.proxied import route_path
from dlcommon.runtime.serving.validation import shortened, validation_message

if TYPE_CHECKING:
    import gradio as gr

logger = logging.getLogger("dlcommon.serving")

_WITH_FILES = ("/gradio_api/upload", "/gradio_api/component_server", "/gradio_api/component_server/")
"""Routes whose bodies may be multipart; all others take JSON."""


class _Joining(BaseModel):
    """Describes an event of the page, as far as Gradio relies on it unseen."""

    model_config = ConfigDict(extra="ignore")

    fn_index: StrictInt
    data: list[Any]
    session_hash: str = Field(min_length=1, max_length=100)
    trigger_id: StrictInt | None = None


class PageRequests:
    """Passes on to Gradio what it can use, and answers 4xx what it fails on (ASGI middleware).

    Args:
        gradio: the page's application.
        page: its blocks.
        max_values: of the JSON of one request.
    """

    def __init__(self, gradio: ASGIApp, page: "gr.Blocks", max_values: int) -> None:
        self._gradio = gradio
        self._page = page
        self._max_values = max_values

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope)
        if path == paths.PAGE_RESULTS:
            self._check_session(scope["query_string"])
        elif scope["method"] == "POST" and path not in _WITH_FILES:
            receive = await self._checked_json(path, Request(scope, receive))
        await self._refusing_failures(scope, receive, send)

    def _check_session(self, query: bytes) -> None:
        """Checks that there is something to wait for: Gradio notices only after its answer has begun."""
        session = parse_qs(query.decode("latin-1")).get("session_hash", [""])[0]
        if session not in self._page._queue.pending_messages_per_session:
            raise bad_request("not_found", "there is no such session; load the page again", 404)

    async def _checked_json(self, path: str, request: Request) -> Receive:
        """Reads and checks the body, and returns a `receive` that tells it again."""
        body = await request.body()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and kind != "application/json":
            raise bad_request("unsupported_media_type", "the content type must be application/json", 415)
        if path == paths.PAGE_JOIN:
            self._check_event(parse_json(body, self._max_values))
        else:
            check_values(body, self._max_values)
        told = False

        async def receive_again() -> Message:
            nonlocal told
            if told:
                return await request.receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        return receive_again

    def _check_event(self, content: Any) -> None:
        try:
            event = _Joining.model_validate(content)
        except ValidationError as error:
            raise bad_request("invalid_request", validation_message(error), 422) from None
        if (function := self._page.fns.get(event.fn_index)) is None:
            raise bad_request("not_found", f"the page has no function {event.fn_index}", 404)
        if len(event.data) < len(function.inputs):
            reason = f"function {event.fn_index} takes {len(function.inputs)} values, not {len(event.data)}"
            raise bad_request("invalid_request", reason, 422)

    async def _refusing_failures(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Turns what Gradio's routes raise into 400: the page's own functions run elsewhere, in its queue."""
        started = failed = False

        async def send_unless_failed(message: Message) -> None:
            nonlocal started, failed
            failed = failed or (message["type"] == "http.response.start" and message["status"] == 500)
            if not failed:
                started = True
                await send(message)

        try:
            await self._gradio(scope, receive, send_unless_failed)
        except (RequestError, ClientDisconnect, OSError):
            raise
        except Exception as error:
            place = f"{scope['method']} {route_path(scope)}"
            logger.warning("%s: gradio failed on what was sent (%s)", shortened(place, 200), described(error))
            if not started:
                raise bad_request("invalid_request", "the page's server cannot use this request") from None
        if failed:
            raise bad_request("invalid_request", "the page's server cannot use this request")


def described(error: BaseException) -> str:
    """Returns an exception on one line, with the place where it was raised."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    place = f", {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return shortened(f"{type(error).__name__}: {' '.join(str(error).split())}", 300) + place


def log_failed_events_on_one_line() -> None:
    """Makes Gradio's queue log an event of a page that fails on what a client sent on one line.

    What a handler of ours raises is logged with its traceback.
    """
    from gradio import queueing

    class Traceback:
        @staticmethod
        def print_exc() -> None:
            error = sys.exc_info()[1]
            assert error is not None
            if any(frame.name == "call_function" for frame in traceback.extract_tb(error.__traceback__)):
                logger.error("an event of the page failed", exc_info=error)
            else:
                logger.warning("an event of the page failed on what was sent (%s)", described(error))

    if not hasattr(queueing, "traceback"):
        raise RuntimeError("this version of gradio logs failed events in another way; name it here")
    queueing.traceback = Traceback
