"""The chat in a browser."""

import re
from pathlib import Path

import pytest
from dlcommon.testing.browser import DESKTOP, PHONE, check_no_sideways_scrolling, opened, screenshot
from dlcommon.testing.raw_http import Target
from dlcommon.testing.server_process import ServerProcess
from llm_lora.chat_view import Token, messages, new_turn, rendered

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_two_models_answer_side_by_side_token_by_token(
    server: ServerProcess, window: tuple[int, int], tmp_path: Path
) -> None:
    with opened(server.url, window) as page:
        page.locator("#question textarea").fill("Name a <b>river</b>.")
        page.locator("#send").click()
        for side in ("left", "right"):
            page.locator(f"#{side} .note", has_text="tokens/s").wait_for()
            page.locator(f"#{side} .model span").nth(40).wait_for(state="attached")
            assert page.locator(f"#{side} .user").inner_text() == "Name a <b>river</b>."
        told = page.locator("#left .model span").nth(5).get_attribute("title") or ""
        assert len(re.findall(r"\d+%", told)) == 5
        page.get_by_text("ended at its length").nth(1).wait_for()
        texts = [page.locator(f"#{side} .model").inner_text() for side in ("left", "right")]
        assert texts[0] != texts[1]
        check_no_sideways_scrolling(page)
        screenshot(page, f"llm-lora-{'phone' if window == PHONE else 'desktop'}", tmp_path)


def test_the_adapter_is_switched_and_a_question_answered_again(server: ServerProcess) -> None:
    with opened(server.url) as page:
        page.locator("#send").click()
        page.get_by_text("Type a question first.").first.wait_for()
        page.locator("#question textarea").fill("a")
        page.locator("#send").click()
        page.locator("#left .note", has_text="ended at its length").wait_for()
        page.locator("#right .note", has_text="ended at its length").wait_for()
        first = page.locator("#left .model").inner_text()
        assert page.locator("#left .note").inner_text().startswith("tuned")
        page.locator("#left-model input").click()
        page.get_by_role("option").filter(has_text="other").click()
        page.locator("#again").click()
        page.locator("#left .note", has_text=re.compile("^other.*ended at its length")).wait_for()
        assert page.locator("#left .model").inner_text() != first
        assert page.locator("#left .user").count() == 1
        page.locator("#clear").click()
        page.locator("#left .user").wait_for(state="detached")


def test_it_stops_when_told_and_keeps_what_was_written(server: ServerProcess) -> None:
    target = Target(server.address, {"prompt": "a", "max_tokens": 1}, None)
    before = int(target.metric('dl_items_total{outcome="abandoned"}'))
    with opened(server.url) as page:
        page.get_by_text("Settings").click()
        page.get_by_label("number input for Longest answer, in tokens · 最长回答（词元）").fill("512")
        page.locator("#question textarea").fill("a")
        page.locator("#send").click()
        page.locator("#left .model span").nth(3).wait_for(state="attached")
        page.locator("#stop").click()
        target.wait_for_items("abandoned", before + 2)
        assert target.metric("dl_items_in_flight") == 0
        assert 3 < page.locator("#left .model span").count() < 512


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
