"""Answers that hold bytes, such as pictures: base64 in JSON, and as they are where the client asks for them."""

import base64
import io
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class MediaType:
    """Annotates a bytes field of an answer: `audio: Annotated[bytes, MediaType("audio/wav")]`."""

    name: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        to_base64 = core_schema.plain_serializer_function_ser_schema(
            lambda content: base64.b64encode(content).decode("ascii"),
            return_schema=core_schema.str_schema(),
            when_used="json",
        )
        schema["serialization"] = to_base64  # type: ignore[index]
        return schema

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "contentEncoding": "base64", "contentMediaType": self.name}


PngBytes = Annotated[bytes, MediaType("image/png")]
"""Field of an answer: a PNG file."""


def encode_png(pixels: np.ndarray) -> bytes:
    """Returns a PNG file of uint8 pixels, [height, width] gray or [height, width, 3] RGB."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def media_fields(answer: type[BaseModel]) -> dict[str, str]:
    """Returns the media types that an answer can be sent as, each with the first field that always holds one."""
    fields: dict[str, str] = {}
    for name, field in answer.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, MediaType):
                fields.setdefault(mark.name, name)
    return fields


JSON = "application/json"


def preferred_type(accept: str, offered: list[str]) -> str:
    """Returns which media type an Accept header prefers (RFC 9110, section 12.5.1); the first offered one by default.

    Of types that are equally welcome the one offered first is taken, so that `*/*` means the default.
    """
    best, best_quality = offered[0], 0.0
    for kind in offered:
        quality = _quality(accept, kind)
        if quality > best_quality:
            best, best_quality = kind, quality
    return best


def _quality(accept: str, kind: str) -> float:
    """Returns the quality that the most specific range matching this type has, 0 where none does."""
    ranges = {kind: 3, kind.partition("/")[0] + "/*": 2, "*/*": 1}
    quality, found = 0.0, 0
    for part in accept.lower().split(","):
        name, *parameters = [piece.strip() for piece in part.split(";")]
        if ranges.get(name, 0) > found:
            found, quality = ranges[name], _weight(parameters)
    return quality


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                return 0.0
    return 1.0
