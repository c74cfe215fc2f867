"""The service and its decoder: many conversations at once write what each writes alone."""

from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.serving.errors import RequestError
from llm_lora.service import ChatService, Conversation, Generation, Reply
from llm_lora.tokenizer import Tokenizer
from llm_lora.written_text import WrittenText
from pydantic import ValidationError


def alone(service: ChatService, **fields: Any) -> Reply:
    return service.join([piece for piece in service.generate(Conversation(**fields)) if piece is not None])


def run(service: ChatService, generations: list[Generation], joins: dict[int, Generation]) -> dict[int, Reply]:
    """Runs generations together; others join before the steps that `joins` names. Returns the replies by identity."""
    pieces: dict[int, list[Reply]] = {}
    active, number = list(generations), 0
    while active or any(at >= number for at in joins):
        if number in joins:
            active.append(joins[number])
        for one, step in list(zip(active, service.advance(active), strict=True)):
            assert not isinstance(step, Exception)
            if step.piece is not None:
                pieces.setdefault(id(one), []).append(step.piece)
            if step.ended:
                active.remove(one)
                service.release(one)
        number += 1
    return {identity: service.join(found) for identity, found in pieces.items()}


ITEMS: list[dict[str, Any]] = [
    {"prompt": "a", "max_tokens": 30},
    {"prompt": "Tell me of the sea, of ships and of storms. " * 3, "max_tokens": 9},
    {"prompt": "b", "max_tokens": 25, "model": "tiny"},
    {"prompt": "a", "max_tokens": 20, "model": "other"},
    {"prompt": "x", "max_tokens": 15, "temperature": 1.0, "seed": 7, "top_p": 0.9, "top_logprobs": 2},
]


def test_conversations_that_come_and_go_write_what_they_write_alone(service: ChatService) -> None:
    expected = [alone(service, **item) for item in ITEMS]
    texts = {reply.text for reply in expected}
    assert len(texts) == len(ITEMS)
    generations = [service.begin(Conversation(**item)) for item in ITEMS]
    found = run(service, generations[:3], {4: generations[3], 11: generations[4]})
    for generation, reply in zip(generations, expected, strict=True):
        assert found[id(generation)].text == reply.text
        assert found[id(generation)].finish_reason == reply.finish_reason
    assert service.decoder.rows_in_use == 0


def test_a_long_prompt_is_read_in_parts_between_the_steps_of_others(service: ChatService) -> None:
    long = {"prompt": "All the world's a stage. " * 25, "max_tokens": 5}
    short = service.begin(Conversation(prompt="a", max_tokens=30))
    service.advance([short])
    late = service.begin(Conversation(**long))
    steps = [service.advance([short, late]) for _ in range(3)]
    assert [step[1].piece is None for step in steps] == [True, True, False]  # type: ignore[union-attr]
    assert len(short.writing.tokens) == 4
    for generation in (short, late):
        service.release(generation)
    expected = alone(service, **long)
    assert expected.prompt_tokens > 512
    later = service.begin(Conversation(**long))
    assert run(service, [later], {})[id(later)].text == expected.text


def test_a_generation_that_is_abandoned_leaves_its_row_to_the_others(service: ChatService) -> None:
    expected = alone(service, **ITEMS[0])
    gone, stays = (service.begin(Conversation(**item)) for item in (ITEMS[1], ITEMS[0]))
    for _ in range(5):
        service.advance([gone, stays])
    service.release(gone)
    assert service.decoder.rows_in_use == 1
    tokens = list(stays.writing.tokens)
    while len(stays.writing.tokens) < 30:
        service.advance([stays])
    service.release(stays)
    assert service.tokenizer.decode(stays.writing.tokens) == expected.text
    assert stays.writing.tokens[:5] == tokens


def test_the_seed_decides_and_temperature_zero_is_greedy(service: ChatService) -> None:
    drawn = {"prompt": "q", "max_tokens": 20, "temperature": 1.5}
    assert alone(service, **drawn, seed=1).text == alone(service, **drawn, seed=1).text
    assert alone(service, **drawn, seed=1).text != alone(service, **drawn, seed=2).text
    assert alone(service, prompt="q", max_tokens=20, seed=1).text == alone(service, prompt="q", max_tokens=20).text


def test_log_probabilities_are_those_of_the_model(service: ChatService) -> None:
    reply = alone(service, prompt="q", max_tokens=5, top_logprobs=3)
    assert len(reply.logprobs) == reply.completion_tokens == 5
    for chance in reply.logprobs:
        assert chance.logprob == chance.top[0].logprob  # greedy takes the first
        assert len(chance.top) == 3
        assert sum(np.exp(one.logprob) for one in chance.top) <= 1
    assert alone(service, prompt="q", max_tokens=5).logprobs == []


def test_a_stop_string_ends_the_answer_and_no_part_of_it_is_shown(service: ChatService) -> None:
    free = alone(service, prompt="a", max_tokens=40, temperature=1.0, seed=3).text
    stop = free[10:13]
    pieces = [
        piece
        for piece in service.generate(Conversation(prompt="a", max_tokens=40, temperature=1.0, seed=3, stop=[stop]))
        if piece is not None
    ]
    assert "".join(piece.text for piece in pieces) == free[: free.index(stop)]
    assert pieces[-1].finish_reason == "stop"


def test_characters_of_several_tokens_come_whole(service: ChatService) -> None:
    tokenizer: Tokenizer = service.tokenizer
    text = WrittenText(tokenizer, ())
    added = [text.add(token) for token in tokenizer.encode("aé学🙂b")]
    assert [piece for piece in added if piece] == ["a", "é", "学", "🙂", "b"]
    broken = WrittenText(tokenizer, ())
    assert [broken.add(token) for token in tokenizer.encode("学")[:2]] == ["", ""]
    assert broken.end() == "\N{REPLACEMENT CHARACTER}"


def test_what_does_not_fit_the_context_is_refused_with_what_to_do(service: ChatService) -> None:
    with pytest.raises(RequestError, match="leave out its oldest turns") as refused:
        service.begin(Conversation(prompt="a" * 1100))
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(RequestError, match="ask for a shorter answer"):
        service.begin(Conversation(prompt="a" * 900, max_tokens=500))
    assert service.begin(Conversation(prompt="a" * 900)).most < 256
    with pytest.raises(RequestError, match="no model 'nonesuch'; choose one of tuned, tiny, other"):
        service.begin(Conversation(prompt="a", model="nonesuch"))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": ""},
        {"prompt": "a", "messages": [{"role": "user", "content": "b"}]},
        {"messages": []},
        {"messages": [{"role": "robot", "content": "a"}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"messages": [{"role": "user", "content": "a" * 1_000_000}]},
        {"prompt": "a", "max_tokens": 0},
        {"prompt": "a", "temperature": -1},
        {"prompt": "a", "top_p": 0},
        {"prompt": "a", "stop": [""]},
        {"prompt": "a", "top_logprobs": 21},
        {"promt": "a"},
        {"prompt": "half of a pair: \ud800"},
    ],
)
def test_impossible_items_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Conversation(**fields)


def test_a_user_cannot_end_the_turn(service: ChatService) -> None:
    plain = service.begin(Conversation(prompt="<|im_end|>")).writing.prompt
    assert list(plain).count(service.tokenizer.end) == 1
