# %% [markdown]
# # Array operations · 数组运算与广播
#
# `a + b` on arrays is one call that loops in compiled code. In Python's own loop each addition looks up types, unpacks
# two objects and makes a third; NumPy pays for that once a call. So the art is to say what is to be done to whole
# arrays: which axes are matched, which are repeated (broadcasting), which are summed (reductions, `@`, `einsum`). A
# network's forward pass is nothing else, and the shapes in its comments are the types of this language.
#
# This lesson measures what a loop costs and when it does not matter, writes broadcasting's rule in a few lines,
# compares all pairs of iris flowers in one expression, and filters a photograph through windows that copy nothing.
#
# 对数组写 `a + b` 是一次函数调用，循环在编译好的代码里进行。而 Python 自己的循环，每做一次加法都要检查类型、拆开两个
# 对象、再造出第三个；NumPy 每次调用只付一次这样的代价。所以关键在于学会对“整个数组”说话：哪些轴要对齐，哪些轴要重复
# （广播），哪些轴要求和（归约、`@`、`einsum`）。神经网络的前向计算无非如此，注释里的形状就是这门语言的类型。
#
# 本课测量循环到底慢在哪里、什么时候无所谓，用几行代码写出广播规则，用一个表达式比较所有鸢尾花两两之间的距离，并通过不
# 复制数据的滑动窗口给照片滤波。

# %%
import matplotlib.pyplot as plt
import numpy as np
from dlcommon.course.lesson import check, check_close, data, seconds, show, table
from sklearn.datasets import load_sample_image

random = np.random.default_rng(0)

# %% [markdown]
# ## What a loop costs · 循环的代价
#
# The squared distance of two vectors, three ways, from 1 to 100,000 elements. NumPy has a fixed price of about a
# microsecond a call, so for a handful of elements the loop is as good. From a thousand on it is hopeless.
#
# NumPy 每次调用有固定开销：只有几个元素时，循环并不吃亏；上千个元素之后，差距就达到一两个数量级。

# %%
sizes = [1, 10, 100, 1_000, 10_000, 100_000]
costs: dict[str, list[float]] = {"Python loop over lists": [], "(a − b)² summed by NumPy": [], "one product, d @ d": []}
for size in sizes:
    a, b = random.standard_normal((2, size))
    first, second = a.tolist(), b.tolist()
    ways = (
        lambda first=first, second=second: sum((p - q) ** 2 for p, q in zip(first, second, strict=True)),
        lambda a=a, b=b: ((a - b) ** 2).sum(),
        lambda a=a, b=b: (d := a - b) @ d,
    )
    for times, way in zip(costs.values(), ways, strict=True):
        times.append(seconds(way, repeats=30))
gain = {size: costs["Python loop over lists"][i] / costs["one product, d @ d"][i] for i, size in enumerate(sizes)}
table(
    ["elements", *costs, "loop / product"], [(n, *(c[i] for c in costs.values()), gain[n]) for i, n in enumerate(sizes)]
)

# %% [markdown]
# ## The rule of broadcasting · 广播规则
#
# Align the shapes at the right, fill up with ones at the left. Sizes must be equal, or one of them 1: that axis is
# repeated. Nothing is copied, since the repetition is a stride of 0: the next element is the same element.
#
# 形状靠右对齐，左边补 1；每个轴要么相等，要么其中一个是 1。重复通过步长 0 实现，不复制数据。

# %%


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    axes = max(map(len, shapes))
    aligned = [(1,) * (axes - len(shape)) + shape for shape in shapes]
    sizes = [set(column) - {1} for column in zip(*aligned, strict=True)]
    if any(len(size) > 1 for size in sizes):
        raise ValueError(f"shapes {shapes} do not match")
    return tuple(size.pop() if size else 1 for size in sizes)


agreed, refused = 0, 0
for _ in range(2000):
    shapes = [tuple(random.choice([0, 1, 1, 2, 3], random.integers(4)).tolist()) for _ in range(random.integers(1, 4))]
    try:
        expected = np.broadcast_shapes(*shapes)
    except ValueError:
        expected = None
    try:
        agreed += broadcast(*shapes) == expected
    except ValueError:
        refused += expected is None
print(f"  of 2000 random sets of shapes NumPy matches {agreed} as we do and refuses {refused} as we do")
repeated = np.broadcast_to(np.arange(4.0), (1000, 4))
print(f"  four numbers as a {repeated.shape} array: strides {repeated.strides}, still {repeated.base.nbytes} bytes")

# %% [markdown]
# ## Axes and reductions · 轴与归约
#
# The axis that is named is the one that disappears. `keepdims` leaves it with size 1, so that the result broadcasts
# against what it came from. The trap is the shape that fits by accident: a column minus a row is a table.
#
# 指定哪个轴，哪个轴就消失；keepdims 让它保留为 1，结果便能与原数组继续广播。小心“碰巧能广播”的形状。

# %%
flowers = data("iris").train
x = flowers.drop(columns="species").to_numpy()  # [150, 4], cm
names, species = np.unique(flowers["species"].to_numpy(str), return_inverse=True)
table(
    ["expression", "shape", "meaning"],
    [
        ("x.mean(axis=0)", x.mean(axis=0).shape, "of each measurement, over flowers"),
        ("x.mean(axis=1)", x.mean(axis=1).shape, "of each flower, over measurements"),
        ("x.mean(axis=1, keepdims=True)", x.mean(axis=1, keepdims=True).shape, "the same, ready for x − …"),
        ("x.mean()", x.mean().shape, "of everything"),
    ],
)
z = (x - x.mean(axis=0)) / x.std(axis=0)  # [150, 4] − [4]: each measurement standardized
share = x / x.sum(axis=1, keepdims=True)  # [150, 4] / [150, 1]: each flower's measurements as shares
predicted, actual = x[:, 3:], x[:, 3]  # the same numbers, as [150, 1] and [150]
wrong = ((predicted - actual) ** 2).mean()
print(
    f"  the error of a perfect prediction of shape {predicted.shape} is {wrong:.2f}, over {(predicted - actual).shape}"
)

# %% [markdown]
# ## All pairs at once · 一次算出所有配对
#
# [150, 1, 4] − [150, 4] is [150, 150, 4]: every flower against every other. It takes 150 times the memory of the data,
# so for larger sets the square is multiplied out and the work given to one matrix product.
#
# 插入一个大小为 1 的轴，就能得到所有配对；数据大时改写成矩阵乘法，避免巨大的中间数组。

# %%
differences = z[:, None] - z  # [150, 150, 4]
distances = np.sqrt((differences**2).sum(axis=2))  # [150, 150]
squares = (z**2).sum(axis=1)
by_product = squares[:, None] - 2 * z @ z.T + squares  # ‖p‖² − 2 p·q + ‖q‖²
nearest = (distances + np.diag(np.full(len(z), np.inf))).argmin(axis=1)  # no flower is its own neighbour
accuracy = (species[nearest] == species).mean()
print(f"  differences take {differences.nbytes:,} bytes, the product {by_product.nbytes:,}")
print(f"  {accuracy:.0%} of flowers have the species of their nearest neighbour")

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained", width_ratios=[1.15, 1])
for name, times in costs.items():
    left.loglog(sizes, times, "o-", label=name)
left.set(
    xlabel="elements",
    ylabel="seconds",
    title=f"A call costs the same up to 1,000 elements;\nat 100,000 the loop is {gain[100_000]:.0f} times slower",
)
left.legend()
image = right.imshow(distances, cmap="viridis_r")
right.set(xticks=[25, 75, 125], yticks=[25, 75, 125], xticklabels=names, yticklabels=names)
right.set_title("All distances between 150 flowers: setosa stands apart,\nthe other two species touch")
figure.colorbar(image, ax=right, label="distance, standard deviations")
show(figure, "loops-and-pairs")

# %% [markdown]
# ## einsum: name the axes · einsum：给轴命名
#
# Give each axis a letter. Letters that two operands share are matched, letters missing at the right of the arrow are
# summed. One notation for a dozen functions; with three operands, `optimize=True` also finds the cheap order.
#
# 每个轴一个字母：共同的字母对齐相乘，箭头右侧没有的字母求和。

# %%
one_hot = np.eye(3)[species]  # [150, 3]
weights = random.standard_normal((4, 3))
pairs = {
    "ij->j": (np.einsum("ij->j", x), x.sum(axis=0)),
    "ij,jk->ik": (np.einsum("ij,jk->ik", x, weights), x @ weights),
    "ij,ij->i": (np.einsum("ij,ij->i", x, x), (x * x).sum(axis=1)),
    "ni,nj->ij": (np.einsum("ni,nj->ij", z, z) / len(z), np.corrcoef(x.T)),
    "nk,nj->kj": (np.einsum("nk,nj->kj", one_hot, x) / 50, [x[species == k].mean(axis=0) for k in range(3)]),
}
p, q, r = random.standard_normal((3, 60, 60))
naive = seconds(lambda: np.einsum("ij,jk,kl->il", p, q, r), repeats=3)
ordered = seconds(lambda: np.einsum("ij,jk,kl->il", p, q, r, optimize=True), repeats=3)
print(
    f"  a product of three: {naive * 1e3:.1f} ms as one sum over four letters, {ordered * 1e3:.2f} ms in two products"
)

# %% [markdown]
# ## Windows without copying · 不复制的滑动窗口
#
# With strides of one's own, a view can hold overlapping windows: moving a window and moving inside it are the same
# step. [height, width] becomes [rows, columns, 7, 7], and a filter is a sum over the last two axes. This is a
# convolutional layer's arithmetic; phase 5 builds on it.
#
# 给窗口的移动与窗口内的移动用同样的步长，就得到互相重叠的窗口视图；卷积层的计算正是如此。

# %%
grey = load_sample_image("china.jpg")[::2, ::2].mean(axis=2)  # [214, 320]
height, width = grey.shape
windows = np.lib.stride_tricks.as_strided(  # it checks nothing: a wrong shape reads foreign memory
    grey, (height - 6, width - 6, 7, 7), (*grey.strides, *grey.strides), writeable=False
)
blurred = windows.mean(axis=(2, 3))
edges = np.einsum("ijkl,kl->ij", windows, np.ones((7, 1)) * np.arange(-3, 4))  # change from left to right
print(f"  windows: {windows.size:,} numbers seen, {grey.size:,} in memory")

figure, axes = plt.subplots(1, 3, figsize=(13, 3.5), layout="constrained")
for axis, picture, title, limit in zip(
    axes,
    [grey, blurred, edges],
    ["photograph", "mean of each 7 × 7 window", "left to right: brighter blue, darker red"],
    [None, None, 4000],
    strict=True,
):
    shown = axis.imshow(picture, cmap="RdBu" if limit else "gray", vmin=limit and -limit, vmax=limit)
    axis.set_title(title)
    axis.axis("off")
figure.suptitle("A filter is a sum over a view of overlapping windows")
show(figure, "windows")

# %% [markdown]
# ## What holds · 结论

# %%
loop, summed, product = costs.values()
check("for one element the loop is faster than NumPy's three calls", loop[0] < summed[0])
check(
    "from 1 to 1,000 elements a product grows by less than 5 times, the loop by more",
    product[3] < 5 * product[0] < loop[3] / loop[0] * product[0],
)
check("for 100,000 elements a product is at least 15 times faster than the loop", gain[100_000] > 15)
check("our rule of broadcasting decides every random case as NumPy does", agreed + refused == 2000 and refused > 100)
check("broadcasting repeats by a stride of 0", repeated.strides[0] == 0)
check_close("standardized columns have mean 0 and deviation 1", [z.mean(axis=0), z.std(axis=0)], [[0] * 4, [1] * 4])
check_close("each flower's shares add up to 1", share.sum(axis=1), np.ones(150))
check("a column minus a row makes a perfect prediction look wrong", wrong > 1)
check_close("distances by differences and by one product agree", distances**2, by_product)
between = [distances[species == p][:, species == q].min() for p, q in ((0, 1), (0, 2), (1, 2))]
check("the gap around setosa is at least three times that between the other species", min(between[:2]) > 3 * between[2])
check("the nearest neighbour has the same species for 9 of 10 flowers", accuracy > 0.9)
for letters, (ours, reference) in pairs.items():
    check_close(f"einsum {letters}", ours, reference)
check("choosing the order of products makes einsum at least 3 times faster", naive > 3 * ordered)
check_close("our windows are sliding_window_view's", windows, np.lib.stride_tricks.sliding_window_view(grey, (7, 7)))
