"""The service, over the small model that the package carries and that needs no asset."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.locate_model import packaged_models
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.batch import run_batch
from dlcommon.testing.raw_http import Target
from dlcommon.testing.server_process import ServerProcess, serving_pretrained
from pydantic import ValidationError
from sentiment_bert.capstone import CAPSTONE
from sentiment_bert.languages import foreign_script, why_foreign
from sentiment_bert.service import JudgedText, SentimentService, Text


@pytest.fixture(scope="module")
def service() -> SentimentService:
    path = next(path for path in packaged_models(CAPSTONE) if path.stem == "sentiment-bert-scratch")
    return SentimentService(OnnxModel(path, threads=1))


def judged(service: SentimentService, *texts: str, **options: Any) -> list[JudgedText]:
    """Judges texts one after the other, as a server does with items of different shapes."""
    items = [Text(text=text, **options) for text in texts]
    return [
        service.answer_for(
            item, run_batch(lambda arrays: service.run(service.model, dict(arrays)), [service.prepare(item)])[0]
        )
        for item in items
    ]


def test_it_tells_good_from_bad(service: SentimentService) -> None:
    good, bad = judged(service, "A wonderful, moving film.", "A terrible, dull film.")
    assert (good.sentiment, bad.sentiment) == ("positive", "negative")
    assert good.confidence == max(good.probabilities.values()) > 0.7
    assert sum(good.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_each_sentence_has_its_own_sentiment(service: SentimentService) -> None:
    (answer,) = judged(service, "  A wonderful, moving film.\nA terrible, dull ending!")
    assert [one.text for one in answer.sentences] == ["A wonderful, moving film.", "A terrible, dull ending!"]
    assert [one.sentiment for one in answer.sentences] == ["positive", "negative"]
    first, second = (one.probabilities["positive"] for one in answer.sentences)
    assert second < answer.probabilities["positive"] < first


def test_a_low_confidence_is_neutral(service: SentimentService) -> None:
    (answer,) = judged(service, "A wonderful, moving film.", neutral_below=1.0)
    assert (answer.sentiment, answer.sentences[0].sentiment) == ("neutral", "neutral")
    assert judged(service, "The film.", neutral_below=0)[0].sentiment in ("negative", "positive")


def test_words_say_what_moved_the_answer(service: SentimentService) -> None:
    text = "\n A wonderful film.  The ending is terrible."
    (answer,) = judged(service, text, explain=True)
    for sentence in answer.sentences:
        assert sentence.words is not None
        assert sentence.score is not None
        assert sentence.baseline is not None
        assert sentence.explained == "positive"
        assert all(text[word.start :].startswith(word.text) for word in sentence.words)
        assert sum(word.weight for word in sentence.words) == pytest.approx(
            sentence.score - sentence.baseline, abs=0.05
        )
        assert sentence.score == pytest.approx(
            np.log(sentence.probabilities["positive"] / sentence.probabilities["negative"]), abs=1e-3
        )
    weights = {word.text: word.weight for sentence in answer.sentences for word in sentence.words or ()}
    assert weights["wonderful"] == max(weights.values()) > 0
    assert weights["terrible."] == min(weights.values()) < 0


def test_a_long_sentence_is_read_in_parts_and_nothing_is_left_out(service: SentimentService) -> None:
    text = "good " * 300 + "bad"
    (answer,) = judged(service, text, any_language=True)
    assert len(answer.sentences) == 3
    assert " ".join(one.text for one in answer.sentences) == text


@pytest.mark.parametrize("text", ["", "   ", "\n\t\n"])
def test_nothing_to_judge_is_refused(service: SentimentService, text: str) -> None:
    with pytest.raises(InvalidInputError, match="there is nothing to judge; write a sentence"):
        service.prepare(Text(text=text))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("この映画はとても面白かったです", "Japanese"),
        ("Фильм был ужасен", "Cyrillic"),
        ("Der Film war sehr langweilig und viel zu lang.", "the language 'de'"),
        ("Une histoire sans intérêt, je me suis beaucoup ennuyé.", "the language 'fr'"),
        ("Una película aburrida y sin ninguna gracia.", "the language 'es'"),
    ],
)
def test_other_languages_are_refused_by_name(service: SentimentService, text: str, named: str) -> None:
    with pytest.raises(InvalidInputError, match=f"seems to be in {named}, but this model was trained on 'en'"):
        service.prepare(Text(text=text))
    if named.startswith("the language"):  # in letters that the model knows
        service.prepare(Text(text=text, any_language=True))


def test_the_model_of_the_texts_language_is_taken(service: SentimentService) -> None:
    assert service.by_language == {"en": "sentiment-bert-scratch", "zh": "sentiment-bert-zh"}
    good, bad, english = judged(service, "房间很干净，服务也很好。", "买来三天就坏了，太差了！", "A wonderful film.")
    assert [one.model for one in (good, bad, english)] == ["sentiment-bert-zh"] * 2 + ["sentiment-bert-scratch"]
    assert (good.sentiment, bad.sentiment, english.sentiment) == ("positive", "negative", "positive")
    with pytest.raises(
        InvalidInputError, match="seems to be in Chinese characters, but this model was trained on 'en'"
    ):
        service.prepare(Text(text="房间很干净", model="sentiment-bert-scratch"))
    (anyway,) = judged(service, "a room", any_language=True)
    assert anyway.model == "sentiment-bert-scratch"


def test_a_model_with_other_labels_is_not_taken_for_its_language(
    service: SentimentService, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = SentimentService(service.model)
    monkeypatch.setattr(fresh.models["sentiment-bert-zh"], "labels", ["bad", "good"])
    assert fresh.by_language == {"en": "sentiment-bert-scratch"}
    with pytest.raises(InvalidInputError, match="seems to be in Chinese"):
        fresh.prepare(Text(text="房间很干净"))


def test_chinese_characters_say_what_moved_the_answer(service: SentimentService) -> None:
    (answer,) = judged(service, "房间很干净。早餐太难吃了！", explain=True)
    assert [one.text for one in answer.sentences] == ["房间很干净。", "早餐太难吃了！"]
    assert [word.text for word in answer.sentences[0].words or ()] == list("房间很干净。")


@pytest.mark.parametrize(
    "text",
    ["Great movie", "bad", "Meh.", "OK 👍", "unflinchingly bleak and desperate", "I give it 7/10 :-)",
     "An Almodóvar film with Penélope Cruz, and a great one.", "<b>good</b>"],
)  # fmt: skip
def test_english_is_judged(service: SentimentService, text: str) -> None:
    service.prepare(Text(text=text))


def test_scripts_are_counted_by_letters() -> None:
    assert foreign_script("good 好", "en") is None
    assert foreign_script("123 !!!", "en") is None
    assert why_foreign("房间很干净。", "zh") is None
    assert foreign_script("The room is clean and large", "zh") == "Latin"


def test_what_no_model_knows_is_refused(service: SentimentService) -> None:
    with pytest.raises(InvalidInputError, match="knows none of these characters"):
        service.prepare(Text(text="🐶🐶🐶"))
    with pytest.raises(InvalidInputError, match="there is no model 'nonesuch'; choose one of"):
        service.prepare(Text(text="good", model="nonesuch"))


def test_long_texts_are_bounded(service: SentimentService) -> None:
    with pytest.raises(ValidationError, match="at most 20000"):
        Text(text="word " * 10_000)
    with pytest.raises(InvalidInputError, match="more than 400 sentences"):
        service.prepare(Text(text="Good. " * 401))
    with pytest.raises(InvalidInputError, match="too long to explain"):
        service.prepare(Text(text="good " * 2001, explain=True, any_language=True))


@pytest.mark.parametrize("fields", [{"neutral_below": -1}, {"neutral_below": 2}, {"txt": "a"}, {"text": None}])
def test_impossible_values_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Text(**{"text": "a", **fields})


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving_pretrained(CAPSTONE, "--no-demo") as process:
        yield process


def test_over_http(server: ServerProcess) -> None:
    target = Target(server.address, {"text": "A wonderful film."}, None)
    reply = target.post_items(
        [{"text": "A wonderful film."}, {"text": ""}, {"text": "A terrible film.", "explain": True}]
    )
    first, empty, last = json.loads(reply.body)["answers"]
    assert (first["sentiment"], last["sentiment"]) == ("positive", "negative")
    assert first["sentences"][0]["words"] is None
    assert [word["text"] for word in last["sentences"][0]["words"]] == ["A", "terrible", "film."]
    assert "nothing to judge" in empty["error"]["message"]
    target.check_alive()
