"""The service: answers conversations, many at once, with the base or with any adapter of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
from dlcommon.llm.chat_template import Message, Role
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.service import Answer, BatchGeneratingService, Item, Step
from dlcommon.transformer.sampling import Sampling
from pydantic import Field, model_validator

from llm_lora.catalog import read_catalog, read_tokenizer
from llm_lora.decoder import Decoder, Drawn, Writing
from llm_lora.openai_routes import add_openai_routes
from llm_lora.tokenizer import Tokenizer
from llm_lora.written_text import WrittenText

if TYPE_CHECKING:
    from dlcommon.runtime.serving.item_answers import ItemAnswers
    from fastapi import FastAPI

MAX_CHARACTERS, MAX_MESSAGES = 50_000, 200
LONGEST = 2048
"""Tokens of prompt and answer together, if the model's context is longer: each keeps its keys and values in memory."""
NEW_TOKENS = 256
"""Tokens of an answer, where none are asked for."""


class ChatMessage(Item):
    """One turn of a conversation."""

    role: Role
    content: str = Field(min_length=1)


class Conversation(Item):
    """A conversation to go on with, and how."""

    prompt: str | None = Field(None, min_length=1, description="A question; or send `messages`.")
    messages: list[ChatMessage] | None = Field(
        None, min_length=1, max_length=MAX_MESSAGES, description="The conversation so far, the user's turn last."
    )
    model: str | None = Field(None, max_length=200, description="Name of the base or of an adapter; see /v1/models.")
    max_tokens: int | None = Field(
        None, ge=1, le=LONGEST, description=f"How many to write at most; {NEW_TOKENS} by default."
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0 always takes the most probable token.")
    top_k: int | None = Field(None, ge=1, description="Draw only from the k most probable tokens.")
    top_p: float | None = Field(None, gt=0, le=1, description="Draw only from those that together are so probable.")
    min_p: float | None = Field(None, ge=0, le=1, description="Draw only from those this share as likely as the first.")
    repetition_penalty: float = Field(1.0, ge=0.5, le=2, description="Above 1, tokens that occurred get less probable.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="The same seed writes the same answer.")
    stop: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        [], max_length=8, description="Ends before the first of these."
    )
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="Report each token's log-probability, and so many of the most probable ones."
    )

    @model_validator(mode="after")
    def _one_conversation(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("send either `prompt`, one question, or `messages`, a conversation")
        if self.messages is not None and self.messages[-1].role != "user":
            raise ValueError("the last of `messages` must be the user's, which is what is answered")
        length = len(self.prompt or "") + sum(len(one.content) for one in self.messages or ())
        if length > MAX_CHARACTERS:
            raise ValueError(
                f"the conversation holds {length:,} characters; at most {MAX_CHARACTERS:,} are read: leave out its "
                "oldest turns"
            )
        return self

    def conversation(self) -> list[Message]:
        """Returns the turns."""
        turns = self.messages or [ChatMessage(role="user", content=self.prompt or "")]
        return [Message(one.role, one.content) for one in turns]


class Chance(Answer):
    """A token that might have stood here."""

    token: str
    logprob: float


class TokenChances(Chance):
    """A token of the answer, and what else might have stood there."""

    top: list[Chance]


class Reply(Answer):
    """The assistant's answer; in a stream, what is new of it since the last piece."""

    text: str
    model: str
    finish_reason: Literal["", "stop", "length"] = Field(description="Why it ended; empty while it goes on.")
    prompt_tokens: int
    completion_tokens: int
    logprobs: list[TokenChances] = Field(description="Of each token, before temperature and filters; if asked for.")


class Generation:
    """Holds an answer in progress."""

    def __init__(self, item: Conversation, model: str, writing: Writing, text: WrittenText, most: int) -> None:
        self.item, self.model, self.writing, self.text, self.most = item, model, writing, text, most


class ChatService(BatchGeneratingService[Conversation, Reply]):
    item = Conversation
    answer = Reply
    example: ClassVar = {"prompt": "Name a river in Europe.", "max_tokens": 16}

    def __init__(self, model: OnnxModel) -> None:
        """Serves the base of this model with its adapter, and the other adapters of the base by name."""
        super().__init__(model)
        self.tokenizer: Tokenizer = read_tokenizer(model.metadata)
        self.catalog = read_catalog(model)
        self.context = min(int(model.metadata["context"]), LONGEST)
        self.decoder = Decoder(model, model.metadata, self.catalog.adapter, self.catalog.scales)

    def tokens(self, item: Conversation) -> int:
        return item.max_tokens or NEW_TOKENS

    def begin(self, item: Conversation) -> Generation:
        name = item.model or self.model.name
        if name not in self.catalog.names:
            offered = ", ".join(self.catalog.names)
            raise RequestError(422, "model_not_found", f"there is no model {name!r}; choose one of {offered}")
        prompt, _ = self.tokenizer.encode_chat(item.conversation(), add_generation_prompt=True)
        room = self.context - len(prompt)
        if room < (item.max_tokens or 1):
            asked = f" and {item.max_tokens} for the answer" if item.max_tokens else ""
            message = (
                f"the conversation takes {len(prompt):,} tokens{asked}, more than the context of {self.context:,}; "
                f"leave out its oldest turns, or shorten them" + (", or ask for a shorter answer" if asked else "")
            )
            raise RequestError(422, "context_length_exceeded", message)
        writing = Writing(
            np.array(prompt, np.int64),
            Sampling(item.temperature, item.top_k, item.top_p, item.min_p, item.repetition_penalty),
            np.random.default_rng(item.seed),
            None if name == self.catalog.base or self.catalog.base is None else name,
            item.top_logprobs is not None,
            item.top_logprobs or 0,
        )
        most = item.max_tokens or min(NEW_TOKENS, room)
        return Generation(item, name, writing, WrittenText(self.tokenizer, item.stop), most)

    def advance(self, generations: Sequence[Generation]) -> list[Step | Exception]:
        drawn = self.decoder.step([one.writing for one in generations])
        return [
            token if isinstance(token, Exception) else Step() if token is None else self._step(one, token)
            for one, token in zip(generations, drawn, strict=True)
        ]

    def release(self, generation: Generation) -> None:
        self.decoder.release(generation.writing)

    def join(self, pieces: Sequence[Reply]) -> Reply:
        text = "".join(piece.text for piece in pieces)
        chances = [chance for piece in pieces for chance in piece.logprobs]
        return pieces[-1].model_copy(update={"text": text, "logprobs": chances})

    def add_routes(self, app: "FastAPI", answers: "ItemAnswers") -> None:
        add_openai_routes(app, self, answers, self.catalog.names)

    def _step(self, one: Generation, drawn: Drawn) -> Step:
        count = len(one.writing.tokens)
        ended = drawn.token == self.tokenizer.end
        text = one.text.end() if ended else one.text.add(drawn.token)
        if one.text.stopped:
            reason: Literal["", "stop", "length"] = "stop"
        elif ended:
            reason = "stop"
        elif count >= one.most:
            reason, text = "length", text + one.text.end()
        else:
            reason = ""
        chances = self._chances(drawn) if one.item.top_logprobs is not None and not ended else []
        if not text and not reason and not chances:
            return Step()
        reply = Reply(
            text=text,
            model=one.model,
            finish_reason=reason,
            prompt_tokens=len(one.writing.prompt),
            completion_tokens=count,
            logprobs=chances,
        )
        return Step(reply, bool(reason))

    def _chances(self, drawn: Drawn) -> list[TokenChances]:
        def shown(token: int) -> str:
            return "<|im_end|>" if token == self.tokenizer.end else self.tokenizer.decode([token])

        top = [Chance(token=shown(one.token), logprob=one.log_prob) for one in drawn.top]
        assert drawn.log_prob is not None
        return [TokenChances(token=shown(drawn.token), logprob=drawn.log_prob, top=top)]
