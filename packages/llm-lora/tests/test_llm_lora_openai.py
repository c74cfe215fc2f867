"""OpenAI's protocol, spoken by OpenAI's own client with a real server."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from dlcommon.testing.raw_http import Target
from dlcommon.testing.server_process import ServerProcess
from openai import OpenAI

QUESTION: list[Any] = [{"role": "user", "content": "Name a river."}]


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as made:
        yield made


def test_models_are_listed_beside_the_servers_own_cards(client: OpenAI, server: ServerProcess) -> None:
    assert [model.id for model in client.models.list()] == ["tuned", "tiny", "other"]
    assert client.models.retrieve("other").object == "model"
    with pytest.raises(openai.NotFoundError, match="choose one of tuned, tiny, other"):
        client.models.retrieve("nonesuch")
    card = json.loads(Target(server.address, {}, None).request("GET", "/v1/models").body)["models"][0]
    assert (card["name"], card["capstone"]) == ("tuned", "llm-lora")


def test_an_answer_has_its_reason_and_its_usage(client: OpenAI) -> None:
    found = client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=7, temperature=0)
    assert found.model == "tuned"
    (choice,) = found.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert found.usage is not None
    assert found.usage.completion_tokens == 7
    assert found.usage.total_tokens == found.usage.prompt_tokens + 7
    again = client.chat.completions.create(model="tuned", messages=QUESTION, max_completion_tokens=7, temperature=0)
    assert again.choices[0].message.content == choice.message.content
    others = {
        client.chat.completions.create(model=name, messages=QUESTION, max_tokens=7, temperature=0)
        .choices[0]
        .message.content
        for name in ("tuned", "tiny", "other")
    }
    assert len(others) == 3


def test_a_stream_is_the_same_answer_in_pieces_and_ends_with_the_usage(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "other", "messages": QUESTION, "max_tokens": 12, "seed": 3}
    whole = client.chat.completions.create(**asked, temperature=1)
    chunks = list(
        client.chat.completions.create(**asked, temperature=1, stream=True, stream_options={"include_usage": True})
    )
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == whole.choices[0].message.content
    assert len([delta for delta in deltas if delta]) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks[:-1])
    without = list(client.chat.completions.create(**asked, temperature=1, stream=True))
    assert all(chunk.choices for chunk in without)


def test_log_probabilities_and_stop_strings(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tuned", "messages": QUESTION, "max_tokens": 8, "temperature": 0}
    found = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    assert found.choices[0].logprobs is not None
    content = found.choices[0].logprobs.content
    assert content is not None
    assert len(content) == 8
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in content)
    streamed = [
        token
        for chunk in client.chat.completions.create(**asked, logprobs=True, stream=True)
        if chunk.choices[0].logprobs is not None
        for token in chunk.choices[0].logprobs.content or []
    ]
    assert [token.token for token in streamed] == [token.token for token in content]
    text = found.choices[0].message.content or ""
    stopped = client.chat.completions.create(**asked, stop=text[2:4])
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].message.content == text[: text.index(text[2:4])]


def test_a_conversation_goes_on_with_the_clients_own_message_objects(client: OpenAI) -> None:
    first = client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=5, temperature=0)
    parts = {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "another?"}]}
    messages = [*QUESTION, first.choices[0].message, parts]
    second = client.chat.completions.create(model="tiny", messages=messages, max_tokens=5, n=1, presence_penalty=0)
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"n": 2}, "n", "`n` is not supported"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "`tools` is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "not supported"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "not supported"),
        ({"extra_body": {"beam": 4}}, "beam", "no parameter `beam`"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages.0.role", "'system', 'user' or 'assistant'"),
        ({"messages": [{"role": "user", "content": ""}]}, None, "at least 1 character"),
        ({"messages": [*QUESTION, {"role": "assistant", "content": "a"}]}, None, "must be the user's"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            "messages.0.content",
            "not image_url",
        ),
        ({"messages": [{**QUESTION[0], "name": "Ada"}]}, "messages.0", "name is not supported"),
        ({"messages": [{"role": "user", "content": "a" * 1_000_000}]}, None, "leave out its oldest turns"),
        ({"messages": [{"role": "user", "content": "a" * 1100}]}, "messages", "context of 1,024"),
        ({"temperature": 3}, None, "temperature"),
        ({"max_tokens": 0}, None, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", "mean the same"),
        ({"top_logprobs": 2}, "top_logprobs", "needs `logprobs`"),
        ({"logprobs": True, "top_logprobs": 21}, None, "top_logprobs"),
        ({"stop": [""]}, None, "stop"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    client: OpenAI, fields: dict[str, Any], param: str | None, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{"model": "tuned", "messages": QUESTION, **fields})
    assert words in str(refused.value)
    assert refused.value.type == "invalid_request_error"
    assert refused.value.param == param
    with pytest.raises(openai.BadRequestError):
        list(client.chat.completions.create(**{"model": "tuned", "messages": QUESTION, **fields, "stream": True}))


def test_an_unknown_model_and_a_body_that_is_no_request(client: OpenAI, server: ServerProcess) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-4", messages=QUESTION)
    assert refused.value.code == "model_not_found"
    target = Target(server.address, {}, None)
    for body, words in ((b"{", "not JSON"), (b"[]", "JSON object"), (b'{"messages": []}', "model")):
        reply = target.request("POST", "/v1/chat/completions", body, Content_Type="application/json")
        error = json.loads(reply.body)["error"]
        assert reply.status == 400
        assert words in error["message"]
        assert set(error) == {"message", "type", "param", "code"}


def test_more_than_the_queue_holds_is_told_to_try_again(client: OpenAI) -> None:
    def ask(number: int) -> str | None:
        try:
            client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=150, temperature=0)
        except openai.InternalServerError as error:
            return f"{error.status_code}, Retry-After {error.response.headers['Retry-After']}"
        return None

    with ThreadPoolExecutor(16) as pool:
        refused = list(pool.map(ask, range(16)))
    assert refused.count(None) >= 6
    assert set(refused) <= {None, "503, Retry-After 1"}


def test_a_client_that_hangs_up_frees_its_slot(client: OpenAI, server: ServerProcess) -> None:
    target = Target(server.address, {"prompt": "a", "max_tokens": 2}, None)
    before = int(target.metric('dl_items_total{outcome="abandoned"}'))
    for _ in range(3):  # as many as there are slots
        stream = client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=900, stream=True)
        next(iter(stream))
        stream.close()
    target.wait_for_items("abandoned", before + 3)
    assert client.chat.completions.create(model="tuned", messages=QUESTION, max_tokens=2).usage is not None
    assert target.metric("dl_items_in_flight") == 0
