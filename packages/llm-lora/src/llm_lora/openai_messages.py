"""OpenAI's chat completions as JSON: the requests that are understood, the answers, and the errors.

The reference is https://platform.openai.com/docs/api-reference/chat. What this server does not do is refused by name.
"""

import secrets
import time
from collections.abc import Sequence
from typing import Any, Literal

from dlcommon.runtime.serving.errors import RequestError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
}
"""Parameters that are not supported, and values of them that ask for nothing."""
FEATURES = {
    "tools", "tool_choice", "functions", "function_call", "parallel_tool_calls", "n", "response_format", "modalities",
    "audio", "prediction", "logit_bias", "presence_penalty", "frequency_penalty", "store", "metadata", "user",
    "service_tier", "reasoning_effort", "verbosity", "web_search_options", "prompt_cache_key", "safety_identifier",
}  # fmt: skip
"""Parameters of OpenAI's that are known and not supported."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class RequestMessage(_Strict):
    role: Literal["system", "user", "assistant"]
    content: str

    @field_validator("content", mode="before")
    @classmethod
    def _joined_parts(cls, content: Any) -> Any:
        """Takes a list of text parts as well, as OpenAI does."""
        if not isinstance(content, list):
            return content
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind != "text" or not isinstance(part.get("text"), str):
                raise ValueError(f"parts must be of type text, not {str(kind)[:40]}: this model reads nothing else")
        return "".join(part["text"] for part in content)


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(_Strict):
    """A request, without what is not supported; `top_k`, `min_p` and `repetition_penalty` are additions."""

    model: str = Field(max_length=200)
    messages: list[RequestMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float = 1.0
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: str | list[str] | None = None
    logprobs: bool = False
    top_logprobs: int | None = None

    def item(self) -> dict[str, Any]:
        """Returns the item of /v1/predict that asks for the same."""
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("`top_logprobs` needs `logprobs`: true", "top_logprobs")
        if self.stream_options is not None and not self.stream:
            raise invalid("`stream_options` needs `stream`: true", "stream_options")
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise invalid("`max_tokens` and `max_completion_tokens` mean the same; send one of them", "max_tokens")
        most = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return {
            "messages": [message.model_dump() for message in self.messages],
            "model": self.model,
            "max_tokens": most,
            "temperature": self.temperature,
            "top_p": self.top_p or None,  # OpenAI takes 0 as well; greedy then, as `temperature` 0
            **({"temperature": 0.0} if self.top_p == 0 else {}),
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "seed": self.seed,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop or [],
            "top_logprobs": (self.top_logprobs or 0) if self.logprobs else None,
        }


class OpenAIError(RequestError):
    """Refuses a request in OpenAI's form."""

    def __init__(self, status: int, code: str | None, message: str, param: str | None, kind: str) -> None:
        super().__init__(status, code or "", message)
        self.param, self.kind = param, kind

    def content(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code or None}
        return {"error": error}


def invalid(message: str, param: str | None = None, code: str | None = None) -> OpenAIError:
    return OpenAIError(400, code, message, param, "invalid_request_error")


def as_openai(error: RequestError) -> OpenAIError:
    """Turns an error of the server into OpenAI's form and its choice of status."""
    if isinstance(error, OpenAIError):
        return error
    status = {422: 404 if error.code == "model_not_found" else 400, 415: 400}.get(error.status, error.status)
    param = {"model_not_found": "model", "context_length_exceeded": "messages"}.get(error.code)
    kind = "invalid_request_error" if status < 500 else "server_error"
    made = OpenAIError(status, error.code, error.message, param, kind)
    made.headers = error.headers
    return made


def read_request(content: Any) -> ChatRequest:
    """Reads a parsed body.

    Raises:
        OpenAIError: it is no request, or asks for what is not supported; names the parameter.
    """
    if not isinstance(content, dict):
        raise invalid("the body must be a JSON object with `model` and `messages`")
    kept: dict[str, Any] = {}
    for name, value in content.items():
        if value is None or (name in NEUTRAL and any(value == one and type(value) is type(one)
                                                     for one in NEUTRAL[name])):  # fmt: skip
            continue
        if name in FEATURES:
            raise invalid(f"`{name}` is not supported here; leave it out", name, "unsupported_parameter")
        if name not in ChatRequest.model_fields:
            raise invalid(f"there is no parameter `{name[:40]}`; leave it out", name[:40], "unknown_parameter")
        kept[name] = value
    if isinstance(messages := kept.get("messages"), list):
        kept["messages"] = [_without_nulls(one, place) for place, one in enumerate(messages)]
    try:
        return ChatRequest.model_validate(kept)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part)[:40] for part in problem["loc"])
        raise invalid(f"{place}: {problem['msg'].removeprefix('Value error, ')}", place or None) from None


def _without_nulls(message: Any, place: int) -> Any:
    """Leaves out the fields that a client's own message objects hold without meaning anything."""
    if not isinstance(message, dict):
        return message
    fields = {name: value for name, value in message.items() if value is not None and value != []}
    for name in fields:
        if name not in RequestMessage.model_fields:
            raise invalid(f"messages.{place}.{name[:40]} is not supported here; leave it out", f"messages.{place}")
    return fields


class Completion:
    """Writes one completion: as a whole, or chunk by chunk."""

    def __init__(self, model: str) -> None:
        self._facts = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def whole(self, reply: Any, logprobs: bool) -> dict[str, Any]:
        """Returns the completion of a whole reply."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": reply.text, "refusal": None},
            "logprobs": _log_probs(reply.logprobs) if logprobs else None,
            "finish_reason": reply.finish_reason,
        }
        return {**self._facts, "object": "chat.completion", "choices": [choice], "usage": _usage(reply)}

    def chunks(self, piece: Any, is_first: bool, logprobs: bool, usage: bool) -> list[dict[str, Any]]:
        """Returns the chunks of a piece; the last piece's say why it ended and, where wanted, how much was used."""
        deltas: list[tuple[dict[str, Any], str | None]] = []
        if is_first:
            deltas.append(({"role": "assistant", "content": ""}, None))
        if piece.text or piece.logprobs:
            deltas.append(({"content": piece.text}, None))
        if piece.finish_reason:
            deltas.append(({}, piece.finish_reason))
        made = []
        for delta, reason in deltas:
            told = _log_probs(piece.logprobs) if logprobs and "content" in delta and "role" not in delta else None
            choice = {"index": 0, "delta": delta, "logprobs": told, "finish_reason": reason}
            made.append(self._chunk([choice], None, usage))
        if piece.finish_reason and usage:
            made.append(self._chunk([], _usage(piece), usage))
        return made

    def _chunk(self, choices: list[dict[str, Any]], used: dict[str, int] | None, usage: bool) -> dict[str, Any]:
        chunk = {**self._facts, "object": "chat.completion.chunk", "choices": choices}
        return {**chunk, "usage": used} if usage else chunk


def _usage(reply: Any) -> dict[str, int]:
    prompt, written = reply.prompt_tokens, reply.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _log_probs(chances: Sequence[Any]) -> dict[str, Any]:
    def told(one: Any) -> dict[str, Any]:
        whole = "\N{REPLACEMENT CHARACTER}" not in one.token  # else it is a part of a character
        return {"token": one.token, "logprob": one.logprob, "bytes": list(one.token.encode()) if whole else None}

    return {"content": [{**told(one), "top_logprobs": [told(other) for other in one.top]} for one in chances],
            "refusal": None}  # fmt: skip
