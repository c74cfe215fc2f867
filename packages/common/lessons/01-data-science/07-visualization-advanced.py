# %% [markdown]
# # Panels, colours and styles · 多子图、配色与样式
#
# A single plot shows two variables. A table has eighty, and the ways to show more are few and old: several panels on
# one page, the same panel repeated for each group, colour, and order. Each can help the eye or deceive it, and most of
# that can be measured before a reader sees it: whether labels collide, whether a colour map is even, whether a
# colour-blind colleague can tell two lines apart.
#
# This lesson lays out a page about houses sold in Ames, compares neighbourhoods in small multiples, sorts a matrix of
# correlations until its blocks appear, and computes what colour maps do to lightness. At the end a style turns out to
# be a dictionary.
#
# 一张图能展示两个变量，而一张表可能有八十个。展示更多变量的办法不多，也都很古老：一页放多个面板、对每个分组重复同一个面
# 板、颜色，以及排序。它们可以帮助眼睛，也可以欺骗眼睛，而且大多可以在读者看到之前先行测量：标签是否重叠、颜色映射是否均
# 匀、色盲的同事能否分辨两条线。
#
# 本课为埃姆斯的房屋成交数据排一页图，用小多图比较各个街区，把相关矩阵排序到分块显现，再计算颜色映射对明度的影响。最后会
# 看到，所谓样式不过是一个字典。

# %%
import io
from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from dlcommon.course.lesson import check, check_close, data, show, table
from matplotlib.colors import to_rgb
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

random = np.random.default_rng(0)
houses = data("house-prices", "ames").train
price = houses["SalePrice"] / 1000  # thousands of dollars
area = houses["GrLivArea"] * 0.0929  # square metres

# %% [markdown]
# ## A page of panels · 一页多图
#
# `subplot_mosaic` takes the page as a drawing of names. Without a layout engine the panels get fixed boxes, and what
# hangs out of them (tick labels, titles, a colour bar's text) runs into the neighbour. `constrained` measures the texts
# and moves the boxes. 用名字画出版面；constrained 布局会先量文字，再移动各个面板。

# %%
quartiles = [0.25, 0.5, 0.75]
places = houses["Neighborhood"].value_counts().index[:12]  # those with the most sales
by_place = price.groupby(houses["Neighborhood"]).quantile(quartiles).unstack().loc[places].sort_values(0.5)  # [12, 3]
decade = houses["YearBuilt"] // 10 * 10
enough = decade.groupby(decade).transform("size") >= 10  # a median of three houses says nothing
by_decade = price[enough].groupby(decade[enough]).quantile(quartiles).unstack()  # [decades, 3]
per_month = houses.groupby("MoSold").size()
in_season = float(per_month[[5, 6, 7]].sum() / len(houses))
per_m2 = 1000 * price / area
collisions = {}
for layout in ("none", "constrained"):
    page, panels = plt.subplot_mosaic(
        [["sales", "sales", "places"], ["decades", "months", "places"]],
        figsize=(12, 7),
        layout=layout,
        width_ratios=[1.2, 1, 1],
        height_ratios=[1.5, 1],
    )
    dots = panels["sales"].scatter(area, price, s=6, c=houses["YearBuilt"])
    page.colorbar(dots, ax=panels["sales"], label="year built")
    panels["sales"].set(xlabel="living area, m²", ylabel="price, 1,000 dollars", title="Newer houses cost more per m²")
    panels["decades"].fill_between(by_decade.index, by_decade[0.25], by_decade[0.75], alpha=0.3)
    panels["decades"].plot(by_decade.index, by_decade[0.5])
    panels["decades"].set(
        xlabel="built in the decade from", ylabel="price, 1,000 dollars", title="Median and quartiles"
    )
    panels["months"].bar(per_month.index, per_month)
    panels["months"].set(
        xlabel="month", ylabel="sales", title=f"{in_season:.0%} are sold from May to July", xticks=[1, 4, 7, 10]
    )
    panels["places"].hlines(np.arange(len(by_place)), by_place[0.25], by_place[0.75])
    panels["places"].plot(by_place[0.5], np.arange(len(by_place)), "o", markersize=4)
    panels["places"].set_yticks(np.arange(len(by_place)), by_place.index, fontsize=9)
    panels["places"].set(xlabel="price, 1,000 dollars", title="Neighbourhoods by their median")
    page.draw_without_rendering()
    boxes = [panel.get_tightbbox() for panel in page.axes]  # with titles and labels, in pixels
    collisions[layout] = sum(a.overlaps(b) for a, b in combinations(boxes, 2))
    page.suptitle(f"Layout {layout}: {collisions[layout]} pairs of panels collide")
    show(page, f"page-{layout}")

# %% [markdown]
# ## Small multiples · 小多图
#
# The same panel for each group, on the same axes, so that the eye compares places instead of reading numbers. All other
# houses stay behind in grey: each group is seen against the whole.
#
# 每组一个面板、坐标轴相同，其余数据以灰色作背景：每一组都放在整体之中来看。

# %%
per_area = per_m2.groupby(houses["Neighborhood"]).median()[places[:8]].sort_values()
figure, axes = plt.subplots(2, 4, figsize=(12, 5.4), layout="constrained", sharex=True, sharey=True)
for axis, (place, value) in zip(axes.flat, per_area.items(), strict=True):
    here = houses["Neighborhood"] == place
    axis.plot(area, price, ".", color="0.85", markersize=2)
    axis.plot(area[here], price[here], ".", color="#0072b2", markersize=4)
    axis.set_title(f"{place}: {value:,.0f} $/m²", fontsize=11)
figure.supxlabel("living area, m²")
figure.supylabel("price, 1,000 dollars")
figure.suptitle(f"Where a house stands makes a square metre {per_area.max() / per_area.min():.1f} times as expensive")
show(figure, "small-multiples")
print(f"  median dollars per m²: {per_area.round().astype(int).to_dict()}")

# %% [markdown]
# ## Order · 排序
#
# The order of rows is free unless the data give one, and the alphabet is rarely the best. Hierarchical clustering puts
# columns side by side that say the same; blocks appear. The colours are diverging with white at 0, and their limits are
# symmetric: red and blue then mean a sign.
#
# 行列的顺序可以自由选择：用层次聚类把相似的列排在一起，分块就显现出来。颜色以 0 为中心对称。

# %%
columns = sorted(
    "SalePrice GrLivArea TotRmsAbvGrd BedroomAbvGr FullBath HalfBath 1stFlrSF 2ndFlrSF TotalBsmtSF BsmtFinSF1 "
    "BsmtUnfSF GarageArea GarageCars YearBuilt YearRemodAdd Fireplaces OverallCond MSSubClass".split()
)
correlation = houses[columns].corr().to_numpy()  # [18, 18]
unlike = squareform(1 - np.abs(correlation), checks=False)
clustered = leaves_list(linkage(unlike, "average", optimal_ordering=True))


def alike(order: np.ndarray) -> float:
    """Mean |correlation| of columns that stand side by side."""
    return float(np.abs(correlation[order[1:], order[:-1]]).mean())


alphabet = np.arange(len(columns))
chance = [alike(random.permutation(len(columns))) for _ in range(1000)]
figure, axes = plt.subplots(1, 2, figsize=(13, 6.4), layout="compressed")
for axis, order, name in ((axes[0], alphabet, "alphabetical"), (axes[1], clustered, "clustered")):
    picture = axis.imshow(correlation[np.ix_(order, order)], cmap="RdBu", vmin=-1, vmax=1)
    axis.set_xticks(alphabet, [columns[i] for i in order], rotation=90, fontsize=9)
    axis.set_yticks(alphabet, [columns[i] for i in order], fontsize=9)
    axis.set_title(f"{name}: neighbours correlate by {alike(order):.2f}")
figure.colorbar(picture, ax=axes, label="correlation", shrink=0.8)
figure.suptitle("The same matrix twice: order shows which columns belong together")
show(figure, "order")

# %% [markdown]
# ## What colours do to numbers · 颜色对数字做了什么
#
# The eye reads quantity from lightness. CIELAB's L* is lightness as it is seen, from 0 to 100, and the distance of two
# colours in it, ΔE, tells how different they look (about 2 is just visible). A rainbow is lightest in the middle, so it
# shows edges where there are none and loses its order in grey. One man in twelve cannot tell red from green well: we
# simulate the loss of the green cones (Machado, Oliveira and Fernandes 2009).
#
# 眼睛通过明度读取数量。彩虹色带中间最亮，会造出不存在的边界；约十二分之一的男性难以分辨红绿。

# %%
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # from linear sRGB
NO_GREEN_CONES = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


def light(colours: np.ndarray) -> np.ndarray:
    """Amounts of light of sRGB values in 0 … 1: what adds up, [..., 3]."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def lab(amounts: np.ndarray) -> np.ndarray:
    """L*, a*, b* of amounts of light, [..., 3]."""
    xyz = amounts @ TO_XYZ.T / TO_XYZ.sum(axis=1)  # white is (1, 1, 1)
    x, y, z = np.moveaxis(np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


ramp = np.linspace(0, 1, 256)
lightness = {name: lab(light(mpl.colormaps[name](ramp)[:, :3]))[:, 0] for name in ("viridis", "cividis", "jet")}
turns = {name: int((np.diff(np.sign(np.diff(curve[::5]))) != 0).sum()) for name, curve in lightness.items()}
follows = {name: float(np.corrcoef(ramp, curve)[0, 1]) for name, curve in lightness.items()}
table(
    ["colour map", "lightness turns back", "correlation with the value"], [(n, turns[n], follows[n]) for n in lightness]
)

palettes = {
    "red and green": ["tab:red", "tab:green"],
    "Okabe and Ito": ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"],
}
nearest, seen = {}, {}
for name, colours in palettes.items():
    normal = light(np.array([to_rgb(colour) for colour in colours]))
    without = (normal @ NO_GREEN_CONES.T).clip(0, 1)
    seen[name] = np.array([normal, without])  # [2, colours, 3]
    nearest[name] = [
        min(float(np.linalg.norm(p - q)) for p, q in combinations(lab(amounts), 2)) for amounts in seen[name]
    ]
table(["palette", "smallest ΔE, all cones", "without green cones"], [(n, *d) for n, d in nearest.items()])

figure, axes = plt.subplot_mosaic(
    [["curves", "jet", "red and green"], ["curves", "viridis", "Okabe and Ito"]],
    figsize=(13, 4.6),
    layout="constrained",
)
for name, style in (("viridis", "-"), ("cividis", "--"), ("jet", ":")):
    axes["curves"].plot(ramp, lightness[name], style, linewidth=2, label=f"{name}: turns back {turns[name]} times")
axes["curves"].set(xlabel="value", ylabel="lightness L*", title="The rainbow is lightest in the middle")
axes["curves"].legend(loc="lower right")
across = np.linspace(-2.5, 2.5, 200)
hill = np.exp(-(across**2 + across[:, None] ** 2) / 3)  # smooth, without any edge
for name, words in (("jet", "rings that are not there"), ("viridis", "the same smooth hill")):
    axes[name].imshow(hill, cmap=name)
    axes[name].set_title(f"{name}: {words}")
    axes[name].axis("off")
for name, amounts in seen.items():
    back = np.where(amounts <= 0.0031308, amounts * 12.92, 1.055 * amounts ** (1 / 2.4) - 0.055)  # to sRGB
    axes[name].imshow(back, aspect="auto")
    axes[name].set_yticks([0, 1], ["all cones", "without\ngreen cones"])
    axes[name].set_xticks([])
    axes[name].set_title(f"{name}: ΔE at least {nearest[name][0]:.0f} and {nearest[name][1]:.0f}")
show(figure, "colours")

# %% [markdown]
# ## A style is a dictionary · 样式就是一个字典
#
# `rcParams` holds some three hundred defaults. A style sheet replaces some; `style.context` puts them back. Panels take
# their settings when they are made, not when they are drawn. Put your own style into one dictionary and the house
# keeps one look. 面板在创建时读取设置；style.context 结束后一切复原。

# %%
before = plt.rcParams.copy()
house_style = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.prop_cycle": mpl.cycler(color=palettes["Okabe and Ito"][4:]),
    "lines.linewidth": 2.5,
}
sheets = {"default": "default", "ggplot": "ggplot", "dark_background": "dark_background", "a dictionary": house_style}
figure = plt.figure(figsize=(13, 3.4), layout="constrained")
for part, (name, sheet) in zip(figure.subfigures(1, 4), sheets.items(), strict=True):
    with plt.style.context(sheet):
        part.set_facecolor(plt.rcParams["figure.facecolor"])
        axis = part.add_subplot()
        for quartile in quartiles:
            axis.plot(by_decade.index, by_decade[quartile], label=f"{quartile:.0%}")
        axis.set(title=name, xlabel="decade built", ylabel="price, 1,000 dollars")
        axis.legend(title="quantile", fontsize=8)
show(figure, "styles")

# %% [markdown]
# ## Vectors or pixels? · 矢量还是像素？
#
# SVG and PDF keep every point as an object, sharp at any size; 10,000 points (made up) make a file that a browser
# chokes on. `rasterized=True` turns one artist into pixels and leaves axes and text sharp.
#
# 点太多时只把这一层栅格化，文字和坐标轴仍是矢量。

# %%
cloud = random.standard_normal((2, 10_000))
size = {}
for rasterized in (False, True):
    sheet, axis = plt.subplots(figsize=(4, 3))
    axis.plot(*cloud, ".", markersize=1, rasterized=rasterized)
    file = io.BytesIO()
    sheet.savefig(file, format="svg")
    plt.close(sheet)
    size[rasterized] = len(file.getvalue())
print(f"  SVG of 10,000 points: {size[False]:,} bytes as vectors, {size[True]:,} with the points as pixels")

# %% [markdown]
# ## What holds · 结论

# %%
check("without a layout engine panels run into each other", collisions["none"] > 0)
check("constrained layout parts them all", collisions["constrained"] == 0)
modern, old = per_m2[houses["YearBuilt"] >= 2000].median(), per_m2[houses["YearBuilt"] < 1950].median()
check("a square metre built since 2000 costs at least 1.3 times one from before 1950", modern > 1.3 * old)
check(
    "between large neighbourhoods a square metre's price differs over 1.4-fold", per_area.max() > 1.4 * per_area.min()
)
check("clustering beats all of 1,000 random orders", alike(clustered) > max(chance))
check("and makes neighbours at least 1.2 times as alike as the alphabet", alike(clustered) > 1.2 * alike(alphabet))
anchors = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
check_close(
    "our CIELAB has the published values of white, black and red",
    lab(light(anchors)),
    [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]],
    tolerance=2e-3,
)
both, left = nearest["red and green"]
check("viridis only gets lighter, jet turns back", turns["viridis"] == 0 < turns["jet"])
check("lightness tells the value for viridis, not for jet", follows["viridis"] > 0.98 > 0.5 > abs(follows["jet"]))
check("without green cones less than a fifth of red and green's ΔE is left", left < 0.2 * both)
check("Okabe's and Ito's seven colours stay apart, by ΔE 10 or more", min(nearest["Okabe and Ito"]) > 10)
check("a style's context leaves no trace", plt.rcParams == before)
check("pixels for points make the file at least ten times smaller", size[False] > 10 * size[True])

# %% [markdown]
# ## The project of this phase · 本阶段的实战项目
#
# Phase 1 ends with exploratory data analysis, as a program: a report on any table (distributions, missing values,
# what goes with what), and a model whose accuracy is measured by nested cross-validation, on the Titanic's passengers.
#
# 第 1 阶段以探索性数据分析收尾：一个程序，为任意表格生成报告（分布、缺失值、关联），
# 并在泰坦尼克号乘客数据上训练模型，用嵌套交叉验证衡量准确率。
#
# ```bash
# uv run --package eda-titanic train
# ```
