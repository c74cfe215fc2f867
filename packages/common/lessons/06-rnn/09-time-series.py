# %% [markdown]
# # Forecasting, honestly · 诚实的时间序列预测
#
# A chart in which an LSTM follows a stock price a day ahead looks convincing, and proves nothing: "tomorrow is as
# today" draws the same chart. Whether a forecast is any good is a question of measurement: windows that never see the
# future, a backtest that walks forward through time, the naive forecast as the mark to beat, and a test that tells
# skill from luck (Diebold & Mariano 1995).
#
# This lesson measures LSTM, GRU, TCN and a linear model against simple rules on the real daily prices of Apple, 2000
# to 2013; shows how easily a leak fakes success, and how it is caught; and then forecasts something that can be
# forecast. Your own series: `lesson run 06/09 --csv FILE` (`--column NAME`, `--season N`). Nothing here is advice to
# invest.
#
# 一张“LSTM 提前一天跟随股价”的图看上去很有说服力，其实什么也证明不了：“明天等于今天”画出来的是同一张图。
# 预测好不好是测量问题：窗口绝不能看到未来，回测要沿时间向前走，要打败的是朴素预测，还要用统计检验区分本领与运气。
# 本课用苹果公司 2000 至 2013 年的真实日线，比较 LSTM、GRU、TCN、线性模型与简单规则；演示数据泄漏如何伪造成功、
# 又如何被抓住；最后预测一个真正可以预测的量。用自己的数据：`lesson run 06/09 --csv 文件`。本课不构成投资建议。

# %%
import matplotlib.pyplot as plt
import numpy as np
from dlcommon.course.lesson import check, data, show, table
from dlcommon.forecasting.backtest import walk_forward
from dlcommon.forecasting.baselines import ETS, Drift, SeasonalNaive
from dlcommon.forecasting.compare import compare
from dlcommon.forecasting.diebold_mariano import diebold_mariano
from dlcommon.forecasting.leaks import find_leaks
from dlcommon.forecasting.neural import NETWORKS, NeuralForecaster
from dlcommon.forecasting.scores import MEDIAN, absolute_error, skill_score
from dlcommon.forecasting.windows import sliding_windows
from dlcommon.runtime.data.series import own_series, series_options

options = series_options()
own = own_series(options)  # a file that cannot be used is told at once

# %% [markdown]
# ## The chart that proves nothing · 什么也证明不了的图
#
# We forecast the logarithm of the price, so that errors are relative: 0.01 is one per cent. The last 500 days are for
# testing.

# %%
apple = data("stocks").prices["AAPL"]
price = np.log(apple.adjusted_close)
first = len(price) - 501  # the first origin: 500 forecasts follow
today, tomorrow = price[first:-1], price[first + 1 :]
explained = 1 - np.square(tomorrow - today).sum() / np.square(tomorrow - tomorrow.mean()).sum()
print(f"  'tomorrow is as today' explains {explained:.1%} of the price's variance, and knows nothing")

# %% [markdown]
# ## The backtest · 回测
#
# Each forecaster is shown the past up to an origin, and says quantiles of the next day's value; then the origin moves
# on by a day. Networks are trained again after every 250 days. Skill is 1 − error / error of the naive forecast; p says
# how often forecasts of equal worth differ that much, corrected for asking of several (Holm). CRPS scores the whole
# distribution; the 90 % interval should hold nine days of ten.
#
# Where networks agree to the last digit, training made none of them better on the latest tenth of the past, and what is
# kept is the state that they all start from: "as today", with the quantiles of the past.


# %%
def report(rows):
    """Prints a comparison; the first row is the naive forecast."""
    table(
        ("forecast", "error", "skill", "p", "verdict", "CRPS", "in the 90 % interval"),
        [(row.name, row.error, row.skill, row.p_value, row.verdict, row.crps, row.coverage) for row in rows],
    )
    winners = [row.name for row in rows if row.verdict == "better"]
    print(f"  beats 'tomorrow is as today': {', '.join(winners) or 'none'}")


networks = [NeuralForecaster(name) for name in NETWORKS]
prices = compare(price, [Drift(), SeasonalNaive(5), ETS(), *networks], first)
report(prices)

# %% [markdown]
# "No difference shown" says something about prices only if this backtest would have shown one. So it is put to a series
# that can be forecast by construction: as many days, as large moves, but each day's move keeps half of the one before,
# $r_t = 0.5\, r_{t-1} + \varepsilon_t$, and three draws of it. The best forecast there has a skill of
# $1 - \sqrt{1 - 0.5^2} = 13\,\%$.
#
# “看不出差别”只有在这套回测本来能看出差别时才有意义。因此再用一条按构造可以预测的序列检验它：天数与波动幅度相同，
# 但每天的涨跌保留前一天的一半。最好的预测在这里有 13% 的技巧分。


# %%
def moves_with_memory(seed, memory=0.5):
    """A walk of as many days and as large steps as the price's, each keeping a part of the one before."""
    noise = np.random.default_rng(seed).normal(scale=np.diff(price).std() * (1 - memory**2) ** 0.5, size=len(price))
    moves = np.zeros(len(price))
    for day in range(1, len(price)):
        moves[day] = memory * moves[day - 1] + noise[day]
    return moves.cumsum()


controls = [compare(moves_with_memory(seed), [NeuralForecaster("DLinear")], first)[1] for seed in range(3)]
table(
    ("DLinear on moves with memory", "skill", "p", "verdict"),
    [(f"draw {draw}", row.skill, row.p_value, row.verdict) for draw, row in enumerate(controls)],
)

# %% [markdown]
# ## A leak · 泄漏
#
# Many a paper first "denoises" the series. Here a centred moving average over five days comes before everything else; a
# linear regression on its last ten values then forecasts the price. Each average holds the two days after it: the
# forecast has seen the answer. With the average of the five days before, the miracle is over.
#
# 很多文章先给序列“去噪”：五日居中移动平均包含之后两天的值，预测已经看到了答案。


# %%
def regress_on(smoothed, values, origins):
    """Forecasts by a regression of the next value's change on smoothed values, fitted before the first origin."""
    windows, _ = sliding_windows(smoothed, 10, 1)
    features = np.column_stack([windows - windows[:, -1:], smoothed[9:-1] - values[9:-1]])  # a row an origin from 9 on
    known = slice(0, origins[0] - 9)
    coefficients = np.linalg.lstsq(features[known], np.diff(values)[9:][known], rcond=None)[0]
    return values[origins] + features[origins - 9] @ coefficients


def denoised(values, origins):
    return regress_on(np.convolve(np.pad(values, 2, mode="edge"), np.ones(5) / 5, "valid"), values, origins)


def smoothed_backwards(values, origins):
    return regress_on(np.convolve(np.pad(values, (4, 0), mode="edge"), np.ones(5) / 5, "valid"), values, origins)


origins = np.arange(first, len(price) - 1)
naive_error = np.abs(tomorrow - today)
tried = []
for name, pipeline in (("centred average", denoised), ("average of the past", smoothed_backwards)):
    error = np.abs(tomorrow - pipeline(price, origins))
    p_value = diebold_mariano(naive_error, error).p_value
    tried.append((name, skill_score(error, naive_error), p_value, len(find_leaks(pipeline, price, origins)) > 0))
table(("pipeline", "skill", "p", "looks into the future"), tried)

# %% [markdown]
# `find_leaks` knows nothing of how a pipeline works. It changes the values after an origin and looks whether a forecast
# made before has changed. A small p-value does not protect from a leak: this one is "significant" beyond doubt.
#
# ## What can be forecast · 什么可以预测
#
# How much the price will swing. Calm days follow calm days, rough days rough ones (Mandelbrot 1963): the logarithm of
# the day's range, log(log(high / low)), is a series with a memory. The same toolkit, the same days.

# %%
swing = np.log(np.log(apple.high / apple.low))
swings = compare(swing, [ETS(), NeuralForecaster("DLinear"), NeuralForecaster("LSTM")], first)
report(swings)


def daily_errors(row):
    return absolute_error(row.backtest.quantiles, row.backtest.actual).mean(axis=1)


# The LSTM from three starts, against exponential smoothing instead of the naive forecast.
lstms = [swings[3], *(compare(swing, [NeuralForecaster("LSTM", seed=seed)], first)[1] for seed in (1, 2))]
smoothing = [
    (swings[1].skill / row.skill, diebold_mariano(*map(daily_errors, (swings[1], row))).p_value) for row in lstms
]
table(
    ("LSTM, seed", "skill", "smoothing has of it", "p of their difference"),
    [(seed, row.skill, f"{share:.0%}", p) for seed, (row, (share, p)) in enumerate(zip(lstms, smoothing, strict=True))],
)


def walk_with_dlinear(values, origins):
    backtest = walk_forward(values, NeuralForecaster("DLinear"), first)
    return backtest.quantiles[origins - first]


# %%
fig, axes = plt.subplots(2, 2, figsize=(14, 8.5), layout="constrained")
days = apple.dates[first + 1 :]
axes[0, 0].plot(days[-60:], np.exp(tomorrow[-60:]), label="price", color="black")
axes[0, 0].plot(days[-60:], np.exp(today[-60:]), label="'tomorrow is as today'", color="tab:red", linestyle="--")
axes[0, 0].set(title=f"R² = {explained:.3f}, knowing nothing", ylabel="adjusted close, US dollars")
axes[0, 0].tick_params(axis="x", rotation=30)
axes[0, 0].legend()

names = [*(row.name for row in prices[1:]), "with a leak"]
skills = [*(row.skill for row in prices[1:]), tried[0][1]]
colours = ["tab:gray"] * 3 + ["tab:blue"] * 4 + ["tab:red"]
axes[0, 1].barh(names, [100 * max(value, -0.3) for value in skills], color=colours)
axes[0, 1].axvline(0, color="black", linewidth=0.8)
axes[0, 1].invert_yaxis()
axes[0, 1].set(title="The price: nothing beats the naive forecast, but a leak", xlabel="skill, % (cut at −30)")

lstm, lately = swings[-1].backtest, slice(-120, None)
bands = lstm.quantiles[lately, 0].T  # [levels, days]
for low, high, shade, label in ((0, -1, 0.2, "90 %"), (4, -5, 0.35, "50 %")):
    axes[1, 0].fill_between(days[lately], bands[low], bands[high], alpha=shade, color="tab:blue", label=label)
axes[1, 0].plot(days[lately], bands[MEDIAN], color="tab:blue", label="median")
axes[1, 0].plot(days[lately], lstm.actual[lately, 0], ".", color="black", markersize=4, label="what came")
axes[1, 0].set(
    title=f"The swing, by the LSTM: {swings[-1].coverage:.0%} in the 90 % interval", ylabel="log of the day's range"
)
axes[1, 0].tick_params(axis="x", rotation=30)
axes[1, 0].legend(fontsize=8, ncols=2)

axes[1, 1].barh(
    [row.name for row in swings[1:]],
    [100 * row.skill for row in swings[1:]],
    color=["tab:gray", "tab:blue", "tab:blue"],
)
axes[1, 1].invert_yaxis()
axes[1, 1].set(
    title=f"The swing: all beat it; smoothing has {smoothing[0][0]:.0%} of the LSTM's skill", xlabel="skill, %"
)
show(fig, "honest-forecasts")

# %% [markdown]
# ## Your own series · 你自己的数据
#
# With `--csv FILE` the same comparison runs on a column of your file, on the last fifth of it (at most 500 values).
# Where all values are positive, their logarithms are forecast.

# %%
if own is not None:
    relative = bool((own.values > 0).all())
    values = np.log(own.values) if relative else own.values
    begin = len(values) - min(500, len(values) // 5) - 1
    print(f"  {own.name}: {len(values)} values{', as logarithms' if relative else ''}")
    compared = compare(values, [Drift(), SeasonalNaive(options.season), ETS(), *networks], begin)
    report(compared)
    fig, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    axis.barh([row.name for row in compared[1:]], [100 * row.skill for row in compared[1:]])
    axis.axvline(0, color="black", linewidth=0.8)
    axis.invert_yaxis()
    axis.set(title=f"{own.name}: skill over 'tomorrow is as today'", xlabel="skill, %")
    show(fig, "own-series")

# %%
trained = prices[-len(networks) :]
check("'tomorrow is as today' draws the famous chart", explained > 0.95)
check("no network beats it on the price", all(row.verdict != "better" for row in trained))
check(
    "though the same backtest finds a memory where there is one, in each of three draws",
    all(row.verdict == "better" for row in controls),
)
check("the leaking pipeline seems to, beyond doubt", tried[0][1] > 0.1 and tried[0][2] < 0.001)
check("and is caught", tried[0][3])
check("the honest one is not accused, and has no such skill", not tried[1][3] and tried[1][1] < 0.03)
check("how much the price swings can be forecast", all(row.verdict == "better" for row in swings[1:]))
check(
    "exponential smoothing alone has 60 to 90 % of the LSTM's skill, and the rest is no luck, with each of three seeds",
    all(0.6 < share < 0.9 and p < 0.05 for share, p in smoothing),
)
check("every interval holds about what it says", all(0.82 < row.coverage < 0.97 for row in (*trained, *swings)))
check("the backtest of a network is not accused either", not find_leaks(walk_with_dlinear, swing, origins[::100]))

# %% [markdown]
# ## The project of this phase · 本阶段的实战项目
#
# Phase 6 has two projects. Forecasting stocks was this lesson. The other is text generation, a language model of
# characters: train it as an LSTM with `--preset lstm`, or as a small GPT, and compare their bits per character.
#
# 第 6 阶段有两个实战项目。股票预测就是本课；另一个是文本生成，即字符级语言模型：
# 用 `--preset lstm` 训练 LSTM，或训练一个小型 GPT，比较两者的每字符比特数。
#
# ```bash
# uv run --package char-lm train
# ```
