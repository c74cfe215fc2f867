# %% [markdown]
# # Tables with pandas · 表格数据与 pandas
#
# An array has one type and numbered axes. A `DataFrame` is a dictionary of columns, each an array of its own type, that
# share one *index*, the labels of the rows. If you know SQL you know what it is for: a mask is WHERE, `groupby` is
# GROUP BY, `transform` a window function, `merge` a JOIN. What SQL has not is the index: pandas matches rows by label
# in every operation, silently: convenient, and the source of its strangest results.
#
# This lesson asks who survived the Titanic, in pandas and in SQL side by side, and looks at the places where a table
# goes wrong without an error: types that a CSV file lost, rows that match nothing, groups that vanish, joins that
# multiply.
#
# NumPy 数组只有一种类型，轴用数字编号。DataFrame 则像一个由列组成的字典：每列是一个有自己类型的数组，所有列共用一个索
# 引（index），也就是行标签。如果你懂 SQL，就知道它的用途：掩码是 WHERE，`groupby` 是 GROUP BY，`transform` 是窗口函
# 数，`merge` 是 JOIN。SQL 没有的是索引：pandas 的每次运算都会悄悄按标签对齐各行，这很方便，也是许多怪异结果的来源。
#
# 本课用 pandas 和 SQL 并排回答“泰坦尼克号上谁活了下来”，并看看表格在哪些地方会不声不响地出错：CSV 丢失的类型、对不上
# 的行、消失的分组、成倍增加的连接结果。

# %%
import io
import sqlite3

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.mathematics.intervals import wilson_interval

# %% [markdown]
# ## Columns with types · 有类型的列
#
# A missing number is NaN, and NaN is a float: whole numbers with a gap become float64. Text is a type of its own
# (`str`); what repeats a few values takes less room as `category`.
#
# 缺失值 NaN 是浮点数，因此有缺失的整数列会变成 float64。

# %%
passengers = data("titanic", "titanic-sample").train[["Survived", "Pclass", "Name", "Sex", "Age"]]
table(
    ["column", "type", "missing", "distinct", "bytes"],
    [(n, c.dtype, c.isna().sum(), c.nunique(), c.memory_usage(index=False, deep=True)) for n, c in passengers.items()],
)
as_category = passengers["Sex"].astype("category").memory_usage(index=False, deep=True)
print(f"  Sex as a category: {as_category:,} bytes")

# %% [markdown]
# ## What a CSV file does not say · CSV 没有告诉你的事
#
# CSV has no types: `read_csv` guesses, column by column, from what it sees. Codes lose their zeros, Namibia's country
# code is "not available", one empty cell turns whole numbers into floats. Say what you know.
#
# CSV 不带类型，read_csv 只能猜：编号丢掉前导零，纳米比亚的国家代码 NA 被当成缺失。知道的就要说出来。

# %%
text = "zip,country,rooms\n02134,US,3\n09990,NA,\n"  # made up for this lesson
guessed = pd.read_csv(io.StringIO(text))
told = pd.read_csv(
    io.StringIO(text),
    dtype={"zip": "str", "country": "str", "rooms": "Int64"},
    keep_default_na=False,
    na_values={"rooms": [""]},
)
table(
    ["column", "guessed", "values", "told", "values"],
    [(n, guessed[n].dtype, guessed[n].tolist(), told[n].dtype, told[n].tolist()) for n in told],
)

# %% [markdown]
# ## Selecting rows · 选取行
#
# `loc` takes labels, `iloc` positions, a mask keeps the rows where it is true. After sorting, label 0 and position 0
# are different people. Since pandas 3 a selection behaves as a copy, whatever it shares inside (it copies when one of
# the two is written): the opposite of NumPy's views. To change the table, assign to `table.loc[rows, column]`.
#
# loc 按标签，iloc 按位置。pandas 3 中任何选取结果都相当于拷贝（写时复制），这与 NumPy 的视图正好相反。

# %%
by_age = passengers.sort_values("Age", ascending=False)
print(f"  oldest: {by_age.iloc[0]['Name']}, {by_age.iloc[0]['Age']:.0f}; label 0: {by_age.loc[0, 'Name']}")
changed = passengers.copy()
first_class = changed[changed["Pclass"] == 1]
first_class["Survived"] = 9  # of this selection only
column = changed["Age"]
shared_at_first = np.shares_memory(column.to_numpy(), changed["Age"].to_numpy())
column.iloc[0] = -1.0  # now it gets memory of its own
untouched = changed.equals(passengers)
changed.loc[changed["Pclass"] == 1, "Survived"] = 9
print(f"  shared before writing: {shared_at_first}; table untouched by writing into selections: {untouched}")

# %% [markdown]
# ## The index matches rows · 按索引对齐
#
# Adding two columns adds what has the same *label*. So shuffled rows still meet their own values; and the women's
# column minus the men's is not a comparison but all NaN, since no passenger is in both. To go by position, leave pandas
# with `to_numpy()`. 相加时按标签配对，而不是按位置；标签对不上就得到 NaN。

# %%
ages = passengers["Age"]
shuffled = ages.sample(frac=1, random_state=0)
by_label = (ages - shuffled).abs().max()
by_position = np.nanmax(np.abs(ages.to_numpy() - shuffled.to_numpy()))
women, men = passengers[passengers["Sex"] == "female"], passengers[passengers["Sex"] == "male"]
meeting = (women["Age"] - men["Age"]).notna().sum()
print(f"  a column minus itself in another order: at most {by_label:.0f} by label, {by_position:.0f} by position")
print(f"  {len(women)} women's ages minus {len(men)} men's: {meeting} known values")

# %% [markdown]
# ## groupby, in pandas and in SQL · 分组：pandas 与 SQL
#
# Split by a key, compute for each part, put together. `agg` gives one row a group, `transform` one value a row. And a
# group whose key is missing is left out unless one says `dropna=False`.
#
# agg 每组一行，transform 每行一个值；键缺失的行默认会被悄悄丢掉。

# %%
database = sqlite3.connect(":memory:")
passengers.to_sql("passengers", database, index=False)
survival = passengers.groupby(["Sex", "Pclass"])["Survived"].agg(["mean", "sum", "size"])
in_sql = pd.read_sql(
    "SELECT avg(Survived), sum(Survived), count(*) FROM passengers GROUP BY Sex, Pclass ORDER BY Sex, Pclass", database
)
relative = passengers["Age"] - passengers.groupby("Pclass")["Age"].transform("mean")
relative_sql = pd.read_sql("SELECT Age - avg(Age) OVER (PARTITION BY Pclass) FROM passengers ORDER BY rowid", database)
print(survival.rename(columns={"mean": "rate", "sum": "survived"}).round(3).to_string())

decade = passengers["Age"] // 10 * 10
counted = passengers.groupby(decade).size().sum()
with_missing = passengers.groupby(decade, dropna=False).size().sum()
print(f"  by decade of age: {counted} passengers in the groups, {with_missing} with dropna=False")

# %% [markdown]
# ## Joins · 连接
#
# A name holds a title, and a title tells of age and marriage. A left join keeps every passenger; `indicator` says which
# found a partner. If a key is twice in the right table, rows multiply and every later mean is off: `validate` refuses.
#
# 右表的键若有重复，行数就会成倍增加，后面的统计全都出错；validate 会拒绝这样的连接。

# %%
titled = passengers.assign(title=passengers["Name"].str.extract(r", (?:the )?(\w+)", expand=False))
meanings = pd.DataFrame(
    {"title": ["Mr", "Master", "Miss", "Mrs"], "meaning": ["man", "boy", "girl or unmarried woman", "married woman"]}
)
joined = titled.merge(meanings, on="title", how="left", validate="many_to_one", indicator=True)
unmatched = joined.loc[joined["_merge"] == "left_only", "title"].value_counts(dropna=False)
titled.to_sql("titled", database, index=False)
meanings.to_sql("meanings", database, index=False)
joined_sql = pd.read_sql("SELECT meaning FROM titled LEFT JOIN meanings USING (title) ORDER BY titled.rowid", database)
print(f"  without a meaning: {unmatched.sum()} passengers: {', '.join(map(str, unmatched.index[:8]))} …")

twice = pd.concat([meanings, pd.DataFrame({"title": ["Miss"], "meaning": ["girl"]})])
multiplied = len(titled.merge(twice, on="title", how="left"))
try:
    titled.merge(twice, on="title", how="left", validate="many_to_one")
    refused = False
except pd.errors.MergeError as error:
    refused = True
    print(f"  a title twice: {len(titled)} rows become {multiplied}; validate: {str(error).splitlines()[0]}")
by_meaning = joined.groupby("meaning")["Age"].agg(["median", "count"]).sort_values("median")
print(by_meaning.to_string())

# %% [markdown]
# ## Long and wide · 长表与宽表
#
# One row an observation is *long*, and what groupby, models and databases want. One row a group and one column a
# category is *wide*, and what people read. `pivot_table` and `melt` lead from one to the other.

# %%
wide = passengers.pivot_table(index="Sex", columns="Pclass", values="Survived")  # mean
long_again = wide.melt(ignore_index=False, value_name="rate").set_index("Pclass", append=True)["rate"].sort_index()
print(wide.round(2).to_string())

low, high = wilson_interval(survival["sum"].to_numpy(), survival["size"].to_numpy())
survival = survival.assign(below=survival["mean"] - low, above=high - survival["mean"])
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.4), layout="constrained")
for sex, colour in (("female", "#d55e00"), ("male", "#0072b2")):
    group = survival.loc[sex]
    left.errorbar(
        group.index, group["mean"], group[["below", "above"]].T.to_numpy(), fmt="o-", capsize=4, color=colour, label=sex
    )
left.set(xticks=[1, 2, 3], ylim=(0, 1), xlabel="class", ylabel="share that survived")
left.set_title("Women of any class survived more often\nthan men of any (95 % intervals)")
left.legend()
right.boxplot([joined.loc[joined["meaning"] == m, "Age"].dropna() for m in by_meaning.index], orientation="horizontal")
right.set_yticks(range(1, 5), [f"{m}\n({n} ages)" for m, n in by_meaning["count"].items()])
right.set(xlabel="age, years", title="A title in the name tells the age,\nalso where the age is missing")
show(figure, "who-survived")
database.close()

# %% [markdown]
# ## What holds · 结论

# %%
check(
    "read_csv guessed three columns of three wrong",
    guessed["zip"][0] == 2134 and guessed["country"].isna()[1] and guessed["rooms"].dtype == float,
)
check(
    "told the types, it kept all",
    told["zip"][0] == "02134" and told["country"][1] == "NA" and told["rooms"].dtype == "Int64",
)
check(
    "a category takes less than a third of the memory",
    3 * as_category < passengers["Sex"].memory_usage(index=False, deep=True),
)
check("selections share memory until written, and never write through", shared_at_first and untouched)
check("assignment through loc changes the table", (changed.loc[changed["Pclass"] == 1, "Survived"] == 9).all())
check("rows are matched by label, not by position", by_label == 0 and by_position > 10 and meeting == 0)
check_close("agg is GROUP BY", survival[["mean", "sum", "size"]], in_sql)
check_close("transform is a window function", relative.dropna(), relative_sql.iloc[:, 0].dropna())
check("groupby left out exactly the passengers of unknown age", with_missing - counted == ages.isna().sum() > 0)
check("women of any class survived more often than men of any", wide.loc["female"].min() > wide.loc["male"].max())
check(
    "merge is a LEFT JOIN",
    joined["meaning"].equals(joined_sql["meaning"].astype("str")) and len(joined) == len(passengers),
)
check(
    "a doubled key adds a row for each match, and validate refuses",
    multiplied - len(titled) == (titled["title"] == "Miss").sum() and refused,
)
check(
    "a Master is a child: median age below 10, less than half of a Miss's",
    by_meaning.loc["boy", "median"] < min(10, by_meaning.loc["girl or unmarried woman", "median"] / 2),
)
check_close("melt undoes pivot_table", long_again, survival["mean"])
