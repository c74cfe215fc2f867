"""The page: a chat with two models side by side, token by token, with what else they might have said."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import gradio as gr
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.serving.service import PagePredict
from dlcommon.runtime.serving.theme import page_frame

from llm_lora.chat_view import CSS, Side, Turn, messages, new_turn, rendered, token_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from llm_lora.service import ChatService, Conversation, Reply

REFRESH = 0.08
"""Seconds between two states of the page."""
SHOWN = 5
"""Most probable tokens in a tooltip."""
MAX_CHARACTERS = 4000
SIDES: tuple[Side, Side] = ("left", "right")
QUESTIONS = ("What is the capital of France?", "Name three primary colors.", "Write a haiku about the sea.")
REASONS = {"length": "cut at its length · 到达长度上限", "stop": "finished · 答完", "": ""}
Shown = tuple[list[Turn], str, str, str]
"""The turns, both sides, and the box of the next question."""


class Talk:
    """Asks the models and follows their answers."""

    def __init__(self, service: "ChatService", predict: "PagePredict[Conversation, Reply]") -> None:
        self._item, self._predict = service.item, predict

    async def answer(
        self, turns: list[Turn], names: Sequence[str | None], temperature: float, tokens: float
    ) -> AsyncIterator[Shown]:
        """Yields the page while both models answer the last question at the same time."""
        seed = secrets.randbelow(2**31)
        asked = [(side, name) for side, name in zip(SIDES, names, strict=True) if name]
        following = [
            asyncio.create_task(self._follow(turns, side, name, temperature, int(tokens), seed)) for side, name in asked
        ]
        try:
            pending = set(following)
            while pending:
                _, pending = await asyncio.wait(pending, timeout=REFRESH)
                yield turns, rendered(turns, "left"), rendered(turns, "right"), ""
            for task in following:
                task.result()  # a refusal is shown by the page
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    async def _follow(
        self, turns: list[Turn], side: Side, name: str, temperature: float, tokens: int, seed: int
    ) -> None:
        turn, started, count = turns[-1], time.monotonic(), 0
        conversation = {
            "messages": messages(turns, side),
            "model": name,
            "temperature": temperature,
            "max_tokens": tokens,
            "seed": seed,
            "top_logprobs": SHOWN,
        }
        stream = cast("AsyncGenerator[Reply, None]", self._predict.stream(self._item.model_validate(conversation)))
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                turn[side].append(token_of(piece))
                count = piece.completion_tokens
                speed = f"{count / (time.monotonic() - started):.0f} tokens/s · 词元/秒"
                reason = REASONS[piece.finish_reason]
                turn["notes"][side] = "  ".join(part for part in (name, speed, reason) if part)


def build_page(
    title: LocalizedText, summary: LocalizedText, service: "ChatService", predict: "PagePredict[Conversation, Reply]"
) -> gr.Blocks:
    talk = Talk(service, predict)
    names = list(service.catalog.names)

    def chosen(left: str, right: str, compare: bool) -> tuple[str, str | None]:
        return left, right if compare else None

    async def send(
        question: str, turns: list[Turn], left: str, right: str, compare: bool, temperature: float, tokens: float
    ) -> AsyncIterator[Shown]:
        if not question.strip():
            raise gr.Error("Type a question first. · 请先输入问题。", print_exception=False)
        turns = [*turns, new_turn(question.strip())]
        async for page in talk.answer(turns, chosen(left, right, compare), temperature, tokens):
            yield page

    async def again(
        turns: list[Turn], left: str, right: str, compare: bool, temperature: float, tokens: float
    ) -> AsyncIterator[Shown]:
        if not turns:
            raise gr.Error("There is no answer yet. · 还没有回答。", print_exception=False)
        turns = [*turns[:-1], new_turn(turns[-1]["question"])]
        async for page in talk.answer(turns, chosen(left, right, compare), temperature, tokens):
            yield page

    def clear() -> Shown:
        return [], rendered([], "left"), rendered([], "right"), ""

    with page_frame(title, summary, service.model) as page:
        gr.HTML(f"<style>{CSS}</style>", padding=False)
        turns = gr.State([])
        with gr.Row():
            with gr.Column(min_width=280):
                left = gr.Dropdown(names, value=names[0], label="Model · 模型", elem_id="left-model")
                left_chat = gr.HTML(rendered([], "left"), padding=False, elem_id="left")
            with gr.Column(min_width=280, visible=len(names) > 1) as other:
                right = gr.Dropdown(
                    names, value=names[min(1, len(names) - 1)], label="Beside it · 对照模型", elem_id="right-model"
                )
                right_chat = gr.HTML(rendered([], "right"), padding=False, elem_id="right")
        question = gr.Textbox(
            label="Your question, in English · 你的问题（英文）", placeholder=QUESTIONS[0], lines=2, max_lines=8,
            max_length=MAX_CHARACTERS, elem_id="question",
        )  # fmt: skip
        with gr.Row():
            start = gr.Button("Send · 发送", variant="primary", elem_id="send")
            stop = gr.Button("Stop · 停止", elem_id="stop")
            retry = gr.Button("Answer again · 重新回答", elem_id="again")
            fresh = gr.Button("New chat · 新对话", elem_id="clear")
        gr.Examples([[one] for one in QUESTIONS], question, label="Questions · 示例问题")
        with gr.Accordion("Settings · 设置", open=False):
            compare = gr.Checkbox(len(names) > 1, label="Two models side by side · 并排比较", visible=len(names) > 1)
            temperature = gr.Slider(0, 2, 0.0, step=0.05, label="Temperature (0: always the same answer) · 温度")
            tokens = gr.Slider(8, 512, 128, step=8, label="Longest answer, in tokens · 最长回答（词元）")
        gr.Markdown(
            "The model reads and writes English; it is small and often wrong. Hover over a word to see what else might "
            "have stood there; the redder the line below it, the less sure the model was. · 模型只懂英文，规模很小，"
            "经常出错。将鼠标停在词上，可看到其他候选；下划线越红，模型越没有把握。",
            elem_id="hint",
        )
        settings = [turns, left, right, compare, temperature, tokens]
        shown = [turns, left_chat, right_chat, question]
        sending = [
            gr.on(
                [start.click, question.submit], send, [question, *settings], shown,
                show_progress="hidden", trigger_mode="once", api_name="send",
            ),
            retry.click(again, settings, shown, show_progress="hidden", trigger_mode="once", api_name="again"),
        ]  # fmt: skip
        stop.click(None, cancels=sending)
        fresh.click(clear, None, shown, cancels=sending, api_name="clear")
        compare.change(lambda on: gr.Column(visible=on), compare, other, api_visibility="private")
    return page
