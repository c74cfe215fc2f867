"""The service: writes the text that follows a prompt."""

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.model_catalog import available_models
from dlcommon.runtime.serving.service import Answer, GeneratingService, Item
from dlcommon.transformer.sampling import Sampling
from dlcommon.transformer.stop_strings import beginning_of_stop, first_stop
from pydantic import Field

from char_lm.capstone import CAPSTONE
from char_lm.generation import Decoder, Written

MAX_PROMPT_CHARACTERS, MAX_NEW_TOKENS = 20_000, 2_000


class Prompt(Item):
    """A text to continue, and how."""

    prompt: str = Field("", max_length=MAX_PROMPT_CHARACTERS, description="What to continue; empty starts a new text.")
    tokens: int = Field(200, ge=1, le=MAX_NEW_TOKENS, description="How many to write at most.")
    temperature: float = Field(0.8, ge=0, le=5, description="0 always takes the most probable token.")
    top_k: int | None = Field(None, ge=1, description="Draw only from the k most probable tokens.")
    top_p: float | None = Field(None, gt=0, le=1, description="Draw only from those that together are so probable.")
    min_p: float | None = Field(None, ge=0, le=1, description="Draw only from those this share as likely as the first.")
    repetition_penalty: float = Field(1.0, ge=0.5, le=2, description="Above 1, tokens that occurred get less probable.")
    stop: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        [], max_length=8, description="Ends before the first of these."
    )
    seed: int | None = Field(None, ge=0, lt=2**63, description="The same seed writes the same text.")
    model: str | None = Field(None, max_length=100, description="Name of one of /v1/models; the first by default.")


class Continuation(Answer):
    """The text that the model wrote; in a stream, what it wrote since the last piece."""

    text: str
    model: str
    ended: str = Field(description="Why it stopped: tokens, or stop; empty while it goes on.")
    prompt_cut: bool = Field(description="Whether only the prompt's end was read, since it is longer than the context.")
    replaced: dict[str, str] = Field(
        {},
        description="Characters of the prompt that the model does not know, and the plain ones that it read instead.",
    )
    next: dict[str, float] = Field(description="The most probable tokens that the last one was drawn from.")


class CharService(GeneratingService[Prompt, Continuation]):
    item = Prompt
    answer = Continuation
    example: ClassVar = {"prompt": "The ", "tokens": 40, "seed": 1}

    def __init__(self, model: OnnxModel) -> None:
        """Serves this model and, by name, those beside it and those of the package."""
        super().__init__(model)
        self.models = available_models(CAPSTONE, model)
        self._decoders = {name: Decoder(one, one.metadata) for name, one in self.models.items()}

    def tokens(self, item: Prompt) -> int:
        return item.tokens

    def generate(self, item: Prompt) -> Iterator[Continuation | None]:
        name = item.model or self.model.name
        if name not in self._decoders:
            raise InvalidInputError(f"there is no model {name!r}; choose one of {', '.join(self.models)}")
        decoder = self._decoders[name]
        prompt, replaced = decoder.tokenizer.encode_prompt(item.prompt)
        sampling = Sampling(item.temperature, item.top_k, item.top_p, item.min_p, item.repetition_penalty)
        random = np.random.default_rng(item.seed)
        cut = len(prompt) > decoder.context

        def piece(text: str, ended: str, written: Written) -> Continuation:
            return Continuation(
                text=text, model=name, ended=ended, prompt_cut=cut, replaced=replaced, next=written.next
            )

        held, last = "", Written("")
        for last in decoder.write(prompt, item.tokens, sampling, random):
            held += last.text
            if (at := first_stop(held, item.stop)) is not None:
                yield piece(held[:at], "stop", last)
                return
            ready = len(held) - beginning_of_stop(held, item.stop)
            yield piece(held[:ready], "", last) if ready else None
            held = held[ready:]
        yield piece(held, "tokens", last)

    def join(self, pieces: Sequence[Continuation]) -> Continuation:
        return pieces[-1].model_copy(update={"text": "".join(piece.text for piece in pieces)})
