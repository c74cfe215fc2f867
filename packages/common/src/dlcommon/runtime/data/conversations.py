"""Defines the type that sets of conversations are loaded as, and reads the three forms that people store them in.

Instruction tuning learns the assistant's turns of a conversation; preference tuning compares two last turns.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlcommon.llm.chat_template import Message, Role

_ROLES: dict[str, Role] = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
}  # fmt: skip
"""Names of roles in OpenAI's form and in ShareGPT's."""


@dataclass(frozen=True)
class Preference:
    """Holds two answers to the same question."""

    chosen: str
    rejected: str


@dataclass(frozen=True)
class Conversation:
    """Holds the messages of one conversation, the last of them the assistant's."""

    messages: tuple[Message, ...]
    preference: Preference | None = None
    """A better and a worse last message, where people were asked."""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the last answer."""
        return self.messages[:-1]

    def with_answer(self, answer: str) -> tuple[Message, ...]:
        """Returns the messages with another last answer."""
        return (*self.prompt, Message("assistant", answer))


@dataclass(frozen=True)
class Conversations:
    """Holds conversations in memory."""

    train: tuple[Conversation, ...]
    test: tuple[Conversation, ...]

    def contents(self) -> Iterator[bytes]:
        for split in (self.train, self.test):
            for one in split:
                yield repr(one).encode()
            yield b"\0"


class BadConversationError(ValueError):
    """Reports a row that holds no conversation; its message says why."""


def read_conversation(row: object) -> Conversation:
    """Reads a row of a JSON file, or the cells of a CSV row by column name.

    Three forms are known: Alpaca's `instruction`, `input` and `output`; OpenAI's `messages` of `role` and `content`;
    ShareGPT's `conversations` of `from` and `value`. With `chosen` and `rejected`, each of them a text or messages,
    the row holds a preference; such a row needs no `output`, and its form may also be `prompt`, `chosen`, `rejected`.

    Raises:
        BadConversationError: it is in none of these forms, or a turn is empty or out of order; says what is wrong.
    """
    if not isinstance(row, Mapping):
        raise BadConversationError("is no object with named fields")
    preference = _preference(row)
    if "messages" in row or "conversations" in row:
        name = "messages" if "messages" in row else "conversations"
        messages = _messages(row[name], name)
    else:
        messages = _from_alpaca(row, preference)
    if preference is not None and (not messages or messages[-1].role != "assistant"):
        messages = (*messages, Message("assistant", preference.chosen))
    _check_turns(messages)
    return Conversation(messages, preference)


def _from_alpaca(row: Mapping[str, Any], preference: Preference | None) -> tuple[Message, ...]:
    instruction = row.get("instruction", row.get("prompt"))
    if isinstance(instruction, list):  # a preference whose prompt is messages
        return _messages(instruction, "prompt")
    if instruction is None:
        raise BadConversationError(
            f"has the fields {', '.join(map(str, list(row)[:6])) or '(none)'}, but neither instruction and output, nor "
            f"messages, nor conversations, nor prompt, chosen and rejected"
        )
    given = _text(row.get("input") or "", "input").strip()
    question = _text(instruction, "instruction").strip() + (f"\n{given}" if given else "")
    system = [Message("system", _text(row["system"], "system"))] if row.get("system") else []
    answer = row.get("output", row.get("response"))
    if answer is None and preference is None:
        raise BadConversationError("has no output")
    answers = [Message("assistant", _text(answer, "output").strip())] if answer is not None else []
    return (*system, Message("user", question), *answers)


def _preference(row: Mapping[str, Any]) -> Preference | None:
    given = {name: row.get(name) for name in ("chosen", "rejected")}
    if all(value is None for value in given.values()):
        return None
    texts = {}
    for name, value in given.items():
        answer = _messages(value, name)[-1].content if isinstance(value, list) and value else value
        texts[name] = _text(answer, name).strip()
        if not texts[name]:
            raise BadConversationError(f"has an empty {name}")
    return Preference(texts["chosen"], texts["rejected"])


def _messages(turns: object, name: str) -> tuple[Message, ...]:
    if isinstance(turns, str):  # a CSV cell
        try:
            turns = json.loads(turns)
        except ValueError as error:
            raise BadConversationError(f"{name} is no JSON: {error}") from None
    if not isinstance(turns, Sequence) or not all(isinstance(turn, Mapping) for turn in turns):
        raise BadConversationError(f"{name} is no list of objects")
    messages = []
    for number, turn in enumerate(turns, start=1):
        role = turn.get("role", turn.get("from"))
        if role not in _ROLES:
            raise BadConversationError(f"turn {number} of {name} has the role {role!r}; known are {', '.join(_ROLES)}")
        content = turn.get("content", turn.get("value"))
        messages.append(Message(_ROLES[role], _text(content, f"turn {number} of {name}").strip()))
    return tuple(messages)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise BadConversationError(f"{name} is {type(value).__name__ if value is not None else 'missing'}, not a text")
    return value


def _check_turns(messages: Sequence[Message]) -> None:
    spoken = [one for one in messages if one.role != "system"]
    if any(one.role == "system" for one in messages[1:]):
        raise BadConversationError("has a system message after the first turn")
    if not spoken or spoken[-1].role != "assistant":
        raise BadConversationError("does not end with the assistant's answer")
    for number, one in enumerate(spoken):
        if one.role != ("user", "assistant")[number % 2]:
            raise BadConversationError("does not alternate between user and assistant, beginning with the user")
    if any(not one.content for one in messages):
        raise BadConversationError("has an empty message")


def without_questions_of(train: Iterable[Conversation], test: Iterable[Conversation]) -> tuple[Conversation, ...]:
    """Returns those conversations whose questions do not occur in the test, in whatever case."""
    asked = {_question(one) for one in test}
    return tuple(one for one in train if _question(one) not in asked)


def _question(conversation: Conversation) -> tuple[str, ...]:
    return tuple(one.content.casefold() for one in conversation.prompt)
