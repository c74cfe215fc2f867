"""What the server answers: the text that follows a prompt."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.model_catalog import available_models
from dlcommon.runtime.serving.service import Answer, Item, PagePredict, Service
from pydantic import Field

from char_lm.capstone import CAPSTONE
from char_lm.generation import Decoder, Sampling, Written

if TYPE_CHECKING:
    import gradio as gr

LONGEST_PROMPT, MOST_TOKENS = 20_000, 2_000


class Prompt(Item):
    """A text to continue, and how."""

    prompt: str = Field("", max_length=LONGEST_PROMPT, description="What to continue; empty starts a new text.")
    tokens: int = Field(200, ge=1, le=MOST_TOKENS, description="How many to write at most.")
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
    """What the model wrote; of a stream, what it wrote since the last piece."""

    text: str
    model: str
    ended: str = Field(description="Why it stopped: tokens, or stop; empty while it goes on.")
    prompt_cut: bool = Field(description="Whether only the prompt's end was read, since it is longer than the context.")
    next: dict[str, float] = Field(description="The most probable tokens that the last one was drawn from.")


class CharService(Service[Prompt, Continuation]):
    item = Prompt
    answer = Continuation
    example: ClassVar = {"prompt": "The ", "tokens": 40, "seed": 1}
    streams = True

    def __init__(self, model: OnnxModel) -> None:
        """Serves this model, and by name those that lie beside it or in the package."""
        self.model = model
        self.models = available_models(CAPSTONE, model)
        self._decoders = {name: Decoder(one, one.metadata) for name, one in self.models.items()}

    def decoder(self, item: Prompt) -> Decoder:
        name = self.name(item)
        if name not in self._decoders:
            raise InvalidInputError(f"there is no model {name!r}; choose one of {', '.join(self.models)}")
        return self._decoders[name]

    def name(self, item: Prompt) -> str:
        """Of the model that the item asks for."""
        return item.model or self.model.path.stem

    def stream(self, item: Prompt) -> Iterator[Continuation]:
        decoder = self.decoder(item)
        prompt = decoder.tokenizer.encode(item.prompt)
        sampling = Sampling(item.temperature, item.top_k, item.top_p, item.min_p, item.repetition_penalty)
        random = np.random.default_rng(item.seed)
        cut, name = len(prompt) > decoder.context, self.name(item)

        def piece(text: str, ended: str, written: Written) -> Continuation:
            return Continuation(text=text, model=name, ended=ended, prompt_cut=cut, next=written.next)

        held, last = "", Written("")
        for last in decoder.write(prompt, item.tokens, sampling, random):
            held += last.text
            if (at := first_stop(held, item.stop)) is not None:
                yield piece(held[:at], "stop", last)
                return
            ready = len(held) - beginning_of_stop(held, item.stop)
            if ready:
                yield piece(held[:ready], "", last)
                held = held[ready:]
        yield piece(held, "tokens", last)

    def prepare(self, item: Prompt) -> dict[str, np.ndarray]:
        self.decoder(item).tokenizer.encode(item.prompt)  # refused here, where the reason reaches the client
        return {"item": np.frombuffer(item.model_dump_json().encode(), np.uint8)}

    def run(self, model: OnnxModel, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Each item has a length and a way of drawing of its own, so they are written one after the other."""
        answers = []
        for row in arrays["item"]:
            pieces = list(self.stream(Prompt.model_validate_json(row.tobytes())))
            whole = pieces[-1].model_copy(update={"text": "".join(piece.text for piece in pieces)})
            answers.append(whole.model_dump_json())
        return {"answer": np.asarray(answers, dtype=object)}

    def answer_for(self, item: Prompt, outputs: dict[str, np.ndarray]) -> Continuation:
        return Continuation.model_validate(json.loads(str(outputs["answer"])))

    def page(self, predict: PagePredict[Prompt, Continuation]) -> "gr.Blocks":
        from char_lm.page import build_page

        return build_page(CAPSTONE.title, CAPSTONE.summary, self, predict)


def first_stop(text: str, stops: list[str]) -> int | None:
    """Where the first of the stop strings begins; None where none occurs."""
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return min(found, default=None)


def beginning_of_stop(text: str, stops: list[str]) -> int:
    """How many characters at the end may be the beginning of a stop string, and must wait."""
    lengths = [size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])]
    return max(lengths, default=0)
