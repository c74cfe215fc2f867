"""The service: translates texts sentence by sentence."""

from collections.abc import Iterator, Sequence

from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.saved_run import SavedRun
from dlcommon.runtime.sentences import Sentence, split_sentences
from dlcommon.runtime.serving.model_catalog import available_models
from dlcommon.runtime.serving.service import Answer, GeneratingService, Item
from pydantic import BaseModel, ConfigDict, Field

from translator.capstone import CAPSTONE
from translator.config import Config
from translator.examples import example_text
from translator.joining import join_translations
from translator.tokenizer import Encoded
from translator.translation import LONGEST_SOURCE, Search, Translation, Translator, longest_target

MAX_CHARACTERS, MAX_BEAMS = 20_000, 10
PIECES_TOGETHER = 64
"""Sentences are translated together while their pieces are at most so many, so that the first ones come soon."""
MOST_UNKNOWN = 0.5
"""A text more of whose letters than this are unknown is in another script."""
NAMED = 5
"""Unknown characters that an error names."""


class Text(Item):
    """A text to translate, and how."""

    text: str = Field(max_length=MAX_CHARACTERS, description="One or more sentences; line breaks are kept.")
    beams: int = Field(5, ge=1, le=MAX_BEAMS, description="Partial translations kept at each step; 1 is greedy search.")
    length_penalty: float = Field(1.0, ge=0, le=2, description="Higher prefers longer translations.")
    alternatives: int = Field(1, ge=1, le=MAX_BEAMS, description="Translations of each sentence, at most `beams`.")
    attention: bool = Field(False, description="Whether to return where the model looked for each piece.")
    source_language: str | None = Field(None, max_length=100, description="Of the text: chooses among the models.")
    target_language: str | None = Field(None, max_length=100, description="Of the translation: likewise.")
    model: str | None = Field(
        None, max_length=100, description="Name of one of /v1/models; by default the first of these languages."
    )


class Alternative(BaseModel):
    """One translation of a sentence."""

    model_config = ConfigDict(extra="forbid")

    text: str
    score: float = Field(description="Log-probability over length to the power of the length penalty; 0 is best.")


class TranslatedSentence(BaseModel):
    """One sentence of the text, and what became of it."""

    model_config = ConfigDict(extra="forbid")

    source: str
    alternatives: list[Alternative] = Field(description="Best first; the first is in `translation`.")
    source_pieces: list[str]
    pieces: list[str] = Field(description="Of the best translation.")
    attention: list[list[list[list[float]]]] | None = Field(
        description="Weights of cross-attention: layers, heads, pieces of the translation, pieces of the source."
    )


class TranslatedText(Answer):
    """The translation; in a stream, of the sentences since the last piece."""

    translation: str
    source: str = Field(description="Language of the text.")
    target: str = Field(description="Language of the translation.")
    model: str
    unknown: list[str] = Field(description="Characters that training never saw; the model reads them all alike.")
    cut: bool = Field(description="Whether a sentence was too long, and only its beginning was read or written.")
    sentences: list[TranslatedSentence]


class TranslationService(GeneratingService[Text, TranslatedText]):
    item = Text
    answer = TranslatedText

    def __init__(self, model: OnnxModel) -> None:
        """Serves this model and, by name, those beside it, the latest of each direction, and those of the package."""
        super().__init__(model)
        self.models = available_models(CAPSTONE, model, direction)
        self.translators = {name: Translator(one, one.metadata) for name, one in self.models.items()}
        served = self.translators[model.name]
        self.example = {"text": example_text(served.source, served.tokenizer)}  # type: ignore[misc]

    def tokens(self, item: Text) -> int:
        _, encoded = self._encoded(item)
        return sum(longest_target(min(len(sentence.ids) + 1, LONGEST_SOURCE)) for sentence in encoded)

    def generate(self, item: Text) -> Iterator[TranslatedText | None]:
        name = self.chosen(item)
        translator = self.translators[name]
        sentences, encoded = self._encoded(item)
        before, _ = split_sentences(item.text)
        search = Search(item.beams, item.length_penalty, item.alternatives)
        for start, end in groups([len(sentence.ids) for sentence in encoded]):
            # Pauses after every token, so that others get their turn, and an abandoned one stops there.
            found = yield from translator.translate_steps(encoded[start:end], search, attention=item.attention)
            best = [ranked[0].text for ranked in found]
            group = list(zip(sentences[start:end], encoded[start:end], found, strict=True))
            yield TranslatedText(
                translation=before + join_translations(sentences[start:end], best, is_end=end == len(sentences)),
                source=translator.source,
                target=translator.target,
                model=name,
                unknown=unknown_characters(encoded[start:end]),
                cut=any(len(ids.ids) >= LONGEST_SOURCE or not ranked[0].ended for _, ids, ranked in group),
                sentences=[described(translator, *one) for one in group],
            )
            before = ""

    def join(self, pieces: Sequence[TranslatedText]) -> TranslatedText:
        return pieces[0].model_copy(
            update={
                "translation": "".join(piece.translation for piece in pieces),
                "unknown": list(dict.fromkeys(character for piece in pieces for character in piece.unknown)),
                "cut": any(piece.cut for piece in pieces),
                "sentences": [sentence for piece in pieces for sentence in piece.sentences],
            }
        )

    def chosen(self, item: Text) -> str:
        """Returns the name of the model that an item asks for.

        Raises:
            InvalidInputError: there is none of that name, or none that translates between these languages.
        """
        if item.model is not None and item.model not in self.models:
            raise InvalidInputError(f"there is no model {item.model!r}; choose one of {', '.join(self.models)}")
        for name in self.models if item.model is None else (item.model,):
            own = self.translators[name]
            if item.source_language in (None, own.source) and item.target_language in (None, own.target):
                return name
        offered = ", ".join(f"{name} from {one.source} to {one.target}" for name, one in self.translators.items())
        raise InvalidInputError(
            f"no such model translates from {item.source_language or 'any language'} to "
            f"{item.target_language or 'any language'}, but {offered}"
        )

    def reversed(self, name: str) -> str | None:
        """Returns the name of the first model of the other direction, if one is offered."""
        own = self.translators[name]
        return next(
            (other for other, one in self.translators.items() if (one.source, one.target) == (own.target, own.source)),
            None,
        )

    def _encoded(self, item: Text) -> tuple[list[Sentence], list[Encoded]]:
        """Cuts and encodes a text.

        Raises:
            InvalidInputError: it is empty, in another script, or the options contradict each other.
        """
        translator = self.translators[self.chosen(item)]
        if item.alternatives > item.beams:
            raise InvalidInputError(f"alternatives must be at most the {item.beams} beams")
        _, sentences = split_sentences(item.text)
        encoded = [translator.tokenizer.encode(sentence.text) for sentence in sentences]
        if not any(sentence.ids for sentence in encoded):
            raise InvalidInputError(f"there is nothing to translate; write a sentence in {translator.source!r}")
        unknown = unknown_characters(encoded)
        letters = [character for character in item.text if not character.isspace()]
        if sum(character in unknown for character in letters) > MOST_UNKNOWN * len(letters):
            named = ", ".join(map(repr, unknown[:NAMED])) + (" …" if len(unknown) > NAMED else "")
            raise InvalidInputError(f"this model translates from {translator.source!r}, and does not know {named}")
        return sentences, encoded


def direction(saved: SavedRun[Config]) -> tuple[str, str, str]:
    """Returns the data and the languages of a run."""
    return saved.data_name, saved.config.source, saved.config.target


def groups(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yields stretches of sentences, each as long as the padded pieces of all are few enough, at least one."""
    start, longest = 0, 0
    for number, length in enumerate(lengths):
        longest = max(longest, length)
        if number > start and longest * (number + 1 - start) > PIECES_TOGETHER:
            yield start, number
            start, longest = number, length
    yield start, len(lengths)


def unknown_characters(encoded: Sequence[Encoded]) -> list[str]:
    """Returns the characters that the vocabulary lacks, each once."""
    return list(dict.fromkeys(character for sentence in encoded for character in sentence.unknown))


def described(
    translator: Translator, sentence: Sentence, encoded: Encoded, ranked: Sequence[Translation]
) -> TranslatedSentence:
    """Describes the translations of one sentence."""
    best = ranked[0]
    return TranslatedSentence(
        source=sentence.text,
        alternatives=[Alternative(text=one.text, score=round(one.score, 4)) for one in ranked],
        source_pieces=[*translator.tokenizer.pieces(encoded.ids[: LONGEST_SOURCE - 1]), "</s>"],
        pieces=list(best.pieces),
        attention=best.attention.round(3).tolist() if best.attention.size else None,
    )
