"""The fields of a service's items, for inputs that are files, lines or rows rather than JSON."""

import json
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def fields_by_name(item: type[BaseModel]) -> dict[str, FieldInfo]:
    """Returns an item's fields by the names that requests use."""
    return {field.alias or name: field for name, field in item.model_fields.items()}


def first_text_field(model: type[BaseModel]) -> str | None:
    """Returns the name of the first field that always holds a text; None where none does."""
    return next((name for name, field in fields_by_name(model).items() if field.annotation is str), None)


def value_from_text(field: FieldInfo, text: str) -> Any:
    """Turns text into a field's value: JSON where it is some, unless the field holds a text."""
    if field.annotation is str:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
