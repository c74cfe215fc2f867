# %% [markdown]
# # Preparing data · 数据预处理
#
# A model wants a table of numbers without gaps; real tables have typing errors, unknown values and words. Whatever
# fills and translates them (a median, a scale, a list of categories) is computed from data. So it is part of the model:
# it must be fitted on training rows only, and applied unchanged to all others. What breaks this rule is called leakage,
# and its mark is a score that nobody will see again in production.
#
# This lesson cleans a table whose truth is known, hides known ages to see which imputation finds them, and measures
# two leaks on the Titanic: one that does no harm, and one that reports high accuracy on random outcomes.
#
# 模型要的是没有空缺的数字表格，而真实的表格里有录入错误、未知值和文字。用来填补和转换它们的东西（中位数、缩放系数、类
# 别列表）都是从数据里算出来的，因此也是模型的一部分：只能在训练集上拟合，再原样用到其他数据上。违反这条规则叫做数据泄
# 漏，它的标志是一个上线后再也见不到的漂亮分数。
#
# 本课先清洗一张已知正确答案的表；再把已知的年龄藏起来，看哪种填补方法最接近真值；最后在泰坦尼克数据上测量两种泄漏：一
# 种几乎无害，另一种即使标签被随机打乱，也会报告很高的准确率。

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.data_science.target_encoding import TargetEncoding, cross_fit_encode
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

random = np.random.default_rng(0)
passengers = data("titanic", "titanic-sample").train[["Survived", "Pclass", "Name", "Sex", "Age"]]
survived = passengers["Survived"].to_numpy()
rows = len(passengers)

# %% [markdown]
# ## Cleaning · 清洗
#
# We damage the table as exports do (this damage is made up): capitals and blanks, units in a number, words for
# "unknown", rows twice. Cleaning is a list of small steps, each counted: `errors="coerce"` without a count turns
# whatever it does not understand into a gap.
#
# 每一步都要计数，否则 `errors="coerce"` 会把看不懂的值悄悄变成缺失。

# %%
messy = passengers.astype({"Age": "str"})
messy["Sex"] = np.where(random.random(rows) < 0.3, " " + messy["Sex"].str.upper(), messy["Sex"])
messy["Age"] = messy["Age"].where(random.random(rows) > 0.2, messy["Age"] + " years").fillna("unknown")
messy = pd.concat([messy, messy.sample(25, random_state=0)])
print(f"  before: {len(messy)} rows; sexes {messy['Sex'].unique().tolist()}; ages {messy['Age'].iloc[:12].tolist()}")

clean = messy[~messy.index.duplicated()]
clean = clean.assign(Sex=clean["Sex"].str.strip().str.lower())
coerced = pd.to_numeric(clean["Age"], errors="coerce")
lost = int((coerced.isna() & (clean["Age"] != "unknown")).sum())
clean = clean.assign(Age=pd.to_numeric(clean["Age"].str.removesuffix(" years").replace("unknown", np.nan)))
print(f"  coercing at once would have lost {lost} known ages; step by step none")

# %% [markdown]
# ## Missing is a message · 缺失也是信息
#
# Ages are not missing at random: more often in third class, and more often of those who died. Then the known ages are
# no fair sample, and *that* a value is missing is a feature: keep it as a column beside the filled one.
#
# 年龄的缺失并不随机；“是否缺失”本身就是特征，应另存一列。

# %%
unknown = passengers["Age"].isna()
by_class = unknown.groupby(passengers["Pclass"]).mean()
by_fate = unknown.groupby(passengers["Survived"]).mean()
print(f"  age unknown: {by_class[1]:.0%} in first class, {by_class[3]:.0%} in third")
print(f"  age unknown: {by_fate[1]:.0%} of survivors, {by_fate[0]:.0%} of the others")

# %% [markdown]
# ## Imputation, tested · 检验填补方法
#
# To test a filler, hide values that are known. The median is the single guess of least absolute error, yet it puts
# everyone in one bar. The median of those with the same title is nearer. Random draws keep the spread and are the worst
# guesses: what is best depends on what it is for.
#
# 把已知年龄藏起来检验：按头衔取中位数最接近真值；随机抽取保住了离散程度，但误差最大。

# %%
title = passengers["Name"].str.extract(r", (?:the )?(\w+)", expand=False).fillna("")
known = np.flatnonzero(passengers["Age"].notna())
hidden = np.isin(np.arange(rows), random.choice(known, len(known) * 3 // 10, replace=False))
truth = passengers["Age"][hidden]
seen = passengers["Age"].mask(hidden)
fillers = {
    "mean": pd.Series(seen.mean(), seen.index),
    "median": pd.Series(seen.median(), seen.index),
    "median of the title": title.map(seen.groupby(title).median()).fillna(seen.median()),
    "random known age": pd.Series(random.choice(seen.dropna(), rows), seen.index),
}
errors = {name: float((filler[hidden] - truth).abs().mean()) for name, filler in fillers.items()}
spread = {name: float(filler[hidden].std() / truth.std()) for name, filler in fillers.items()}
table(["filled with", "mean error, years", "spread / true spread"], [(n, errors[n], spread[n]) for n in fillers])

figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained", sharex=True, sharey=True)
bins = np.arange(0, 85, 5)
for axis, name in zip(axes, ["median", "median of the title", "random known age"], strict=True):
    axis.hist(truth, bins, color="0.75", label="true")
    axis.hist(fillers[name][hidden], bins, histtype="step", color="#d55e00", linewidth=1.8, label="filled in")
    axis.set(xlabel="age, years", title=f"{name}: off by {errors[name]:.1f} years")
axes[0].set(ylabel="passengers whose age was hidden")
axes[0].legend()
figure.suptitle("Better guesses are not a better picture of the ages")
show(figure, "imputation")

# %% [markdown]
# ## Categories to numbers · 类别变成数字
#
# One column a category, one-hot, is safe. The list of columns belongs to the model: `get_dummies` makes a new one from
# whatever rows it is given, so it fits no other table. Surnames would make hundreds of columns; *target encoding*
# makes one: the mean outcome of each value's rows, pulled towards the overall mean, (Σy + m·ȳ) / (n + m). It reads the
# outcome, so each training row is encoded without its own: `cross_fit_encode`.
#
# 独热编码的列属于模型，新数据不能增减列。目标编码用标签的均值代替类别，因此编码每一行时都不能用到它自己的标签。

# %%
train, test = next(StratifiedKFold(5, shuffle=True, random_state=0).split(passengers, survived))
titles = title.to_frame("title")
dummies = [set(pd.get_dummies(titles.iloc[part]).columns) for part in (train, test)]
encoded = OneHotEncoder(handle_unknown="ignore").fit(titles.iloc[train]).transform(titles.iloc[test])
print(f"  get_dummies: {len(dummies[0])} columns of training rows, {len(dummies[1])} of test rows")
print(
    f"  encoder fitted on training rows: {encoded.shape[1]}, and {(encoded.sum(axis=1) == 0).sum()} rows of a new title"
)
surname = passengers["Name"].str.split(",").str[0].to_numpy(str)
rare = float(pd.Series(surname).map(pd.Series(surname).value_counts()).le(2).mean())
print(f"  {len(set(surname))} surnames; {rare:.0%} of passengers share theirs with at most one other")

# %% [markdown]
# ## Two leaks, measured · 测量两种泄漏
#
# Cross-validated accuracy of a logistic regression: preparation fitted on all rows, or inside each fold. A median and a
# scale hardly depend on which rows they saw. The mean outcome of a rare surname *is* the answer. The control is
# shuffled outcomes: there is nothing to learn, and what exceeds the more frequent outcome's share comes from the leak.
#
# 用打乱的标签作对照：此时没有任何规律可学，任何高于多数类比例的分数都只能来自泄漏。

# %%
numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
prepare = make_column_transformer((numbers, ["Age"]), (OneHotEncoder(handle_unknown="ignore"), ["Sex", "Pclass"]))
folds = StratifiedKFold(5, shuffle=True, random_state=0)
prepared = prepare.fit_transform(passengers)
inside = make_pipeline(prepare, LogisticRegression())
scores: dict[str, dict[str, list[float]]] = {
    "median and scale": {
        "all rows": cross_val_score(LogisticRegression(), prepared, survived, cv=folds).tolist(),
        "each fold": cross_val_score(inside, passengers, survived, cv=folds).tolist(),
    }
}

plain = np.column_stack([passengers["Sex"] == "female", passengers["Pclass"] == 1, passengers["Pclass"] == 2])
outcomes = {"surname means": survived, "surname means,\nshuffled outcomes": random.permutation(survived)}
scores |= {name: {"all rows": [], "each fold": []} for name in outcomes}
for name, y in outcomes.items():
    leaking = TargetEncoding.fit(surname, y).encode(surname)
    for seed in range(4):
        for fit, rest in StratifiedKFold(5, shuffle=True, random_state=seed).split(plain, y):
            inner = StratifiedKFold(5, shuffle=True, random_state=seed).split(plain[fit], y[fit])
            honest = np.empty(rows)
            honest[fit] = cross_fit_encode(surname[fit], y[fit], inner)
            honest[rest] = TargetEncoding.fit(surname[fit], y[fit]).encode(surname[rest])
            for where, column in (("all rows", leaking), ("each fold", honest)):
                inputs = np.column_stack([plain, column])
                model = LogisticRegression().fit(inputs[fit], y[fit])
                scores[name][where].append(model.score(inputs[rest], y[rest]))

accuracy = {name: {where: float(np.mean(s)) for where, s in both.items()} for name, both in scores.items()}
majority = float(max(survived.mean(), 1 - survived.mean()))
table(
    ["preparation", "fitted on all rows", "in each fold"],
    [(n.replace("\n", " "), *a.values()) for n, a in accuracy.items()],
)

# %% [markdown]
# ## Outliers · 离群值
#
# Made-up damage again: one age in twenty gets a zero too many. The usual rule, three standard deviations, is half
# blind: the wrong values inflate the deviation that is to find them. The median and the median distance from it (MAD,
# times 1.4826, which makes it σ for a bell curve) hardly move.
#
# 离群值会撑大标准差，从而掩护自己；中位数与 MAD 几乎不受影响。

# %%
ages = passengers["Age"].dropna().to_numpy()
wrong = random.random(len(ages)) < 0.05
typed = np.where(wrong, ages * 10, ages)
middle = np.median(typed)
limits = {
    "3 standard deviations": typed.mean() + 3 * typed.std(),
    "3 robust deviations": middle + 3 * 1.4826 * np.median(np.abs(typed - middle)),
}
caught = {name: float((typed > limit)[wrong].mean()) for name, limit in limits.items()}
alarms = {name: float((typed > limit)[~wrong].mean()) for name, limit in limits.items()}
table(
    ["rule", "limit, years", "wrong ages caught", "right ages flagged"],
    [(n, float(limits[n]), f"{caught[n]:.0%}", f"{alarms[n]:.1%}") for n in limits],
)

figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.2), layout="constrained", width_ratios=[1.2, 1])
place = np.arange(len(accuracy))
for shift, where, how, colour in ((-0.2, "all rows", "on", "#d55e00"), (0.2, "each fold", "in", "#0072b2")):
    heights = [100 * both[where] for both in accuracy.values()]
    left.bar_label(
        left.bar(place + shift, heights, 0.38, color=colour, label=f"fitted {how} {where}"), fmt="%.0f", fontsize=9
    )
left.axhline(100 * majority, color="black", linestyle="--", linewidth=0.8, label="more frequent outcome")
left.set(xticks=place, xticklabels=accuracy, ylim=(0, 125), yticks=range(0, 101, 20))
left.set(ylabel="cross-validated accuracy, %", title="Means of the outcome leak: high scores on noise")
left.legend(loc="upper center", fontsize=8, ncols=3)
right.plot(np.sort(typed), ".", color="0.5", label="ages as typed, sorted")
for (name, limit), colour in zip(limits.items(), ("#d55e00", "#0072b2"), strict=True):
    right.axhline(limit, color=colour, linestyle="--", label=f"{name}: {caught[name]:.0%} of wrong ages caught")
right.set(xlabel="passengers", ylabel="age as typed, years", title="Outliers widen the net that should catch them")
right.legend(fontsize=8)
show(figure, "leaks-and-outliers")

# %% [markdown]
# ## What holds · 结论

# %%
check("cleaning step by step gave back exactly the table before the damage", clean.equals(passengers))
check("coercing at once would have lost more than fifty known ages", lost > 50)
check("ages are missing more often in third class than in first", by_class[3] > by_class[1] + 0.1)
check("and more often of those who died", by_fate[0] > by_fate[1] + 0.05)
nearest, worst = min(errors, key=errors.get), max(errors, key=errors.get)
check(
    "the title's median is the nearest guess, a random age the worst",
    (nearest, worst) == ("median of the title", "random known age"),
)
check(
    "and only the random age keeps the spread, to a fifth", [n for n in spread if abs(spread[n] - 1) < 0.2] == [worst]
)
check("get_dummies gives other columns for other rows", dummies[0] != dummies[1])
small = TargetEncoding.fit(np.array(["a", "a", "b"]), np.array([1, 0, 1]), smoothing=1.0)
check_close(
    "target encoding is (Σy + m·ȳ) / (n + m), and ȳ for the unknown",
    small.encode(np.array(["a", "b", "c"])),
    [5 / 9, 5 / 6, 2 / 3],
)
check(
    "a median and a scale of all rows change the score by less than a point",
    abs(np.subtract(*accuracy["median and scale"].values())) < 0.01,
)
check(
    "surname means of all rows claim at least 10 points too much",
    np.subtract(*accuracy["surname means"].values()) > 0.1,
)
noise = accuracy["surname means,\nshuffled outcomes"]
check("they find more than 80 % right where there is nothing to find", noise["all rows"] > 0.8)
check("fitted in each fold, noise gives no more than the more frequent outcome", noise["each fold"] < majority + 0.02)
check(
    "robust deviations catch far more wrong ages",
    caught["3 robust deviations"] > caught["3 standard deviations"] + 0.15,
)
