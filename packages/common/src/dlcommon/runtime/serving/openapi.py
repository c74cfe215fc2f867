"""What the documentation page (OpenAPI) says about predictions."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.media import media_fields
from dlcommon.runtime.serving.service import AnyService
from dlcommon.runtime.serving.settings import ServeConfig

_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}
_FILE = {"type": "string", "format": "binary"}
_REFUSALS = {
    400: "The body cannot be read.",
    401: "The token is missing or wrong.",
    408: "The request came too slowly.",
    406: "The media type that is asked for holds the answer to one item only.",
    413: "The request is too large, holds too many items, or asks for too many tokens.",
    415: "The content type is not one of those accepted.",
    422: "No item can be used; the reason is given.",
    503: "Too much work is waiting, or the server is stopping; see Retry-After.",
    504: "No answer came in time.",
}


def description(model: OnnxModel) -> str:
    """Returns the page's introduction."""
    data = f"`{model.data_name}`" + (" (built-in sample data)" if model.data_is_builtin else "")
    return (
        f"Trained on {data}, served by ONNX Runtime. One bad item in a request fails alone: its entry in "
        '`answers` reads `{"error": {"code", "message"}}`.'
    )


def _inlined(model: type[BaseModel], mode: JsonSchemaMode) -> dict[str, Any]:
    """Returns a model's JSON schema without references out of it."""
    schema = model.model_json_schema(mode=mode)
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, dict):
            if isinstance(reference := node.get("$ref"), str):
                return resolved(definitions[reference.rpartition("/")[2]])
            return {key: resolved(value) for key, value in node.items()}
        return [resolved(value) for value in node] if isinstance(node, list) else node

    inlined: dict[str, Any] = resolved(schema)
    return inlined


def request_body(service: AnyService, settings: ServeConfig) -> dict[str, Any]:
    """Describes the three ways to send items."""
    items = {
        "type": "array",
        "items": _inlined(service.item, "validation"),
        "maxItems": settings.max_items,
        "minItems": 1,
    }
    example = dict(service.example)
    content: dict[str, Any] = {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"items": items},
                "required": ["items"],
                "additionalProperties": False,
            },
            "examples": {
                "one": {"summary": "One item", "value": {"items": [example]}},
                "many": {"summary": "Two items", "value": {"items": [example, example]}},
            },
        }
    }
    if service.upload is not None:
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "properties": {"files": {"type": "array", "items": _FILE}},
                "required": ["files"],
            }
        }
        content["image/*"] = {"schema": _FILE}
    return {"required": True, "content": content}


def prediction_responses(service: AnyService) -> dict[int | str, dict[str, Any]]:
    """Describes answers and refusals."""
    entry = {"anyOf": [_inlined(service.answer, "serialization"), _ERROR]}
    schema = {
        "type": "object",
        "properties": {"answers": {"type": "array", "items": entry}},
        "required": ["answers"],
    }
    refused = {"application/json": {"schema": _ERROR}}
    return {
        200: {
            "description": _answers_description(service),
            "content": {
                "application/json": {"schema": schema},
                **{kind: {"schema": _FILE} for kind in media_fields(service.answer)},
            },
        },
        **{status: {"description": reason, "content": refused} for status, reason in _REFUSALS.items()},
    }


def _answers_description(service: AnyService) -> str:
    text = "One entry an item, in order."
    if kinds := list(media_fields(service.answer)):
        text += f" To one item also {' or '.join(kinds)} alone, where the Accept header prefers it."
    return text


def stream_responses(service: AnyService) -> dict[int | str, dict[str, Any]]:
    """Describes pieces and refusals."""
    refused = {"application/json": {"schema": _ERROR}}
    piece = _inlined(service.answer, "serialization")
    description = "`data:` events, each with a piece of this form, then `event: end`; or `event: error`."
    return {
        200: {"description": description, "content": {"text/event-stream": {"schema": piece}}},
        **{status: {"description": reason, "content": refused} for status, reason in _REFUSALS.items()},
    }
