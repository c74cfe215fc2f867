"""Theme of all demo pages, and the frame that says which model and data a page shows."""

import html
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.themes.utils import fonts, sizes

from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.onnx_model import OnnxModel

CSS = """
.gradio-container { width: 100%; max-width: 62rem !important; margin: 0 auto !important; padding: 0 !important; }
.gradio-container > .main { padding: 1rem 1.25rem !important; max-width: none !important; }
.gradio-container .html-container { padding: 0; }
.dl-head h1 { font-size: clamp(1.4rem, 4.5vw, 2rem); line-height: 1.2; margin: .25rem 0; }
.dl-head h1 span { color: var(--body-text-color-subdued); font-weight: 400; }
.dl-head p { margin: .15rem 0; color: var(--body-text-color-subdued); max-width: 46rem; }
.dl-facts { display: flex; flex-wrap: wrap; gap: .4rem; margin: .6rem 0 0; padding: 0; list-style: none; }
.dl-facts li { margin: 0; padding: .15rem .65rem; border-radius: 999px; font-size: .85rem;
  border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary); }
.dl-facts .dl-sample { background: #fde68a; border-color: #d97706; color: #78350f; font-weight: 600; }
.dl-foot { color: var(--body-text-color-subdued); font-size: .85rem; text-align: center; margin-top: 1rem; }
.dl-foot a { color: inherit; }
"""


def theme() -> gr.themes.Base:
    """Returns a theme for light and dark mode, with fonts that this server carries itself."""
    return gr.themes.Soft(
        primary_hue="blue",
        secondary_hue="cyan",
        neutral_hue="slate",
        radius_size=sizes.radius_lg,
        # Of the fonts that gradio carries, many lack most letters (Source Sans 3 has 61); this one is whole.
        font=[
            fonts.LocalFont("IBM Plex Sans", weights=(400, 700)),
            "Noto Sans SC",
            "PingFang SC",
            "Microsoft YaHei",
            "system-ui",
            "sans-serif",
        ],
        font_mono=["ui-monospace", "SFMono-Regular", "Consolas", "monospace"],
    ).set(
        block_border_width="1px",
        block_shadow="none",
        block_label_text_weight="500",
        # Contrast of at least 4.5 to 1, which the preset's paler shades do not reach.
        body_text_color_subdued="*neutral_500",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        # Labels are text, not pills; what can be typed into and clicked on has an edge.
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_title_background_fill="none",
        block_title_padding="0",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        button_border_width="1px",
        button_secondary_background_fill="*neutral_100",
        button_secondary_background_fill_hover="*neutral_200",
        button_secondary_background_fill_dark="*neutral_700",
        button_secondary_background_fill_hover_dark="*neutral_600",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_shadow="none",
        button_secondary_shadow="none",
    )


def _metric(name: str, value: Any) -> str:
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{name.replace('_', ' ')} {shown}"


def _facts(model: OnnxModel) -> str:
    data = html.escape(model.data_name)
    if model.data_is_builtin:
        note = "built-in sample data, not the real task · 内置样例数据，非真实任务"
        facts = [f'<li class="dl-sample" title="{note}">sample data · 样例数据: {data}</li>']
    else:
        facts = [f"<li>data · 数据: {data}</li>"]
    for name, value in list(model.metrics.items())[:1]:
        if isinstance(value, int | float | str):
            facts.append(f"<li>{html.escape(_metric(name, value))}</li>")
    if model.metadata.get("run"):
        facts.append(f"<li>run · 运行: {html.escape(model.metadata['run'])}</li>")
    facts.append("<li>ONNX Runtime · CPU</li>")
    return f'<ul class="dl-facts">{"".join(facts)}</ul>'


@contextmanager
def page_frame(title: LocalizedText, summary: LocalizedText, model: OnnxModel) -> Iterator[gr.Blocks]:
    """Builds a page with its header and footer; what the block adds comes between them.

    with page_frame(title, summary, model) as page:
        picture = gr.Image(type="filepath")
    return page
    """
    licence = html.escape(model.metadata.get("licence", "Apache-2.0"))
    header = (
        f"<h1>{html.escape(title.en)} <span>{html.escape(title.zh)}</span></h1>"
        f"<p>{html.escape(summary.en)}</p><p lang='zh'>{html.escape(summary.zh)}</p>{_facts(model)}"
    )
    links = (
        '<a href="docs">REST API</a> · <a href="v1/model">model card · 模型卡</a> · '
        f"model licence · 模型许可证: {licence}"
    )
    with gr.Blocks(title=f"{title.en} · {title.zh}", analytics_enabled=False) as page:
        gr.HTML(f'<header class="dl-head">{header}</header>', padding=False)
        yield page
        gr.HTML(f'<footer class="dl-foot">{links}</footer>', padding=False)
