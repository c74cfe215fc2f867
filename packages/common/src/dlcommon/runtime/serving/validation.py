"""Validates raw items."""

from typing import Any

from pydantic import BaseModel, ValidationError

from dlcommon.runtime.serving.errors import invalid_item
from dlcommon.runtime.serving.json_body import check_item_size
from dlcommon.runtime.serving.service import AnyService

MAX_REASONS = 3
"""Problems that one message lists."""


def shortened(text: str, length: int) -> str:
    """Cuts the text to this many characters, the last of them an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def validation_message(error: ValidationError) -> str:
    """Says what is wrong with an item, field by field, without repeating what was sent."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    reasons = []
    for problem in problems[:MAX_REASONS]:
        place = ".".join(shortened(str(part), 40) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        reasons.append(f"{place}: {message}" if place else message)
    if len(problems) > MAX_REASONS:
        reasons.append(f"and {len(problems) - MAX_REASONS} more")
    return shortened("; ".join(reasons), 500)


def validate_item(service: AnyService, raw: Any) -> BaseModel:
    """Returns the item that a dict, the bytes of an upload or an item object stands for.

    Raises:
        RequestError: 422 with the reason.
    """
    if isinstance(raw, BaseModel):
        return raw
    content = {service.upload: raw} if isinstance(raw, bytes) else raw
    if isinstance(content, dict):
        check_item_size(content, service.max_values)
    try:
        item: BaseModel = service.item.model_validate(content)
    except ValidationError as error:
        raise invalid_item(validation_message(error)) from None
    return item
