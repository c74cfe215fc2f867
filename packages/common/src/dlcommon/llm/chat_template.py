"""Chat templates: how the messages of a conversation become the one text that a language model continues.

The format is ChatML (OpenAI 2023), which SmolLM, Qwen and many others are tuned on:

    <|im_start|>user
    Name a river.<|im_end|>
    <|im_start|>assistant
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Role = Literal["system", "user", "assistant"]
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True)
class Message:
    """Holds one turn of a conversation.

    Raises:
        ValueError: there is no such role.
    """

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(f"the role of a message is one of {', '.join(get_args(Role))}, not {self.role!r}")


class ChatTokenizer(Protocol):
    """Turns text into token ids, such as a `ByteLevelBPE`."""

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Returns the ids of a text, in which `<|im_end|>` means the special token only if that is allowed."""
        ...


@dataclass(frozen=True)
class ChatTemplate:
    """Writes conversations in ChatML."""

    default_system: str | None = None
    """System message of a conversation that begins with none."""

    def complete(self, messages: Sequence[Message]) -> list[Message]:
        """Returns the messages, after the default system message where they begin with none.

        Raises:
            ValueError: there are no messages.
        """
        if not messages:
            raise ValueError("a conversation needs at least one message")
        if self.default_system is None or messages[0].role == "system":
            return list(messages)
        return [Message("system", self.default_system), *messages]

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """Returns the conversation as one text, to look at; models are given the tokens of `encode`.

        Args:
            messages: of the conversation so far.
            add_generation_prompt: whether the assistant's next turn is begun.

        Raises:
            ValueError: there are no messages.
        """
        turns = [f"{TURN_START}{one.role}\n{one.content}{TURN_END}\n" for one in self.complete(messages)]
        return "".join(turns) + (f"{TURN_START}assistant\n" if add_generation_prompt else "")

    def encode(
        self, messages: Sequence[Message], tokenizer: ChatTokenizer, *, add_generation_prompt: bool = False
    ) -> tuple[list[int], list[bool]]:
        """Returns the token ids of a conversation, and which of them are the assistant's answers.

        What a message says is encoded as plain text: a user who types `<|im_end|>` does not end the turn. Answers
        include the token that ends them, since a model must learn to stop.

        Args:
            messages: of the conversation so far.
            tokenizer: whose vocabulary holds the two special tokens.
            add_generation_prompt: whether the assistant's next turn is begun.

        Raises:
            ValueError: there are no messages.
        """
        start, end = (tokenizer.encode(token, allow_special=True) for token in (TURN_START, TURN_END))
        line = tokenizer.encode("\n")
        tokens: list[int] = []
        answer: list[bool] = []

        def add(ids: list[int], is_answer: bool) -> None:
            tokens.extend(ids)
            answer.extend([is_answer] * len(ids))

        for message in self.complete(messages):
            add(start, False)
            if message.role == "assistant":  # encoded apart from its header, as where the model writes it
                add(tokenizer.encode("assistant\n"), False)
                add(tokenizer.encode(message.content) + end, True)
            else:
                add(tokenizer.encode(f"{message.role}\n{message.content}") + end, False)
            add(line, False)
        if add_generation_prompt:
            add(start + tokenizer.encode("assistant\n"), False)
        return tokens, answer
