"""The text service, over the pretrained model."""

import re
from pathlib import Path

import pytest
from char_lm import CAPSTONE
from char_lm.page import described
from char_lm.service import CharService, Prompt
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.run_directory import pretrained_model
from pydantic import ValidationError


@pytest.fixture(scope="module")
def service() -> CharService:
    model = pretrained_model(CAPSTONE)
    assert isinstance(model, Path)
    return CharService(OnnxModel(model))


def write(service: CharService, **fields) -> str:
    return "".join(piece.text for piece in service.stream(Prompt(**fields)))


def test_pieces_and_the_whole_are_the_same_text(service):
    prompt = Prompt(prompt="ROMEO:\n", tokens=30, seed=3)
    pieces = list(service.stream(prompt))
    arrays = {name: array[None] for name, array in service.prepare(prompt).items()}
    outputs = service.run(service.model, arrays)
    whole = service.answer_for(prompt, {name: output[0] for name, output in outputs.items()})
    assert whole.text == "".join(piece.text for piece in pieces)
    assert len(whole.text) == 30
    assert whole.ended == pieces[-1].ended == "tokens"
    assert all(piece.ended == "" for piece in pieces[:-1])
    assert abs(sum(pieces[0].next.values()) - 1) < 0.5


def test_it_stops_before_a_stop_string_and_never_shows_a_part_of_it(service):
    free = write(service, prompt="KING", tokens=120, seed=1)
    stop = free[40:46]
    pieces = list(service.stream(Prompt(prompt="KING", tokens=120, seed=1, stop=[stop, "never there"])))
    assert "".join(piece.text for piece in pieces) == free[: free.index(stop)]
    assert pieces[-1].ended == "stop"


def test_prompts_at_the_edges(service):
    assert len(write(service, prompt="", tokens=5, seed=0)) == 5
    long = list(service.stream(Prompt(prompt="To be, or not to be. " * 100, tokens=3, seed=0)))
    assert long[-1].prompt_cut
    with pytest.raises(InvalidInputError, match="without '学'"):
        service.prepare(Prompt(prompt="学"))
    with pytest.raises(InvalidInputError, match="no model 'nonesuch'"):
        service.prepare(Prompt(prompt="a", model="nonesuch"))


def test_an_item_chooses_among_the_models_that_are_offered(tmp_path):
    carried = pretrained_model(CAPSTONE)
    assert isinstance(carried, Path)
    for name in ("mine", "other"):
        (tmp_path / f"{name}.onnx").write_bytes(carried.read_bytes())
    service = CharService(OnnxModel(tmp_path / "mine.onnx"))
    assert list(service.models)[:3] == ["mine", "other", "char-lm"]
    item = {"prompt": "KING", "tokens": 10, "seed": 1}
    assert write(service, **item, model="other") == write(service, **item)
    (piece, *_) = service.stream(Prompt(**item, model="other"))
    assert piece.model == "other"
    assert re.match(r"tinyshakespeare: gpt, \d+ layers of \d+ \(other\)$", described("other", service.models["other"]))


@pytest.mark.parametrize(
    "fields",
    [
        {"tokens": 0},
        {"tokens": 10**9},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"stop": [""]},
        {"stop": ["x"] * 9},
        {"seed": -1},
        {"prompt": "x" * 20_001},
        {"promt": "a"},
    ],
)
def test_impossible_values_are_refused(fields):
    with pytest.raises(ValidationError):
        Prompt(**fields)
