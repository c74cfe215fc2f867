"""Answers as files: the cells of a CSV row, and pictures."""

import json
import mimetypes
from collections.abc import Collection
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from dlcommon.runtime.serving.media import media_fields


def answer_cells(answer: BaseModel, labels: Collection[str]) -> dict[str, Any]:
    """Returns an answer's fields as cells: a column for each label, other lists and dicts as JSON.

    Pictures and grids (lists of lists) are left out.
    """
    grids = {name for name, field in type(answer).model_fields.items() if _is_grid(field.annotation)}
    left_out = {*media_fields(type(answer)).values(), *grids}
    cells: dict[str, Any] = {}
    for name, value in answer.model_dump(mode="json", exclude=left_out).items():
        if isinstance(value, dict) and value.keys() == set(labels):
            cells |= {f"{name}.{label}": number for label, number in value.items()}
        elif isinstance(value, dict | list | bool):
            cells[name] = json.dumps(value, ensure_ascii=False)
        else:
            cells[name] = value
    return cells


def _is_grid(annotation: Any) -> bool:
    """Tells whether a type is a list of lists, or may be one."""
    parts = get_args(annotation)
    if get_origin(annotation) is list:
        return get_origin(parts[0]) is list
    return get_origin(annotation) is UnionType and any(_is_grid(part) for part in parts)


def answer_files(answer: BaseModel) -> dict[str, bytes]:
    """Returns the contents of an answer's media fields by the ending of the file that holds one (`.png`)."""
    found = {media: getattr(answer, field) for media, field in media_fields(type(answer)).items()}
    return {mimetypes.guess_extension(media) or ".bin": content for media, content in found.items()}
