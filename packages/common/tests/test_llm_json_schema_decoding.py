"""Whatever the mask lets through is valid by jsonschema, and whatever is valid can be written."""

import json
import random
import re
from typing import Any

import jsonschema
import pytest
import torch
from dlcommon.llm.byte_automaton import Alternation, ByteAutomaton, ByteRange, Repetition, concatenate, literal
from dlcommon.llm.json_schema_decoding import TokenConstraint, constrain_logits, schema_expression

UNIT: dict[str, Any] = {"enum": ["km", "mi", 'a "quoted" one', "米"]}
SCHEMAS: list[dict[str, Any]] = [
    {"type": "boolean"},
    {"type": "null"},
    {"type": "integer"},
    {"type": "integer", "minimum": -3, "maximum": 21},
    {"type": "integer", "minimum": 0},
    {"type": "number"},
    {"type": "string", "minLength": 2, "maxLength": 4},
    {"enum": [1, "1", None, True, [1, 2]]},
    {"const": {"x": 1}},
    {"type": "array", "items": {"type": "boolean"}},
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 2, "maxItems": 3},
    {"type": "array", "items": {"type": "null"}, "maxItems": 0},
    {
        "type": "object",
        "description": "an annotation is ignored",
        "properties": {"a": {"type": "boolean"}, "value": {"type": "number"}, "unit": UNIT, "z": {"type": "null"}},
        "required": ["value"],
        "additionalProperties": False,
    },
    {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "additionalProperties": False},
    {
        "anyOf": [
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for name, arguments in (
                ("f", {"type": "object", "properties": {"q": {"type": "string", "maxLength": 5}}, "required": ["q"]}),
                ("fg", {"type": "object", "properties": {"u": UNIT, "n": {"type": "integer"}}, "required": ["u"]}),
            )
        ]
    },
]
# Tokens of several bytes, some of which cross the borders of the syntax or cut a character in two.
EXTRA = [
    b'{"',
    b'"}',
    b'": ',
    b'", "',
    b"true",
    b"ull",
    b"123",
    b'{"name": "f',
    b'g", "ar',
    b"guments",
    b"\xe7\xb1",
    b'\xb3"',
    b"}}",
]
VOCABULARY = [*(bytes([byte]) for byte in range(256)), *EXTRA, b"", b""]
END, SPECIAL = len(VOCABULARY) - 2, len(VOCABULARY) - 1


def write(constraint: TokenConstraint, generator: torch.Generator, most: int = 2000) -> bytes:
    """Samples a text from random logits, as a model that knows nothing does."""
    state, text = constraint.start, b""
    for _ in range(most):
        logits = 2 * torch.randn(len(VOCABULARY), generator=generator)
        logits[END] += 3
        token = int(torch.multinomial(constrain_logits(logits, constraint, state).softmax(0), 1, generator=generator))
        if token == END:
            return text
        assert token != SPECIAL
        text += VOCABULARY[token]
        state = constraint.step(state, token)
    raise AssertionError(f"no end after {most} tokens: {text[:100]!r}")


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_whatever_random_logits_write_is_valid(schema: dict[str, Any]) -> None:
    constraint = TokenConstraint(schema, VOCABULARY, END)
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        text = write(constraint, generator).decode()
        jsonschema.validate(json.loads(text), schema)


def value_of(schema: dict[str, Any], source: random.Random) -> Any:
    """Makes a value that is valid."""
    if "enum" in schema or "const" in schema:
        return source.choice(schema["enum"]) if "enum" in schema else schema["const"]
    if "anyOf" in schema:
        return value_of(source.choice(schema["anyOf"]), source)
    match schema["type"]:
        case "object":
            required = schema.get("required", ())
            members = schema["properties"].items()
            return {k: value_of(v, source) for k, v in members if k in required or source.random() < 0.5}
        case "array":
            count = source.randint(schema.get("minItems", 0), schema.get("maxItems", 4))
            return [value_of(schema["items"], source) for _ in range(count)]
        case "string":
            count = source.randint(schema.get("minLength", 0), schema.get("maxLength", 6))
            return "".join(source.choice('aé米😀\n\t"\\/\x00\x1f\x7f\u2028') for _ in range(count))
        case "integer":
            return source.randint(schema.get("minimum", -(10**17)), schema.get("maximum", 10**17))
        case "number":
            return source.choice((0, -7, 1.5, -0.001, 1e-07, 2.5e20, source.uniform(-1e6, 1e6)))
        case "boolean":
            return source.random() < 0.5
        case _:
            return None


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_every_valid_value_can_be_written_as_json_writes_it(schema: dict[str, Any]) -> None:
    automaton, source = ByteAutomaton(schema_expression(schema)), random.Random(0)
    for _ in range(40):
        text = json.dumps(value_of(schema, source), ensure_ascii=False)
        assert automaton.matches(text.encode()), text


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_damaged_texts_are_refused_unless_they_are_still_valid(schema: dict[str, Any]) -> None:
    automaton, source = ByteAutomaton(schema_expression(schema)), random.Random(1)
    for _ in range(150):
        text = list(json.dumps(value_of(schema, source), ensure_ascii=False).encode())
        at = source.randrange(len(text))
        damage = source.choice(("drop", "double", "replace"))
        text[at : at + 1] = {"drop": [], "double": [text[at]] * 2, "replace": [source.randrange(256)]}[damage]
        if automaton.matches(bytes(text)):
            jsonschema.validate(json.loads(bytes(text)), schema)  # bytes that are no UTF-8 would raise here


def test_masks_are_those_of_trying_every_token() -> None:
    constraint = TokenConstraint(SCHEMAS[-1], VOCABULARY, END)
    for text in (
        b"",
        b'{"name": "f',
        b'{"name": "fg", "arguments": {"u": "',
        b'{"name": "f", "arguments": {"q": "\xe7\xb1',
    ):
        state = constraint.automaton.read(text)
        expected = [bool(data) and bool(constraint.automaton.read(data, state)) for data in VOCABULARY]
        assert constraint.mask(state).tolist() == expected
        assert constraint.mask(state) is constraint.mask(state)
    complete = constraint.automaton.read(b'{"name": "f", "arguments": {"q": ""}}')
    assert constraint.mask(complete).nonzero().flatten().tolist() == [END]


def test_constrained_logits_keep_the_ratios_of_what_is_allowed() -> None:
    constraint = TokenConstraint({"type": "boolean"}, [b"t", b"f", b"x", b""], 3)
    logits = torch.tensor([2.0, 1.0, 9.0, 9.0])
    torch.testing.assert_close(
        constrain_logits(logits, constraint, constraint.start).softmax(0)[:2], logits[:2].softmax(0)
    )
    assert logits[2] == 9


def test_a_vocabulary_without_the_needed_bytes_is_named() -> None:
    constraint = TokenConstraint({"type": "boolean"}, [b"x", b""], 1)
    with pytest.raises(ValueError, match="no token of the vocabulary begins with one of the bytes b'ft'"):
        constraint.mask(constraint.start)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "string", "pattern": "a*"}, "pattern: not supported"),
        ({"$ref": "#"}, "type None is not supported"),
        ({"type": "object", "additionalProperties": True}, "additionalProperties must be false"),
        ({"type": "object", "properties": {}, "required": ["a"]}, "a: required, but not among the properties"),
        ({"type": "array"}, "an array needs items"),
        ({"type": "integer", "minimum": 5}, "integers from 5 to None are not supported"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "integers from 5 to 4"),
        ({"enum": []}, "an enum without values"),
        ({"anyOf": []}, "at least one choice"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "cannot repeat from 3 to 2 times"),
    ],
)
def test_what_is_not_supported_is_said(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        schema_expression(schema)


def test_expressions_match_what_regular_expressions_do() -> None:
    digits = ByteRange(ord("0"), ord("9"))
    expression = concatenate(
        Repetition(Alternation((literal("ab"), literal("a"))), 0, None),
        Repetition(digits, 1, 2),
        Repetition(literal("b"), 2),
    )
    automaton, pattern, source = ByteAutomaton(expression), re.compile(r"(ab|a)*[0-9]{1,2}b{2,}"), random.Random(0)
    found = 0
    for _ in range(3000):
        text = "".join(source.choice("ab1") for _ in range(source.randrange(8)))
        matches = pattern.fullmatch(text) is not None
        assert automaton.matches(text.encode()) == matches, text
        found += matches
    assert found > 30
