"""The tokenizer of a base model, together with its chat template, as one JSON text that runs and graphs carry."""

import json
from collections.abc import Sequence
from pathlib import Path

import gguf
from dlcommon.llm.byte_level_bpe import BYTE_CHARACTERS
from dlcommon.llm.chat_template import TURN_END, TURN_START, ChatTemplate, Message
from dlcommon.llm.gguf_tokenizer import load_gguf_tokenizer
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

TOKENIZER = "chat_tokenizer.json"
"""The run's file."""


class Tokenizer:
    """Turns conversations and texts into token ids, and back.

    Args:
        content: the tokenizer as the library `tokenizers` stores it.
        template: how conversations are written.

    Raises:
        ValueError: the content is no such tokenizer, or lacks the tokens that begin and end a turn.
    """

    def __init__(self, content: str, template: ChatTemplate) -> None:
        try:
            self._special, self._plain = FastTokenizer.from_str(content), FastTokenizer.from_str(content)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"the tokenizer is damaged: {error}") from error
        self._plain.encode_special_tokens = True  # `<|im_end|>` in a user's text is ten characters
        for tokenizer in (self._special, self._plain):
            tokenizer.no_padding()
            tokenizer.no_truncation()
        missing = [token for token in (TURN_START, TURN_END) if self._special.token_to_id(token) is None]
        if missing:
            raise ValueError(f"the vocabulary lacks {' and '.join(missing)}, so the model knows no ChatML")
        self.template = template
        self.end = int(self._special.token_to_id(TURN_END) or 0)
        """The token that ends a turn."""

    def __len__(self) -> int:
        """Returns the number of tokens."""
        return int(self._special.get_vocab_size())

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Returns the ids of a text, in which `<|im_end|>` means the special token only if that is allowed."""
        tokenizer = self._special if allow_special else self._plain
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_chat(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False
    ) -> tuple[list[int], list[bool]]:
        """Returns the ids of a conversation and which are the assistant's answers; see `ChatTemplate.encode`.

        Raises:
            ValueError: there are no messages.
        """
        return self.template.encode(messages, self, add_generation_prompt=add_generation_prompt)

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of these tokens without special ones; what is not UTF-8 becomes U+FFFD."""
        text: str = self._special.decode(list(ids), skip_special_tokens=True)
        return text

    def to_json(self) -> str:
        """Returns what `from_json` reads."""
        return json.dumps({"tokenizer": self._special.to_str(), "default_system": self.template.default_system})

    @classmethod
    def from_json(cls, content: str) -> "Tokenizer":
        """Reads what `to_json` returned.

        Raises:
            ValueError: it is something else.
        """
        try:
            parts = json.loads(content)
            return cls(parts["tokenizer"], ChatTemplate(parts["default_system"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the tokenizer is damaged: {error}") from error

    @classmethod
    def from_gguf(cls, reader: gguf.GGUFReader) -> "Tokenizer":
        """Reads the tokenizer and the chat template that a GGUF file holds.

        Raises:
            ValueError: it holds another kind of tokenizer or template; says which.
        """
        ours = load_gguf_tokenizer(reader)
        vocabulary = {piece: number for number, piece in enumerate(ours.encoding.pieces)}
        pieces = ours.encoding.pieces
        merges = [(pieces[left], pieces[right]) for left, right in ours.encoding.merges]
        field = reader.get_field("tokenizer.chat_template")
        template = chatml(field.contents() if field is not None else None)
        return cls(_byte_level(vocabulary, merges, ours.patterns, ours.special), template)

    @classmethod
    def from_folder(cls, folder: Path) -> "Tokenizer":
        """Reads the `tokenizer.json` and `tokenizer_config.json` of a model of the hub.

        Raises:
            ValueError: they are damaged, or the chat template is not ChatML.
            OSError: a file cannot be read.
        """
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        template = chatml(settings.get("chat_template"))
        return cls((folder / "tokenizer.json").read_text(encoding="utf-8"), template)

    @classmethod
    def of_bytes(cls) -> "Tokenizer":
        """Makes a tokenizer whose tokens are the 256 bytes and the two special tokens."""
        vocabulary = {piece: number for number, piece in enumerate((TURN_START, TURN_END, *BYTE_CHARACTERS))}
        return cls(_byte_level(vocabulary, [], (), (TURN_START, TURN_END)), ChatTemplate())


def _byte_level(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], patterns: Sequence[str], special: Sequence[str]
) -> str:
    """Writes a byte-level BPE as the library stores it; `patterns` as of `dlcommon.llm.byte_level_bpe.pre_tokenize`."""
    made = FastTokenizer(models.BPE(vocabulary, merges))
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    made.pre_tokenizer = pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    content: str = made.to_str()
    return content


def chatml(source: str | None) -> ChatTemplate:
    """Recognizes a model's Jinja template as ChatML, and finds its default system message.

    Raises:
        ValueError: it writes conversations in another way, or there is none.
    """
    if not source:
        raise ValueError(
            "the model has no chat template; choose one that was tuned on conversations, such as …-Instruct"
        )
    question, answer = Message("user", "question"), Message("assistant", "answer")
    system = Message("system", "system message")
    try:
        template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)

        def render(*messages: Message) -> str:
            rows = [{"role": one.role, "content": one.content} for one in messages]
            text: str = template.render(messages=rows, add_generation_prompt=True)
            return text

        begin, found = f"{TURN_START}system\n", render(question)
        default = found.removeprefix(begin).partition(TURN_END)[0] if found.startswith(begin) else None
        ours = ChatTemplate(default)
        for messages in ((question,), (system, question), (question, answer, question)):
            if render(*messages) != ours.render(messages, add_generation_prompt=True):
                raise ValueError("the model's chat template is not ChatML, which is the only one known here")
    except TemplateError as error:
        raise ValueError(f"the model's chat template cannot be rendered: {error}") from error
    return ours
