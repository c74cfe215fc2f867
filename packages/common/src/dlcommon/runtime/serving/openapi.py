"""What the documentation page says about predictions."""

from typing import Any

from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.service import Service
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
_REFUSALS = {
    400: "The body cannot be read.",
    401: "The token is missing or wrong.",
    408: "The request came too slowly.",
    413: "The request is too large, or holds too many items.",
    415: "The content type is not one of those accepted.",
    422: "No item can be used; the reason is given.",
    503: "Too much work is waiting, or the server is stopping; see Retry-After.",
    504: "No answer came in time.",
}


def description(model: OnnxModel) -> str:
    """The page's introduction."""
    data = f"`{model.data_name}`" + (" (built-in sample data)" if model.data_is_builtin else "")
    return (
        f"Trained on {data}, served by ONNX Runtime. One bad item in a request fails alone: its entry in "
        '`answers` reads `{"error": {"code", "message"}}`.'
    )


def _inlined(model: type, mode: str) -> dict[str, Any]:
    """A model's JSON schema without references out of it."""
    schema = model.model_json_schema(mode=mode)  # type: ignore[attr-defined]
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, dict):
            if isinstance(reference := node.get("$ref"), str):
                return resolved(definitions[reference.rpartition("/")[2]])
            return {key: resolved(value) for key, value in node.items()}
        return [resolved(value) for value in node] if isinstance(node, list) else node

    return resolved(schema)


def request_body(service: Service, settings: ServeConfig) -> dict[str, Any]:
    """The three ways to send items."""
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
        file = {"type": "string", "format": "binary"}
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "properties": {"files": {"type": "array", "items": file}},
                "required": ["files"],
            }
        }
        content["image/*"] = {"schema": file}
    return {"required": True, "content": content}


def prediction_responses(service: Service) -> dict[int | str, dict[str, Any]]:
    """Answers and refusals."""
    entry = {"anyOf": [_inlined(service.answer, "serialization"), _ERROR]}
    schema = {
        "type": "object",
        "properties": {"answers": {"type": "array", "items": entry}},
        "required": ["answers"],
    }
    refused = {"application/json": {"schema": _ERROR}}
    return {
        200: {
            "description": "One entry an item, in order.",
            "content": {"application/json": {"schema": schema}},
        },
        **{status: {"description": reason, "content": refused} for status, reason in _REFUSALS.items()},
    }


def stream_responses(service: Service) -> dict[int | str, dict[str, Any]]:
    """Pieces and refusals."""
    refused = {"application/json": {"schema": _ERROR}}
    piece = _inlined(service.answer, "serialization")
    description = "`data:` events, each with a piece of this form, then `event: end`; or `event: error`."
    return {
        200: {"description": description, "content": {"text/event-stream": {"schema": piece}}},
        **{status: {"description": reason, "content": refused} for status, reason in _REFUSALS.items()},
    }
