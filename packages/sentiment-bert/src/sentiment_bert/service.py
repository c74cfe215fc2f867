"""What the server answers about a text: sentiment of the whole and of each sentence, and what moved it."""

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.sentences import split_sentences
from dlcommon.runtime.serving.model_catalog import available_models
from dlcommon.runtime.serving.service import Answer, BatchedService, Item
from pydantic import BaseModel, ConfigDict, Field

from sentiment_bert.capstone import CAPSTONE
from sentiment_bert.classifying import LONGEST_PART, Reader, direction_of, probabilities_of
from sentiment_bert.colouring import Span, spans_of_words, word_weights
from sentiment_bert.languages import why_foreign
from sentiment_bert.tokenizer import Encoded

MAX_CHARACTERS, MAX_PARTS = 20_000, 400
MOST_EXPLAINED = 2_000
"""Tokens of a text that can be explained: each is read once for every point on the path."""
NEUTRAL = "neutral"
NEUTRAL_BELOW = 0.7
TOKENS_STEP, PARTS_STEP = 16, 4
"""Inputs are filled up to multiples of these, so that texts of about the same size share a batch."""
IDS, EXPLAIN, MODEL = "input_ids", "explain", "model"


class Text(Item):
    """A text to judge."""

    text: str = Field(max_length=MAX_CHARACTERS, description="One or more sentences.")
    neutral_below: float = Field(
        NEUTRAL_BELOW, ge=0, le=1, description="Answers of a lower confidence are called neutral; 0 forces an answer."
    )
    explain: bool = Field(False, description="Whether to return how far each word moved the answer.")
    any_language: bool = Field(False, description="Judge a text even if it seems to be in another language.")
    model: str | None = Field(
        None,
        max_length=100,
        description="Name of one of /v1/models; by default the first with the server's labels that reads the language.",
    )


class Word(BaseModel):
    """A word of the text, and how far it moved the logits."""

    model_config = ConfigDict(extra="forbid")

    text: str
    start: int = Field(description="Where it begins in the text, in characters.")
    weight: float = Field(description="Positive: towards the sentence's `explained` label.")


class JudgedSentence(BaseModel):
    """The sentiment of one sentence; a very long one is judged in parts."""

    model_config = ConfigDict(extra="forbid")

    text: str
    sentiment: str
    confidence: float
    probabilities: dict[str, float]
    explained: str | None = Field(description="The label that positive weights of words speak for.")
    score: float | None = Field(description="Difference of logits that the words' weights explain.")
    baseline: float | None = Field(
        description="The same for a text of masks; the words' weights sum to score − baseline."
    )
    words: list[Word] | None


class JudgedText(Answer):
    """The sentiment of a text."""

    sentiment: str = Field(description="A label, or neutral where the confidence is below `neutral_below`.")
    confidence: float = Field(description="Calibrated probability of the most probable label.")
    probabilities: dict[str, float]
    model: str
    sentences: list[JudgedSentence]


class Parts:
    """A text cut into what is read at once: sentences, and of longer ones parts.

    Raises:
        InvalidInputError: there is nothing to judge, or too much of it.
    """

    def __init__(self, reader: Reader, text: str) -> None:
        before, sentences = split_sentences(text)
        self.starts: list[int] = []
        self.encoded: list[Encoded] = []
        self.texts: list[str] = []
        at = len(before)
        for sentence in sentences:
            encoded = reader.tokenizer.encode(sentence.text)
            for first in range(0, len(encoded.ids), LONGEST_PART):
                ids = encoded.ids[first : first + LONGEST_PART]
                spans = encoded.spans[first : first + LONGEST_PART]
                last = first + LONGEST_PART >= len(encoded.ids)
                begin = spans[0][0] if first else 0
                end = len(sentence.text) if last else encoded.spans[first + LONGEST_PART][0]
                self.starts.append(at + begin)
                self.texts.append(sentence.text[begin:end])
                self.encoded.append(Encoded(ids, [(a - begin, b - begin) for a, b in spans]))
            at += len(sentence.text) + len(sentence.after)
        if not self.encoded:
            raise InvalidInputError("there is nothing to judge; write a sentence")
        if len(self.encoded) > MAX_PARTS:
            raise InvalidInputError(f"the text has more than {MAX_PARTS} sentences; send it in parts")

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return sum(len(one.ids) for one in self.encoded)


class SentimentService(BatchedService[Text, JudgedText]):
    item = Text
    answer = JudgedText
    example: ClassVar = {"text": "The story is slow, but the actors are wonderful. I loved the ending."}

    def __init__(self, model: OnnxModel) -> None:
        """Serves this model and, by name, those beside it and those of the package."""
        super().__init__(model)
        self.models = available_models(CAPSTONE, model)
        self.names = list(self.models)
        self.readers = {name: Reader(one, one.metadata) for name, one in self.models.items()}

    @cached_property
    def by_language(self) -> dict[str, str]:
        """The first model of each language, of those that answer with the served model's labels."""
        found: dict[str, str] = {}
        for name, model in self.models.items():
            if model.labels == self.model.labels:
                found.setdefault(model.metadata["language"], name)
        return found

    def choose(self, item: Text) -> tuple[str, str | None]:
        """Returns the name of the model that judges an item, and what the text seems to be in if not in its language.

        Raises:
            InvalidInputError: there is no model of the name that the item asks for.
        """
        name = item.model or self.model.name
        if name not in self.readers:
            raise InvalidInputError(f"there is no model {name!r}; choose one of {', '.join(self.names)}")
        if item.any_language or not (foreign := why_foreign(item.text, self.models[name].metadata["language"])):
            return name, None
        if item.model is None:
            for language, other in self.by_language.items():
                if other != name and why_foreign(item.text, language) is None:
                    return other, None
        return name, foreign

    def prepare(self, item: Text) -> dict[str, np.ndarray]:
        name, foreign = self.choose(item)
        reader, language = self.readers[name], self.models[name].metadata["language"]
        parts = Parts(reader, item.text)
        if foreign is not None:
            raise InvalidInputError(
                f"the text seems to be in {foreign}, but this model was trained on {language!r} and would only guess; "
                f"set any_language to judge it all the same"
            )
        if all(number == reader.tokenizer.unknown for one in parts.encoded for number in one.ids):
            raise InvalidInputError("the model knows none of these characters; write a sentence in " + repr(language))
        if item.explain and parts.tokens > MOST_EXPLAINED:
            raise InvalidInputError(
                f"a text of {parts.tokens:,} tokens is too long to explain; at most {MOST_EXPLAINED:,} are explained"
            )
        rows = reader.rows(parts.encoded)
        shape = (_up(len(rows), PARTS_STEP if len(rows) > 1 else 1), _up(max(map(len, rows)), TOKENS_STEP))
        ids = np.full(shape, reader.tokenizer.pad, np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
        return {IDS: ids, EXPLAIN: np.array(item.explain), MODEL: np.array(self.names.index(name))}

    def run(self, model: OnnxModel, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Reads all sentences of all texts; explains those that are to be."""
        ids, asked, models = arrays[IDS], arrays[EXPLAIN], arrays[MODEL]
        items, parts, tokens = ids.shape
        classes = max(len(one.labels) for one in self.models.values())
        logits = np.zeros((items, parts, classes), np.float32)
        weights = np.zeros((items, parts, tokens), np.float32)
        scores = np.zeros((items, parts, 2), np.float32)
        for number in np.unique(models):
            name = self.names[number]
            reader, count = self.readers[name], len(self.models[name].labels)
            real = (ids != reader.tokenizer.pad).any(axis=2) & (models == number)[:, None]
            found = reader.padded_logits(ids[real], count)
            logits[real, :count] = found
            for row, part in np.argwhere(real & asked[:, None]):
                one = ids[row, part][None]
                one = one[:, one[0] != reader.tokenizer.pad]
                moved = reader.explain(one, direction_of(logits[row, part, :count][None]))
                weights[row, part, : one.shape[1]] = moved.tokens[0]
                scores[row, part] = moved.score[0], moved.baseline[0]
        return {"logits": logits, "weights": weights, "scores": scores, MODEL: models}

    def answer_for(self, item: Text, outputs: dict[str, np.ndarray]) -> JudgedText:
        name = self.names[int(outputs[MODEL])]
        parts, labels = Parts(self.readers[name], item.text), self.models[name].labels
        logits = outputs["logits"][: len(parts.encoded), : len(labels)]
        # The whole: each sentence speaks with its logits, a longer one louder. One sentence's is its own.
        lengths = np.array([len(one.ids) for one in parts.encoded], np.float32)
        whole = self._verdict(labels, (lengths[:, None] * logits).sum(axis=0) / lengths.sum(), item.neutral_below)
        sentences = [
            self._sentence(item, labels, parts, number, logits[number], outputs) for number in range(len(logits))
        ]
        return JudgedText(
            sentiment=whole[0], confidence=whole[1], probabilities=whole[2], model=name, sentences=sentences
        )

    def cells(self, answer: JudgedText) -> dict[str, Any]:
        shares = {f"probabilities.{label}": share for label, share in answer.probabilities.items()}
        return {"sentiment": answer.sentiment, "confidence": answer.confidence, **shares}

    @staticmethod
    def _verdict(labels: list[str], logits: np.ndarray, neutral_below: float) -> tuple[str, float, dict[str, float]]:
        """Returns the sentiment, its confidence and all probabilities."""
        probabilities = probabilities_of(logits)
        best = int(probabilities.argmax())
        confidence = float(probabilities[best])
        sentiment = labels[best] if confidence >= neutral_below else NEUTRAL
        return sentiment, confidence, dict(zip(labels, probabilities.tolist(), strict=True))

    def _sentence(
        self,
        item: Text,
        labels: list[str],
        parts: Parts,
        number: int,
        logits: np.ndarray,
        outputs: dict[str, np.ndarray],
    ) -> JudgedSentence:
        sentiment, confidence, probabilities = self._verdict(labels, logits, item.neutral_below)
        text, encoded, start = parts.texts[number], parts.encoded[number], parts.starts[number]
        words: list[Word] | None = None
        explained = score = baseline = None
        if item.explain:
            spans: list[Span] = spans_of_words(text)
            weights = word_weights(spans, encoded.spans, outputs["weights"][number, 1 : len(encoded.ids) + 1])
            words = [
                Word(text=text[a:b], start=start + a, weight=weight)
                for (a, b), weight in zip(spans, weights, strict=True)
            ]
            explained = labels[1] if len(labels) == 2 else labels[int(logits.argmax())]
            score, baseline = map(float, outputs["scores"][number])
        return JudgedSentence(
            text=text.strip(),
            sentiment=sentiment,
            confidence=confidence,
            probabilities=probabilities,
            explained=explained,
            score=score,
            baseline=baseline,
            words=words,
        )


def _up(number: int, step: int) -> int:
    """Rounds up to a multiple."""
    return -(-number // step) * step
