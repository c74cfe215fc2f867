"""Constrained decoding: tokens after which no valid JSON could follow get the probability 0.

A JSON Schema without recursion describes a regular language. It is compiled into an automaton over bytes, and for each
of its states the tokens of the vocabulary that lead on are found once and kept (Willard & Louf 2023,
https://arxiv.org/abs/2307.09702).

Spaces are those of `json.dumps(value, ensure_ascii=False)`, and properties come in the order of the schema. Whatever is
written is valid, and each valid value can be written as `json.dumps` writes it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dlcommon.llm.byte_automaton import (
    EMPTY,
    ByteAutomaton,
    ByteRange,
    Expression,
    Repetition,
    State,
    alternate,
    concatenate,
    literal,
)

Schema = Mapping[str, Any]

_ANNOTATIONS = {"title", "description", "default", "examples"}
_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "integer": {"minimum", "maximum"},
    "number": set(),
    "boolean": set(),
    "null": set(),
}
_MOST_INTEGERS = 1000

_DIGIT = ByteRange(ord("0"), ord("9"))
_NATURAL = alternate([literal("0"), concatenate(ByteRange(ord("1"), ord("9")), Repetition(_DIGIT, 0, 17))])
_SIGN = Repetition(literal("-"), 0, 1)
_CONTINUATION = ByteRange(0x80, 0xBF)
_CHARACTER = alternate(
    [
        ByteRange(0x20, 0x21),  # all of ASCII but the control characters, the quotation mark and the backslash
        ByteRange(0x23, 0x5B),
        ByteRange(0x5D, 0x7F),
        *(literal(f"\\{letter}") for letter in '"\\bfnrt'),
        concatenate(
            literal("\\u00"), ByteRange(ord("0"), ord("1")), alternate([_DIGIT, ByteRange(ord("a"), ord("f"))])
        ),
        # UTF-8 without the halves of surrogate pairs and without longer spellings than needed (RFC 3629, section 4)
        concatenate(ByteRange(0xC2, 0xDF), _CONTINUATION),
        concatenate(ByteRange(0xE0, 0xE0), ByteRange(0xA0, 0xBF), _CONTINUATION),
        concatenate(alternate([ByteRange(0xE1, 0xEC), ByteRange(0xEE, 0xEF)]), _CONTINUATION, _CONTINUATION),
        concatenate(ByteRange(0xED, 0xED), ByteRange(0x80, 0x9F), _CONTINUATION),
        concatenate(ByteRange(0xF0, 0xF0), ByteRange(0x90, 0xBF), _CONTINUATION, _CONTINUATION),
        concatenate(ByteRange(0xF1, 0xF3), _CONTINUATION, _CONTINUATION, _CONTINUATION),
        concatenate(ByteRange(0xF4, 0xF4), ByteRange(0x80, 0x8F), _CONTINUATION, _CONTINUATION),
    ]
)
_EXPONENT = concatenate(
    literal("e"), alternate([literal("-"), literal("+"), EMPTY]), Repetition(_DIGIT, 1, 2)
)  # two digits, so that no number is infinite
_NUMBER = concatenate(
    _SIGN, _NATURAL, Repetition(concatenate(literal("."), Repetition(_DIGIT, 1, 20)), 0, 1), Repetition(_EXPONENT, 0, 1)
)


def schema_expression(schema: Schema) -> Expression:
    """Compiles a JSON Schema into a regular expression over bytes.

    Supported are `enum`, `const`, `anyOf` and the types object (without additional properties), array, string, integer,
    number, boolean and null, with the limits of number and length. Integers have up to 18 digits.

    Raises:
        ValueError: the schema has a keyword that is not supported, or nothing is valid; says which.
    """
    if "enum" in schema or "const" in schema:
        _only(schema, {"enum", "const", "type"})
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        if not values:
            raise ValueError("an enum without values allows nothing")
        return alternate(literal(json.dumps(value, ensure_ascii=False)) for value in values)
    if "anyOf" in schema:
        _only(schema, {"anyOf"})
        return alternate(schema_expression(each) for each in schema["anyOf"])
    kind = schema.get("type")
    if kind not in _KEYWORDS:
        raise ValueError(f"type {kind!r} is not supported; name one of {', '.join(_KEYWORDS)}, or use anyOf")
    _only(schema, {"type"} | _KEYWORDS[kind])
    match kind:
        case "object":
            return object_expression(schema)
        case "array":
            return array_expression(schema)
        case "string":
            character = Repetition(_CHARACTER, schema.get("minLength", 0), schema.get("maxLength"))
            return concatenate(literal('"'), character, literal('"'))
        case "integer":
            return _integer(schema.get("minimum"), schema.get("maximum"))
        case "number":
            return _NUMBER
        case "boolean":
            return alternate([literal("true"), literal("false")])
        case _:
            return literal("null")


def _only(schema: Schema, supported: set[str]) -> None:
    if others := sorted(schema.keys() - supported - _ANNOTATIONS):
        raise ValueError(f"{', '.join(others)}: not supported here; supported are {', '.join(sorted(supported))}")


def object_expression(schema: Schema) -> Expression:
    """Compiles an object: properties in the schema's order, of which those that are not required may be left out.

    Raises:
        ValueError: other properties would be allowed, or one is required that is not described.
    """
    properties: Mapping[str, Schema] = schema.get("properties", {})
    required = set(schema.get("required", ()))
    if schema.get("additionalProperties", False) is not False:
        raise ValueError("additionalProperties must be false: names of any kind cannot be constrained")
    if unknown := sorted(required - properties.keys()):
        raise ValueError(f"{', '.join(unknown)}: required, but not among the properties")
    # What follows, from the last property to the first, where nothing has been written yet and where something has.
    first: Expression = EMPTY
    later: Expression = EMPTY
    for name in reversed(list(properties)):
        member = concatenate(literal(f"{json.dumps(name, ensure_ascii=False)}: "), schema_expression(properties[name]))
        written_first = concatenate(member, later)
        written_later = concatenate(literal(", "), member, later)
        optional = name not in required
        first = alternate([written_first, first]) if optional else written_first
        later = alternate([written_later, later]) if optional else written_later
    return concatenate(literal("{"), first, literal("}"))


def array_expression(schema: Schema) -> Expression:
    """Compiles an array: `minItems` to `maxItems` times `items`, with `, ` between them.

    Raises:
        ValueError: the items are not described.
    """
    if "items" not in schema:
        raise ValueError("an array needs items: values of any kind cannot be constrained")
    item = schema_expression(schema["items"])
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    if most == 0:
        return literal("[]")
    more = Repetition(concatenate(literal(", "), item), max(least - 1, 0), None if most is None else most - 1)
    some = concatenate(literal("["), item, more, literal("]"))
    return some if least else alternate([literal("[]"), some])


def _integer(minimum: int | None, maximum: int | None) -> Expression:
    if minimum is None and maximum is None:
        return concatenate(_SIGN, _NATURAL)
    if minimum is not None and maximum is not None and 0 <= maximum - minimum < _MOST_INTEGERS:
        return alternate(literal(str(number)) for number in range(minimum, maximum + 1))
    if minimum == 0 and maximum is None:
        return _NATURAL
    raise ValueError(
        f"integers from {minimum} to {maximum} are not supported; give both limits, at most {_MOST_INTEGERS:,} numbers "
        "apart, or a minimum of 0 alone"
    )


class TokenConstraint:
    """Says which tokens may follow, so that a text that ends with `end_token` is valid.

    Args:
        schema: what the text must be valid against.
        vocabulary: the bytes of each token; empty for special tokens, which are never allowed within the text.
        end_token: its id; allowed where the text is complete.
    """

    def __init__(self, schema: Schema, vocabulary: Sequence[bytes], end_token: int) -> None:
        self.automaton = ByteAutomaton(schema_expression(schema))
        self.vocabulary, self.end_token = vocabulary, end_token
        self.start = self.automaton.start
        self._trie: dict[int, Any] = {}
        for number, data in enumerate(vocabulary):
            if data and number != end_token:
                node = self._trie
                for byte in data:
                    node = node.setdefault(byte, {})
                node.setdefault(-1, []).append(number)  # tokens that end here
        self._masks: dict[State, torch.Tensor] = {}

    def step(self, state: State, token: int) -> State:
        """Returns the state after one more token of the text."""
        return self.automaton.read(self.vocabulary[token], state)

    def mask(self, state: State) -> torch.Tensor:
        """Returns which tokens are allowed, bool [vocabulary].

        Raises:
            ValueError: none is, since the vocabulary lacks the bytes that are needed.
        """
        if state not in self._masks:
            allowed = torch.zeros(len(self.vocabulary), dtype=torch.bool)
            allowed[self._reachable(self._trie, state)] = True
            allowed[self.end_token] = self.automaton.accepts(state)
            if not allowed.any():
                needed = bytes(sorted(self.automaton.allowed(state)))
                raise ValueError(f"no token of the vocabulary begins with one of the bytes {needed!r}")
            self._masks[state] = allowed
        return self._masks[state]

    def _reachable(self, node: dict[int, Any], state: State) -> list[int]:
        """Walks the vocabulary's trie and the automaton together; returns the tokens that both can read."""
        found: list[int] = list(node.get(-1, ()))
        for byte in self.automaton.allowed(state):
            if byte in node:
                found += self._reachable(node[byte], self.automaton.step(state, byte))
        return found


def constrain_logits(logits: torch.Tensor, constraint: TokenConstraint, state: State) -> torch.Tensor:
    """Sets the logits of tokens that are not allowed to −∞; those of the others keep their ratios.

    Args:
        logits: of the next token, [vocabulary].
        constraint: says what is allowed.
        state: after the text so far.
    """
    return logits.masked_fill(~constraint.mask(state), -torch.inf)
