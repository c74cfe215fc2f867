"""The translation service, over the pretrained model and models of other directions."""

import json
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.locate_model import packaged_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.testing.raw_http import Target
from dlcommon.testing.server_process import ServerProcess, serving_pretrained
from pydantic import ValidationError
from translator.capstone import CAPSTONE
from translator.page import described
from translator.sample_models import write_run
from translator.service import Text, TranslatedText, TranslationService, groups


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TranslationService]:
    model = packaged_model(CAPSTONE)
    assert isinstance(model, Path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DL_RUNS_DIR", str(tmp_path_factory.mktemp("runs")))
        yield TranslationService(OnnxModel(model, threads=1))


def pieces_of(service: TranslationService, **fields: Any) -> list[TranslatedText]:
    return [piece for piece in service.generate(Text(**fields)) if piece is not None]


def translate(service: TranslationService, text: str, **fields: Any) -> TranslatedText:
    return service.join(pieces_of(service, text=text, **fields))


def test_it_translates(service: TranslationService) -> None:
    answer = translate(service, "A dog is running on the beach.")
    assert "Hund" in answer.translation
    assert answer.translation.endswith("Strand.")
    assert (answer.source, answer.target, answer.unknown, answer.cut) == ("en", "de", [], False)
    assert answer.sentences[0].attention is None
    assert described("translator", service.model).startswith("en → de: multi30k, 4 + 3 layers of 192")


def test_lines_and_white_space_stay_as_they_are(service: TranslationService) -> None:
    answer = translate(service, "\n  A dog runs. A cat sleeps.\n\nTwo men wait.  \n")
    first, second, third = (sentence.alternatives[0].text for sentence in answer.sentences)
    assert answer.translation == f"\n  {first} {second}\n\n{third}  \n"
    assert [sentence.source for sentence in answer.sentences] == ["A dog runs.", "A cat sleeps.", "Two men wait."]


def test_a_text_comes_piece_by_piece_so_that_others_get_their_turn(service: TranslationService) -> None:
    text = "A man in a blue shirt is standing on a ladder.\n" * 12
    pieces = pieces_of(service, text=text, beams=1)
    assert len(pieces) > 1
    whole = service.join(pieces)
    assert whole.translation == "".join(piece.translation for piece in pieces)
    assert len(whole.sentences) == 12
    assert len({sentence.alternatives[0].text for sentence in whole.sentences}) == 1


def test_alternatives_are_ranked_and_attention_is_a_distribution(service: TranslationService) -> None:
    answer = translate(service, "Two girls are playing.", beams=4, alternatives=4, attention=True)
    (sentence,) = answer.sentences
    scores = [one.score for one in sentence.alternatives]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    weights = np.array(sentence.attention)
    assert weights.shape == (3, 3, len(sentence.pieces), len(sentence.source_pieces))
    np.testing.assert_allclose(weights.sum(axis=3), 1, atol=0.02)


@pytest.mark.parametrize("text", ["", "   ", "\n\t\n", "\u00a0"])
def test_nothing_to_translate_is_refused(service: TranslationService, text: str) -> None:
    with pytest.raises(InvalidInputError, match="there is nothing to translate; write a sentence in 'en'"):
        service.tokens(Text(text=text))


@pytest.mark.parametrize("text", ["你好，世界", "Привет, мир", "🐶🐶🐶", "नमस्ते"])
def test_another_script_is_refused_by_name(service: TranslationService, text: str) -> None:
    with pytest.raises(InvalidInputError, match=f"translates from 'en', and does not know '{text[0]}'"):
        service.tokens(Text(text=text))


@pytest.mark.parametrize(
    ("text", "unknown"),
    [("A dog 🐶 runs.", ["🐶"]), ("<b>A dog</b> runs.", ["<", ">"]), ("A dog 犬 runs.", ["犬"])],
)
def test_unknown_characters_are_named_and_the_rest_is_translated(
    service: TranslationService, text: str, unknown: list[str]
) -> None:
    answer = translate(service, text)
    assert answer.unknown == unknown
    assert answer.translation
    assert not set(unknown) & set(answer.translation)


def test_long_texts_are_bounded(service: TranslationService) -> None:
    with pytest.raises(ValidationError, match="at most 20000"):
        Text(text="word " * 10_000)
    assert service.tokens(Text(text="A dog runs. " * 1000)) > 4000  # the server refuses that: 413
    endless = translate(service, "dog " * 2000, beams=1)
    assert endless.cut
    assert service.tokens(Text(text="dog " * 2000)) == 310


def test_what_contradicts_itself_is_refused(service: TranslationService) -> None:
    with pytest.raises(InvalidInputError, match="at most the 2 beams"):
        service.tokens(Text(text="a", beams=2, alternatives=3))
    with pytest.raises(InvalidInputError, match="there is no model 'nonesuch'; choose one of translator"):
        service.tokens(Text(text="a", model="nonesuch"))


def test_each_step_runs_the_model_once_so_that_what_is_abandoned_stops_at_the_next_token(
    service: TranslationService, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    model = service.models["translator"]

    def counted(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        runs.append(len(arrays["tokens"]))
        return model(arrays)

    monkeypatch.setattr(service.translators["translator"], "_predict", counted)
    generation = service.generate(Text(text="word " * 3000, beams=10, alternatives=10, attention=True))
    assert isinstance(generation, Generator)
    for number in range(1, 6):
        assert next(generation) is None
        assert len(runs) == number
    generation.close()
    assert len(runs) == 5


@pytest.fixture(scope="module")
def directions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TranslationService]:
    """Serves the pretrained model beside runs of other directions, two of one."""
    carried = packaged_model(CAPSTONE)
    assert isinstance(carried, Path)
    runs = tmp_path_factory.mktemp("runs")
    for name, source, target in (("a", "de", "en"), ("b", "de", "en"), ("c", "en", "fr")):
        write_run(runs / "translator" / f"multi30k-{name}", source, target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DL_RUNS_DIR", str(runs))
        yield TranslationService(OnnxModel(carried, threads=1))


def test_the_latest_model_of_each_direction_is_offered(directions: TranslationService) -> None:
    assert list(directions.models) == ["translator", "multi30k-c", "multi30k-b"]
    asked = {"en": "A dog.", "de": "Ein Hund."}
    for fields, name in (
        ({}, "translator"),
        ({"target_language": "fr"}, "multi30k-c"),
        ({"source_language": "de"}, "multi30k-b"),
        ({"source_language": "en", "target_language": "de"}, "translator"),
        ({"model": "multi30k-b", "target_language": "en"}, "multi30k-b"),
    ):
        item = Text(text=asked.get(fields.get("source_language", "en"), "A dog."), **fields)
        assert directions.chosen(item) == name
    answer = translate(directions, "ein hund", source_language="de", beams=1)
    assert (answer.model, answer.source, answer.target) == ("multi30k-b", "de", "en")
    assert directions.reversed("translator") == "multi30k-b"
    assert directions.reversed("multi30k-b") == "translator"
    assert directions.reversed("multi30k-c") is None


def test_the_example_is_one_that_the_model_can_read(service: TranslationService, tmp_path: Path) -> None:
    assert service.example == {"text": "A dog is running on the beach."}
    model = write_run(tmp_path / "run", "ru", "uk", ["собака бежит", "кошка бежит"] * 2)
    other = TranslationService(OnnxModel(model, threads=1))
    assert other.tokens(Text(**other.example)) > 0
    assert "бежит" in other.example["text"]


def test_a_direction_that_no_model_has_is_refused_by_name(directions: TranslationService) -> None:
    with pytest.raises(InvalidInputError, match="from fr to any language, but translator from en to de, multi30k-c"):
        directions.tokens(Text(text="a", source_language="fr"))
    with pytest.raises(InvalidInputError, match="from en to de"):
        directions.tokens(Text(text="a", model="multi30k-c", source_language="en", target_language="de"))


@pytest.mark.parametrize(
    "fields", [{"beams": 0}, {"beams": 11}, {"length_penalty": -1}, {"alternatives": 0}, {"txt": "a"}, {"text": None}]
)
def test_impossible_values_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Text(**{"text": "a", **fields})


def test_groups_hold_each_sentence_once() -> None:
    lengths = [10, 20, 30, 5, 200, 1, 1]
    assert list(groups(lengths)) == [(0, 2), (2, 4), (4, 5), (5, 7)]
    assert list(groups([3])) == [(0, 1)]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_pretrained(CAPSTONE, "--no-demo") as process:
        yield process


def test_over_http(server: ServerProcess) -> None:
    target = Target(server.address, {"text": "A dog runs."}, None)
    reply = target.post_items([{"text": "A dog runs."}, {"text": ""}, {"text": "Two men wait."}])
    first, empty, last = json.loads(reply.body)["answers"]
    assert first["translation"] != last["translation"]
    assert "nothing to translate" in empty["error"]["message"]
    long = target.post_items([{"text": "A dog runs. " * 1000}])
    assert (long.status, json.loads(long.body)["error"]["code"]) == (413, "too_many_tokens")
    target.check_alive()
