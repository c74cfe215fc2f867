"""Errors that a client is told about: a request, or one item of it, cannot be answered."""

import json
import logging
import secrets
from typing import Any

from dlcommon.runtime.errors import InvalidInputError

logger = logging.getLogger("dlcommon.serving")

CLIENT_CLOSED_REQUEST = 499
"""Status that the metrics count where the client has hung up; nobody reads it."""


class RequestError(Exception):
    """Refuses a request or an item, with the HTTP status, a stable code and a reason."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}

    def content(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message}}

    def body(self) -> bytes:
        return json.dumps(self.content(), ensure_ascii=False).encode("utf-8", "replace")


def bad_request(code: str, message: str, status: int = 400) -> RequestError:
    return RequestError(status, code, message)


def invalid_item(message: str) -> RequestError:
    return RequestError(422, "invalid_input", message)


def overloaded(message: str = "too much work is waiting; try again in a second") -> RequestError:
    return RequestError(503, "overloaded", message, {"Retry-After": "1"})


def too_many_tokens(asked: int, limit: int) -> RequestError:
    message = f"the items ask for {asked} tokens together; at most {limit} are accepted in one request"
    return RequestError(413, "too_many_tokens", message)


def stopping() -> RequestError:
    return RequestError(503, "stopping", "the server is stopping", {"Retry-After": "5"})


def timed_out(seconds: float) -> RequestError:
    return RequestError(504, "timeout", f"no answer within {seconds:g} s; try again with fewer items")


def internal(error: BaseException, code: str = "internal") -> RequestError:
    """Logs the error once, with its traceback, under an id; the client is told the id alone."""
    identity = secrets.token_hex(4)
    logger.error("error %s: %s", identity, error, exc_info=error)
    return RequestError(500, code, f"the server failed on this; its log says more under {identity}")


def explain(error: Exception) -> RequestError:
    """Turns any exception into what the client is told about it."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, InvalidInputError):
        return invalid_item(str(error))
    return internal(error)
