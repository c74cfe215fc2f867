"""The text service, over the pretrained model."""

import json
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from char_lm.capstone import CAPSTONE
from char_lm.page import described
from char_lm.service import CharService, Continuation, Prompt
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.locate_model import packaged_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.testing.raw_http import Target, wait_until
from dlcommon.testing.server_process import ServerProcess, serving_pretrained
from pydantic import ValidationError


@pytest.fixture(scope="module")
def service() -> CharService:
    model = packaged_model(CAPSTONE)
    assert isinstance(model, Path)
    return CharService(OnnxModel(model))


def pieces_of(service: CharService, **fields: Any) -> list[Continuation]:
    return [piece for piece in service.generate(Prompt(**fields)) if piece is not None]


def write(service: CharService, **fields: Any) -> str:
    return service.join(pieces_of(service, **fields)).text


def test_pieces_and_the_whole_are_the_same_text(service: CharService) -> None:
    pieces = pieces_of(service, prompt="ROMEO:\n", tokens=30, seed=3)
    whole = service.join(pieces)
    assert whole.text == "".join(piece.text for piece in pieces)
    assert len(whole.text) == 30
    assert whole.ended == pieces[-1].ended == "tokens"
    assert whole.next == pieces[-1].next
    assert all(piece.ended == "" for piece in pieces[:-1])
    assert abs(sum(pieces[0].next.values()) - 1) < 0.5


def test_every_token_is_a_step_so_that_others_get_their_turn(service: CharService) -> None:
    free = write(service, prompt="KING", tokens=20, seed=1)
    # The stop string's beginning occurs, so that pieces are held back.
    steps = list(service.generate(Prompt(prompt="KING", tokens=20, seed=1, stop=[free[5:8] + "never there"])))
    assert len(steps) in (20, 21)
    assert None in steps
    assert service.tokens(Prompt(tokens=20)) == 20


def test_it_stops_before_a_stop_string_and_never_shows_a_part_of_it(service: CharService) -> None:
    free = write(service, prompt="KING", tokens=120, seed=1)
    stop = free[40:46]
    pieces = pieces_of(service, prompt="KING", tokens=120, seed=1, stop=[stop, "never there"])
    assert "".join(piece.text for piece in pieces) == free[: free.index(stop)]
    assert pieces[-1].ended == "stop"


def test_prompts_at_the_edges(service: CharService) -> None:
    assert len(write(service, prompt="", tokens=5, seed=0)) == 5
    long = pieces_of(service, prompt="To be, or not to be. " * 100, tokens=3, seed=0)
    assert long[-1].prompt_cut
    with pytest.raises(InvalidInputError, match="without '学'"):
        write(service, prompt="学")
    with pytest.raises(InvalidInputError, match="no model 'nonesuch'"):
        write(service, prompt="a", model="nonesuch")


def test_a_prompt_as_people_type_it_is_read_and_what_was_replaced_is_said(service: CharService) -> None:
    typed = service.join(pieces_of(service, prompt="ROMEO:\r\nI’ll\t", tokens=8, seed=3))
    assert typed.replaced == {"\r\n": "\n", "’": "'", "\t": "    "}
    assert typed.text == write(service, prompt="ROMEO:\nI'll    ", tokens=8, seed=3)
    assert service.join(pieces_of(service, prompt="ROMEO:", tokens=1)).replaced == {}


def test_an_item_chooses_among_the_models_that_are_offered(tmp_path: Path) -> None:
    carried = packaged_model(CAPSTONE)
    assert isinstance(carried, Path)
    for name in ("mine", "other"):
        (tmp_path / f"{name}.onnx").write_bytes(carried.read_bytes())
    service = CharService(OnnxModel(tmp_path / "mine.onnx"))
    assert list(service.models)[:3] == ["mine", "other", "char-lm"]
    item = {"prompt": "KING", "tokens": 10, "seed": 1}
    assert write(service, **item, model="other") == write(service, **item)
    (piece, *_) = pieces_of(service, **item, model="other")
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
def test_impossible_values_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Prompt(**fields)


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with serving_pretrained(CAPSTONE, "--no-demo", "--grace-seconds", "1", "--timeout", "100000") as process:
        yield process


def test_a_long_request_is_refused_and_what_is_abandoned_costs_nothing(server: ServerProcess) -> None:
    target = Target(server.address, {"prompt": "a", "tokens": 5}, None)

    def model_ran(since: float) -> bool:
        return target.metric("dl_model_seconds_count") > since

    refused = target.post_items([{"prompt": "a", "tokens": 2000}] * 32)
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (413, "too_many_tokens")
    body = json.dumps({"items": [{"prompt": "a", "tokens": 2000}] * 2}).encode()
    for _ in range(8):  # all slots are taken, then left
        with target.connect() as connection:
            connection.sendall(target.post_head(body) + body)
            begun = target.metric("dl_model_seconds_count")
            wait_until(partial(model_ran, since=begun))
    target.wait_for_items("abandoned", 16)
    assert target.request("GET", "/readyz").status == 200
    target.check_alive()
    assert target.metric("dl_model_seconds_count") < 8 * 2000
    with target.connect() as connection:
        connection.sendall(target.post_head(body) + body)
        wait_until(lambda: target.metric("dl_items_in_flight") == 2)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=600) == 0
    assert "Traceback" not in server.log_text()
