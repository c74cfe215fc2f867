"""The page: what would this house sell for and why, how the price moves, and a file of houses to price."""

import functools
import html
import json
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.serving.service import PagePredict
from dlcommon.runtime.serving.theme import page_frame
from dlcommon.runtime.tables.columns import Column, as_arrays
from dlcommon.runtime.tables.items import Row
from dlcommon.runtime.tables.page import CSS as TABLE_CSS
from dlcommon.runtime.tables.page import field, file_tab, html_table, moved_list, row_of, unusual_note

from house_prices.service import HouseService, Price

CSS = TABLE_CSS + (Path(__file__).parent / "page.css").read_text(encoding="utf-8")

FIELDS = {
    "Neighborhood": LocalizedText("Neighbourhood", "街区"),
    "GrLivArea": LocalizedText("Living area, sq ft", "居住面积（平方英尺）"),
    "OverallQual": LocalizedText("Quality, 1 to 10", "整体质量（1–10）"),
    "OverallCond": LocalizedText("Condition, 1 to 10", "整体状况（1–10）"),
    "YearBuilt": LocalizedText("Built in", "建造年份"),
    "YearRemodAdd": LocalizedText("Last works in", "最近翻修年份"),
    "1stFlrSF": LocalizedText("First floor, sq ft", "一层面积"),
    "2ndFlrSF": LocalizedText("Second floor, sq ft", "二层面积"),
    "TotalBsmtSF": LocalizedText("Basement, sq ft", "地下室面积"),
    "LotArea": LocalizedText("Lot, sq ft", "地块面积"),
    "FullBath": LocalizedText("Bathrooms", "卫生间"),
    "BedroomAbvGr": LocalizedText("Bedrooms", "卧室"),
    "GarageCars": LocalizedText("Garage, cars", "车库车位"),
    "Fireplaces": LocalizedText("Fireplaces", "壁炉"),
    "KitchenQual": LocalizedText("Kitchen", "厨房"),
    "ExterQual": LocalizedText("Outside", "外观"),
    "SaleCondition": LocalizedText("Kind of sale", "交易类型"),
    "CentralAir": LocalizedText("Air conditioning", "中央空调"),
}
"""The columns that the page asks for; of the others the typical value is taken."""
PLAYERS = {
    "Size": LocalizedText("Size", "面积"),
    "Quality": LocalizedText("Quality, condition", "质量与状况"),
    "Location": LocalizedText("Location", "位置"),
    "Age": LocalizedText("Age", "房龄"),
    "Basement": LocalizedText("Basement", "地下室"),
    "Garage": LocalizedText("Garage", "车库"),
    "Lot": LocalizedText("Lot", "地块"),
    "Outside": LocalizedText("Outside", "外部"),
    "Sale": LocalizedText("Sale", "交易"),
}
HEADINGS = {
    "Neighborhood": "neighbourhood · 街区",
    "YrSold": "sold in · 售出",
    "YearBuilt": "built in · 建于",
    "GrLivArea": "sq ft",
    "LotArea": "lot · 地块",
    "OverallQual": "quality · 质量",
    "BedroomAbvGr": "bedrooms · 卧室",
}
EXAMPLES: dict[LocalizedText, dict[str, Any]] = {
    LocalizedText("Family house of the sixties", "六十年代的家庭住宅"): {
        "Neighborhood": "NAmes",
        "GrLivArea": 1250,
        "1stFlrSF": 1250,
        "2ndFlrSF": 0,
        "TotalBsmtSF": 1100,
        "LotArea": 9500,
        "OverallQual": 5,
        "OverallCond": 6,
        "YearBuilt": 1962,
        "YearRemodAdd": 1985,
        "FullBath": 1,
        "BedroomAbvGr": 3,
        "GarageCars": 1,
        "Fireplaces": 0,
        "KitchenQual": "TA",
        "ExterQual": "TA",
    },
    LocalizedText("New and large", "新建大宅"): {
        "Neighborhood": "NridgHt",
        "GrLivArea": 2400,
        "1stFlrSF": 1250,
        "2ndFlrSF": 1150,
        "TotalBsmtSF": 1250,
        "LotArea": 11500,
        "OverallQual": 9,
        "OverallCond": 5,
        "YearBuilt": 2007,
        "YearRemodAdd": 2007,
        "FullBath": 3,
        "BedroomAbvGr": 4,
        "GarageCars": 3,
        "Fireplaces": 1,
        "KitchenQual": "Ex",
        "ExterQual": "Gd",
    },
    LocalizedText("Old cottage near the railway", "铁路旁的老屋"): {
        "Neighborhood": "IDOTRR",
        "GrLivArea": 850,
        "1stFlrSF": 850,
        "2ndFlrSF": 0,
        "TotalBsmtSF": 600,
        "LotArea": 6000,
        "OverallQual": 4,
        "OverallCond": 4,
        "YearBuilt": 1922,
        "YearRemodAdd": 1950,
        "FullBath": 1,
        "BedroomAbvGr": 2,
        "GarageCars": 1,
        "Fireplaces": 0,
        "KitchenQual": "Fa",
        "ExterQual": "TA",
        "CentralAir": "N",
    },
}


def dollars(value: float, signed: bool = False) -> str:
    """Rounds dollars to the nearest hundred."""
    rounded = round(value, -2)
    return f"{'+' if signed and rounded >= 0 else '-' if rounded < 0 else ''}${abs(rounded):,.0f}"


def plain(value: float | str | None) -> str:
    """Formats a year or an area without an empty fraction."""
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


def verdict(price: "Price") -> str:
    """Renders the answer's half of the page."""
    base, models = price.baseline or 0.0, ", ".join(f"{name} {dollars(v)}" for name, v in price.models.items())
    low, high = price.low / price.high, 1.0
    place = (price.price / price.high - low) / (high - low)
    moved = moved_list(price.contributions or {}, PLAYERS, lambda value: dollars(value, signed=True))
    similar = pd.DataFrame(
        [{"sold for · 售价": dollars(house.price), **{HEADINGS[k]: plain(v) for k, v in house.facts.items()}}
         for house in price.similar]
    )  # fmt: skip
    return (
        f'<div class="price">{dollars(price.price)}</div>'
        f'<div class="range"><span>{dollars(price.low)}</span><div class="line"><b style="left:{100 * place:.1f}%">'
        f"</b></div><span>{dollars(price.high)}</span></div>"
        f'<p class="note">{price.coverage:.0%} of such intervals hold the price that is paid. · '
        f"{price.coverage:.0%} 的此类区间包含实际成交价。<br>{html.escape(models)}</p>"
        f"{unusual_note(price.unusual)}"
        f"<h4>What moved the price · 影响价格的因素</h4>{moved}"
        f'<p class="note">Exact Shapley values: a house that is typical in everything costs {dollars(base)}; these '
        f"add up to the difference. · 精确 Shapley 值：各项典型的房屋为 {dollars(base)}，各项之和即为差额。</p>"
        f"<h4>Sold houses like it · 相似的已售房屋</h4>{html_table(similar)}"
    )


def build_page(
    title: LocalizedText, summary: LocalizedText, service: "HouseService", predict: "PagePredict[Row, Price]"
) -> gr.Blocks:
    with page_frame(title, summary, service.model) as page:
        with gr.Tab("Price · 估价", id="ask"):
            ask_tab(service, predict)
        with gr.Tab("Curves · 曲线", id="curves"):
            curves_tab(service)
        with gr.Tab("File · 批量", id="file"):
            file_tab(service.columns, functools.partial(prices, service))
    return page


def ask_tab(service: "HouseService", predict: "PagePredict[Row, Price]") -> None:
    by_name: dict[str, Column] = {column.name: column for column in service.columns}
    names = [name for name in FIELDS if name in by_name]
    first = next(iter(EXAMPLES.values()))

    async def ask(*values: Any) -> str:
        return verdict(await predict(row_of(service.item, names, values)))

    with gr.Row():
        with gr.Column(min_width=300):
            fields = []
            for start in range(0, len(names), 2):
                with gr.Row():
                    fields += [
                        field(by_name[name], str(FIELDS[name]), first.get(name, by_name[name].typical))
                        for name in names[start : start + 2]
                    ]
            button = gr.Button("Ask · 估价", variant="primary", elem_id="ask")
            buttons = [gr.Button(str(label), size="sm", elem_classes="example") for label in EXAMPLES]
        with gr.Column(min_width=300):
            answer = gr.HTML("", elem_id="answer", apply_default_css=False, css_template=CSS)
    events: dict[str, Any] = {"outputs": answer, "show_progress": "hidden", "api_visibility": "private"}
    button.click(ask, inputs=fields, **events)
    for example, values in zip(buttons, EXAMPLES.values(), strict=True):

        async def fill(values: dict[str, Any] = values) -> list[Any]:
            return [values.get(name, by_name[name].typical) for name in names]

        example.click(fill, outputs=fields, show_progress="hidden", api_visibility="private").then(
            ask, inputs=fields, **events
        )


def curves_tab(service: "HouseService") -> None:
    curves: dict[str, list[list[Any]]] = json.loads(service.model.metadata["dependence"])

    async def draw(name: str) -> str:
        return curve(name, curves[name])

    chosen = next(iter(curves))
    choice = gr.Dropdown(list(curves), value=chosen, label="Column · 列", elem_id="curve-column")
    shown = gr.HTML(curve(chosen, curves[chosen]), elem_id="curve", apply_default_css=False, css_template=CSS)
    gr.Markdown(
        "The mean price over sold houses if all of them had this value (partial dependence). · "
        "若所有房屋都取该值时的平均价格（部分依赖）。"
    )
    choice.input(draw, inputs=choice, outputs=shown, show_progress="hidden", api_visibility="private")


def curve(name: str, points: list[list[Any]]) -> str:
    """Values and their mean price as bars."""
    longest = max(price for _, price in points)
    ordered = sorted(points, key=lambda point: -point[1]) if isinstance(points[0][0], str) else points
    rows = "".join(
        f"<li><span>{html.escape(plain(value))}</span>"
        f'<span class="track"><i style="width:{100 * price / longest:.1f}%"></i></span>'
        f"<span>{dollars(price)}</span></li>"
        for value, price in ordered
    )
    return f"<h4>{html.escape(str(FIELDS.get(name, name)))}</h4><ol class='moved curve'>{rows}</ol>"


def prices(service: "HouseService", frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the price of each house and its interval."""
    outputs = service.model(as_arrays(frame, service.columns))
    columns = np.hstack([outputs["price"], outputs["interval"]]).round()
    return pd.DataFrame(columns, columns=["price", "low", "high"]).astype("int64")
