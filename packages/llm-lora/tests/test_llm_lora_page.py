"""The chat in a browser."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest
from dlcommon.runtime.serving.service import PagePredict
from dlcommon.testing.browser import DESKTOP, PHONE, check_no_sideways_scrolling, opened, screenshot
from dlcommon.testing.raw_http import Target
from dlcommon.testing.server_process import ServerProcess
from llm_lora.chat_view import Token, Turn, messages, new_turn, rendered
from llm_lora.page import Shown, Talk
from llm_lora.service import ChatService, Conversation, Reply

# The page keeps a connection open for its state, and is never idle: hence until="load".
ENDED = re.compile("finished|cut")


@pytest.mark.browser
@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_two_models_answer_side_by_side_token_by_token(
    server: ServerProcess, window: tuple[int, int], tmp_path: Path
) -> None:
    with opened(server.url, window, until="load") as page:
        page.locator("#question textarea").fill("Name a <b>river</b>.")
        page.locator("#send").click()
        for side in ("left", "right"):
            page.locator(f"#{side} .note", has_text=ENDED).wait_for()
            assert page.locator(f"#{side} .user").inner_text() == "Name a <b>river</b>."
        told = page.locator("#left .model span").nth(5).get_attribute("title") or ""
        assert len(re.findall(r"\d+%", told)) == 5
        texts = [page.locator(f"#{side} .model").inner_text() for side in ("left", "right")]
        assert texts[0] != texts[1]
        check_no_sideways_scrolling(page)
        screenshot(page, f"llm-lora-{'phone' if window == PHONE else 'desktop'}", tmp_path)


@pytest.mark.browser
def test_the_adapter_is_switched_and_a_question_answered_again(server: ServerProcess) -> None:
    with opened(server.url, until="load") as page:
        page.locator("#send").click()
        page.get_by_text("Type a question first.").first.wait_for()
        page.locator("#question textarea").fill("a")
        page.locator("#send").click()
        page.locator("#left .note", has_text=ENDED).wait_for()
        page.locator("#right .note", has_text=ENDED).wait_for()
        first = page.locator("#left .model").inner_text()
        assert page.locator("#left .note").inner_text().startswith("tuned")
        page.locator("#left-model input").click()
        page.get_by_role("option").filter(has_text="other").click()
        page.locator("#again").click()
        page.locator("#left .note", has_text=re.compile("^other.*(finished|cut)")).wait_for()
        assert page.locator("#left .model").inner_text() != first
        assert page.locator("#left .user").count() == 1
        page.locator("#clear").click()
        page.locator("#left .user").wait_for(state="detached")


def test_a_stop_closes_both_streams_and_keeps_what_was_written(service: ChatService) -> None:
    closed: list[str] = []

    class Endless:
        async def stream(self, item: Conversation) -> AsyncIterator[Reply]:
            try:
                while True:
                    yield Reply(text="a", model="", finish_reason="", prompt_tokens=1, completion_tokens=1, logprobs=[])
                    await asyncio.sleep(0)
            finally:
                closed.append(str(item.model))

    async def follow(turns: list[Turn]) -> None:
        talk = Talk(service, cast("PagePredict[Conversation, Reply]", Endless()))
        shown = talk.answer(turns, ("tuned", "tiny"), 0.0, 64)
        async with aclosing(cast("AsyncGenerator[Shown, None]", shown)) as pages:
            async for page in pages:
                assert page[0] is turns
                break

    turns = [new_turn("q")]
    asyncio.run(follow(turns))
    assert sorted(closed) == ["tiny", "tuned"]
    assert turns[0]["left"]
    assert turns[0]["right"]


def test_the_stop_button_cancels_what_writes(server: ServerProcess) -> None:
    events = json.loads(Target(server.address, {}, None).request("GET", "/config").body)["dependencies"]
    writing = {event["id"] for event in events if event["api_name"] in ("send", "again")}
    assert len(writing) == 2
    assert [set(event["cancels"]) for event in events].count(writing) == 2  # of Stop and of New chat


def test_a_conversation_holds_each_models_own_answers() -> None:
    turn, stopped = new_turn("a?"), new_turn("b?")
    turn["left"].append(Token(text="<A>", told='"', doubt=0.5))
    assert messages([turn, stopped], "left") == [
        {"role": "user", "content": "a?"},
        {"role": "assistant", "content": "<A>"},
        {"role": "user", "content": "b?"},
    ]
    assert [one["role"] for one in messages([turn, stopped], "right")] == ["user", "user"]
    assert "&lt;A&gt;" in rendered([turn], "left")
    assert 'title="&quot;"' in rendered([turn], "left")
