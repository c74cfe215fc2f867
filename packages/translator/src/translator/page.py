"""The page: a text, its translation, where the model looked for each piece, and what else it might have written."""

import html
from typing import TYPE_CHECKING, Any

import gradio as gr
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.serving.service import PagePredict
from dlcommon.runtime.serving.theme import page_frame

from translator.attention_map import CSS, attention_table, chosen, pieces_list
from translator.examples import EXAMPLES

if TYPE_CHECKING:
    from dlcommon.runtime.onnx_model import OnnxModel

    from translator.service import Text, TranslatedSentence, TranslatedText, TranslationService
    from translator.translation import Translator

Sentences = list[dict[str, Any]]


def described(name: str, model: "OnnxModel") -> str:
    """Labels a model in the choice: its direction, data and network."""
    sample = " (sample data · 样例数据)" if model.data_is_builtin else ""
    facts = model.metadata
    return f"{facts['source']} → {facts['target']}: {model.data_name}{sample}, {facts['network']} ({name})"


def notes(answer: "TranslatedText") -> str:
    """Says what a reader should know about a translation; empty where there is nothing to say."""
    said = []
    if answer.unknown:
        named = " ".join(answer.unknown[:20])
        said.append(f"Unknown to the model: {named} · 模型不认识：{named}")
    if answer.cut:
        said.append("A sentence was too long and was cut. · 有句子过长，被截断。")
    return "<br>".join(html.escape(one) for one in said)


def alternatives(sentences: "list[TranslatedSentence]") -> list[list[str]]:
    """Lists all translations of all sentences with their scores."""
    return [[f"{one.score:.3f}", one.text] for sentence in sentences for one in sentence.alternatives]


def source_text(translator: "Translator", text: str | None = None) -> dict[str, Any]:
    """Returns the label and the content of the text to translate: this one, else an example in the model's language."""
    written = text or EXAMPLES.get(translator.source, ("",))[0]
    return {"label": f"Text ({translator.source}) · 原文", "value": written}


def samples(translator: "Translator") -> dict[str, Any]:
    """Returns the examples in the model's language; none where there are none."""
    sentences = EXAMPLES.get(translator.source, ())
    return {"samples": [[one] for one in sentences], "visible": bool(sentences)}


def views(sentences: Sentences, number: str, layer: str, head: str) -> tuple[str, str]:
    """Draws the attention and the pieces of one sentence; numbers count from 1."""
    if not sentences:
        return "", ""
    sentence = sentences[min(int(number), len(sentences)) - 1]
    weights = chosen(sentence["attention"], layer, head)
    pieces = pieces_list(sentence["source_pieces"]) + pieces_list(sentence["pieces"])
    return attention_table(weights, sentence["pieces"], sentence["source_pieces"]), pieces


def build_page(
    title: LocalizedText,
    summary: LocalizedText,
    service: "TranslationService",
    predict: "PagePredict[Text, TranslatedText]",
) -> gr.Blocks:
    item = service.item
    first = service.translators[service.model.name]

    async def translate(text: str, beams: float, penalty: float, model: str) -> tuple[Any, ...]:
        asked = {"text": text, "beams": int(beams), "alternatives": int(beams), "length_penalty": penalty}
        answer = await predict(item.model_validate({**asked, "attention": True, "model": model}))
        sentences = [sentence.model_dump() for sentence in answer.sentences]
        translator = service.translators[model]
        numbers = gr.Dropdown(
            [str(number + 1) for number in range(len(sentences))], value="1", visible=len(sentences) > 1
        )
        layers, heads = (
            gr.Dropdown(["all", *(str(number + 1) for number in range(count))], value="all")
            for count in (translator.layers, translator.heads)
        )
        table, pieces = views(sentences, "1", "all", "all")
        listed = alternatives(answer.sentences)
        return answer.translation, notes(answer), listed, sentences, table, pieces, numbers, layers, heads

    def example(number: int, model: str) -> str:
        return EXAMPLES[service.translators[model].source][number]

    def directed(model: str, text: str | None = None) -> tuple[Any, ...]:
        """Updates what depends on the model; nothing of the translation before is left."""
        translator, back = service.translators[model], service.reversed(model) is not None
        swap = gr.Button(interactive=back)
        written, shown = gr.Textbox(**source_text(translator, text)), gr.Dataset(**samples(translator))
        return written, shown, swap, "", "", [], [], "", ""

    def swapped(model: str, translation: str) -> tuple[Any, ...]:
        """Chooses the model of the other direction, and gives it the translation."""
        other = service.reversed(model) or model
        return other, *directed(other, translation)

    with page_frame(title, summary, service.model) as page:
        gr.HTML(f"<style>{CSS}</style>", padding=False)
        # A hidden component instead of a `gr.State`, whose heartbeat would keep a connection open.
        sentences = gr.JSON([], visible=False)
        with gr.Row(visible=len(service.models) > 1, equal_height=True):
            model = gr.Dropdown(
                [(described(name, one), name) for name, one in service.models.items()],
                value=service.model.name, label="Direction and model · 方向与模型", elem_id="model", scale=4,
                min_width=280,
            )  # fmt: skip
            swap = gr.Button(
                "⇄ Swap · 互换", elem_id="swap", scale=1, min_width=140,
                interactive=service.reversed(service.model.name) is not None,
            )  # fmt: skip
        with gr.Row():
            with gr.Column(min_width=300):
                text = gr.Textbox(**source_text(first), lines=4, max_lines=12, max_length=20_000, elem_id="text")
                start = gr.Button("Translate · 翻译", variant="primary", elem_id="translate")
            with gr.Column(min_width=300):
                translation = gr.Textbox(
                    label="Translation · 译文", lines=4, max_lines=12, interactive=False, elem_id="translation"
                )
                note = gr.HTML("", padding=False, elem_id="notes")
        examples = gr.Dataset(
            components=[gr.Textbox(visible=False)], type="index", **samples(first), label="Examples · 例句",
            elem_id="examples",
        )  # fmt: skip
        with gr.Accordion("Search · 搜索", open=False):
            beams = gr.Slider(1, 10, 5, step=1, label="Beams · 束宽")
            penalty = gr.Slider(0, 2, 1, step=0.1, label="Length penalty · 长度惩罚")
        gr.Markdown("### Where it looked · 注意力\nEach row is a piece of the translation. · 每行是译文的一个子词。")
        with gr.Row():
            number = gr.Dropdown(["1"], value="1", label="Sentence · 句子", visible=False, elem_id="sentence")
            layer = gr.Dropdown(["all"], value="all", label="Layer · 层", elem_id="layer")
            head = gr.Dropdown(["all"], value="all", label="Head · 头", elem_id="head")
        table = gr.HTML("", padding=False, elem_id="attention")
        pieces = gr.HTML("", padding=False, elem_id="pieces")
        others = gr.Dataframe(
            headers=["score · 得分", "translation · 译文"], label="What else it found · 其他译文", interactive=False,
            wrap=True, elem_id="alternatives",
        )  # fmt: skip
        outputs = [translation, note, others, sentences, table, pieces, number, layer, head]
        gr.on(
            [start.click, text.submit], translate, [text, beams, penalty, model], outputs, trigger_mode="once",
            show_progress="hidden",
        )  # fmt: skip
        changed = [text, examples, swap, translation, note, others, sentences, table, pieces]
        model.input(directed, [model], changed, show_progress="hidden")
        swap.click(swapped, [model, translation], [model, *changed], show_progress="hidden")
        examples.click(example, [examples, model], [text], show_progress="hidden")
        for choice in (number, layer, head):
            choice.input(views, [sentences, number, layer, head], [table, pieces], show_progress="hidden")
    return page
