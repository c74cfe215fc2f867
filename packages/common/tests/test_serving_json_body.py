"""JSON from clients: what is bounded before objects are built, and what is not mistaken for structure."""

import json
from typing import Any

import pytest
from dlcommon.runtime.serving import json_body
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.json_body import MAX_DEPTH, check_item_size, check_values, parse_json
from dlcommon.runtime.serving.validation import validate_item
from dlcommon.testing.bad_bodies import unknown_fields
from dlcommon.testing.toy_serving import ToyService


@pytest.mark.parametrize(
    "body",
    [
        unknown_fields(600_000),
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"[" + b'"",' * 200_000 + b'""]',
        b"[" + b"{}," * 200_000 + b"{}]",
        b'"' * 400_001 + b"," * 100_001,  # no JSON, but strings all the same
        b'"a,' + b'\\"' * 10_000 + b"," * 100_001 + b'"' + b",1" * 100_001,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_too_many_values_are_refused_before_any_is_built(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlcommon.runtime.serving.json_body.json.loads", None)
    with pytest.raises(RequestError, match="more than 100000 values") as refused:
        parse_json(body, 100_000)
    assert (refused.value.status, refused.value.code) == (413, "too_many_values")


@pytest.mark.parametrize("content", [[1, 2, 3], {"a": 1, "b": [2]}, [[[]]], ["a", {"b": "c"}]])
def test_values_are_counted_to_the_last_one(content: Any) -> None:
    texts = [content, [content, ',[{"\\ ' * 50]]
    for whole in texts:
        body = json.dumps(whole).encode()
        exact = json_body._separators(json.dumps(content).encode(), 0, len(body)) + (2 if whole is not content else 0)
        assert parse_json(body, exact) == whole
        with pytest.raises(RequestError):
            check_values(body, exact - 1)


@pytest.mark.parametrize("text", [",[{" * 50_000, '\\",' * 50_000, "," * 200_000 + "\\"])
def test_the_punctuation_of_a_text_is_no_structure(text: str) -> None:
    body = json.dumps({"items": [{"prompt": text}]}).encode()
    assert parse_json(body, 100) == {"items": [{"prompt": text}]}


@pytest.mark.parametrize("body", [b'"' + b'\\"' * 10**6 + b"," * 200, b'"' + b"\\" * 10**6 + b"," * 200])
def test_a_string_without_an_end_is_scanned_once(body: bytes) -> None:
    """A scan that began anew at every quote would take hours here."""
    with pytest.raises(RequestError, match="not JSON"):
        parse_json(body, 100)


def test_an_item_of_too_many_values_or_levels_is_not_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    service = ToyService(None)  # type: ignore[arg-type]
    monkeypatch.setattr(service, "item", None)
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    for item, reason in [
        ({str(number): 1 for number in range(2_001)}, "more than 2000 values"),
        ({"pixels": ["x"] * 2_000}, "more than 2000 values"),
        ({"pixels": [[]] * 2_000}, "more than 2000 values"),
        ({"pixels": deep}, "nested more than 16 deep"),
    ]:
        with pytest.raises(RequestError, match=reason) as refused:
            validate_item(service, item)
        assert refused.value.status == 422


def test_an_item_within_the_bounds_is_not_refused() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    check_item_size({"pixels": [[0.0] * 28] * 28, "deep": deep}, 2_000)
