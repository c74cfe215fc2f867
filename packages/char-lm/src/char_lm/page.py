"""The page: a beginning, and a model that writes on, letter by letter, with what else it might have written."""

import html
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

import gradio as gr
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.serving.service import PagePredict
from dlcommon.runtime.serving.theme import page_frame

if TYPE_CHECKING:
    from dlcommon.runtime.onnx_model import OnnxModel

    from char_lm.service import CharService, Continuation, Prompt

CSS = """
#written { font-family: ui-monospace, SFMono-Regular, Consolas, monospace; white-space: pre-wrap; line-height: 1.5;
  min-height: 18rem; max-height: 32rem; overflow-y: auto; overflow-wrap: anywhere;
  padding: .75rem; border-radius: .5rem;
  border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary); }
#written .given { color: var(--body-text-color-subdued); }
#written span[title]:hover { background: #fde68a; color: #78350f; }
"""
REFRESH = 0.08
"""Seconds between two states of the page."""
BEGINNINGS = ("ROMEO:\n", "To be, or not to be", "KING HENRY:\nWhat news, my lord?\n\n")


def letter(piece: "Continuation") -> str:
    """Renders a token as HTML, with the distribution it was drawn from as its tooltip."""
    told = "  ".join(f"{shown(text)} {100 * share:.0f}%" for text, share in piece.next.items())
    return f'<span title="{html.escape(told)}">{html.escape(piece.text)}</span>'


def shown(text: str) -> str:
    """Replaces a token that a tooltip cannot show, such as white space."""
    return {" ": "␣", "\n": "↵", "\t": "⇥", "": "…"}.get(text, text)


def described(name: str, model: "OnnxModel") -> str:
    """Labels a model in the choice: which text it has read, and what it is."""
    sample = " (sample data · 样例数据)" if model.data_is_builtin else ""
    return f"{model.data_name}{sample}: {model.metadata['network']} ({name})"


def written(prompt: str, letters: list[str], replaced: Mapping[str, str] | None = None) -> str:
    text = f'<div id="written"><span class="given">{html.escape(prompt)}</span>{"".join(letters)}</div>'
    if not replaced:
        return text
    pairs = ", ".join(f"{unknown!r} → {plain!r}" for unknown, plain in replaced.items())
    return f'{text}<p id="replaced">Not in the vocabulary, read as · 词表中没有，读作：{html.escape(pairs)}</p>'


def build_page(
    title: LocalizedText, summary: LocalizedText, service: "CharService", predict: "PagePredict[Prompt, Continuation]"
) -> gr.Blocks:
    item = service.item

    async def write(
        prompt: str, tokens: float, temperature: float, model: str
    ) -> AsyncIterator[tuple[str, dict[str, float] | None, str]]:
        letters: list[str] = []
        started, due, last = time.monotonic(), 0.0, None
        asked = {"prompt": prompt, "tokens": int(tokens), "temperature": temperature, "model": model}
        async for last in predict.stream(item.model_validate(asked)):
            if last.text:
                letters.append(letter(last))
            if time.monotonic() >= due:
                due = time.monotonic() + REFRESH
                yield written(prompt, letters, last.replaced), bars(last), speed_since(started, letters)
        if last is not None:
            yield written(prompt, letters, last.replaced), bars(last), speed_since(started, letters)

    def speed_since(started: float, letters: list[str]) -> str:
        return f"{len(letters) / (time.monotonic() - started):.0f}"

    def bars(piece: "Continuation") -> dict[str, float]:
        return {shown(text): share for text, share in piece.next.items()}

    with page_frame(title, summary, service.model) as page:
        gr.HTML(f"<style>{CSS}</style>", padding=False)
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                prompt = gr.Textbox(
                    BEGINNINGS[0], label="Beginning · 开头", lines=4, max_lines=12, max_length=20_000, elem_id="prompt"
                )
                with gr.Row():
                    start = gr.Button("Write on · 续写", variant="primary", elem_id="write")
                    stop = gr.Button("Stop · 停止", elem_id="stop")
                page_text = gr.HTML(written("", []), padding=False, elem_id="text")
            with gr.Column(scale=2, min_width=260):
                model = gr.Dropdown(
                    [(described(name, one), name) for name, one in service.models.items()],
                    value=service.model.name, label="Model and text · 模型与文本", elem_id="model",
                    visible=len(service.models) > 1,
                )  # fmt: skip
                temperature = gr.Slider(0, 2, 0.8, step=0.05, label="Temperature · 温度")
                tokens = gr.Slider(20, 2000, 300, step=20, label="Length · 长度")
                following = gr.Label(label="Next character · 下一个字符", num_top_classes=5, elem_id="next")
                speed = gr.Textbox(label="Letters per second · 每秒字数", interactive=False, elem_id="speed")
        gr.Markdown(
            "Hover over a letter to see what else might have stood there. · 将鼠标停在字母上，可看到其他候选。",
            elem_id="hint",
        )
        writing = start.click(
            write, [prompt, tokens, temperature, model], [page_text, following, speed],
            show_progress="hidden", trigger_mode="once",
        )  # fmt: skip
        stop.click(None, cancels=[writing])
    return page
