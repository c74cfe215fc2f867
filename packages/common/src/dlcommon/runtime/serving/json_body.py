"""Parses JSON from clients: strict, and bounded in values and depth before objects are built of it."""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from dlcommon.runtime.serving.errors import bad_request, invalid_item

MAX_DEPTH = 16
"""Lists and objects within each other, in one item."""
_STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+(?:"|\Z)', re.DOTALL)
"""A string, or the beginning of one that does not end: it matches at every quote, so the scan is linear."""


def _separators(body: bytes, start: int, end: int) -> int:
    """Counts the marks that each value but the first follows."""
    return body.count(b",", start, end) + body.count(b"[", start, end) + body.count(b"{", start, end)


def check_values(body: bytes, limit: int) -> None:
    """Counts values, those of lists and objects as well, without building any.

    Raises:
        RequestError: 413, there are more than the limit.
    """
    if _separators(body, 0, len(body)) <= limit:
        return
    # Commas within texts separate nothing, so the strings are taken out. Each is a value, or the name of one.
    found = end = strings = 0
    for string in _STRING.finditer(body):
        found += _separators(body, end, string.start())
        end = string.end()
        strings += 1
        if found > limit or strings > 2 * limit:
            break
    else:
        found += _separators(body, end, len(body))
    if found > limit or strings > 2 * limit:
        raise bad_request("too_many_values", f"the JSON holds more than {limit} values; send fewer items", 413)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise bad_request("invalid_json", "an object in the JSON names the same key twice")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise bad_request("invalid_json", f"{name} is not JSON; numbers must be finite")


def parse_json(body: bytes, max_values: int) -> Any:
    """Parses strict JSON: UTF-8, no duplicate keys, no NaN or Infinity, bounded in values, depth and digits.

    Raises:
        RequestError: 400 or 413 with the reason.
    """
    check_values(body, max_values)
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise bad_request("invalid_json", f"the body is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise bad_request("invalid_json", "the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise bad_request(
            "invalid_json", f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    except ValueError:
        raise bad_request("invalid_json", "the JSON holds a number of too many digits") from None


def check_item_size(item: Mapping[str, Any], max_values: int) -> None:
    """Checks an item's values and depth, on which the number of its possible errors depends.

    Raises:
        RequestError: 422.
    """
    level: list[Any] = [item]
    values = 0
    for _ in range(MAX_DEPTH + 1):
        # One level down: what the lists and objects of this one hold.
        level = [child for one in level if isinstance(one, dict | list) for child in _children(one)]
        values += len(level)
        if not level:
            return
        if values > max_values:
            raise invalid_item(f"the item holds more than {max_values} values")
    raise invalid_item(f"the item is nested more than {MAX_DEPTH} deep")


def _children(value: "dict[str, Any] | list[Any]") -> Any:
    return value.values() if isinstance(value, dict) else value
