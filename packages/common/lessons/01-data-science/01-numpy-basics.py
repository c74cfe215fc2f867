# %% [markdown]
# # NumPy arrays · NumPy 数组基础
#
# An array is one block of memory and a short note on how to read it: a type, a shape, and for each axis the number of
# bytes to the next element, its *stride*. If you know `ArrayBuffer` and `Float32Array` from JavaScript you know half
# of it: the buffer holds bytes, the typed array is a way to read them. NumPy adds axes.
#
# Most of what surprises people follows from this picture: why a slice of a gigabyte costs nothing, why writing into
# it changes the original, why 200 + 100 can be 44. This lesson reads one photograph in six ways without copying a
# byte, finds out which selections do copy, and looks at what a type saves and what it loses. PyTorch's tensors work
# the same way.
#
# 数组由两部分组成：一整块内存，以及一张说明如何读取它的“便条”，上面写着数据类型、形状，和每个轴走到下一个元素要跨过的
# 字节数，即步长（stride）。如果你熟悉 JavaScript 的 `ArrayBuffer` 与 `Float32Array`，就已经懂了一半：前者存放字节，后
# 者是读取字节的一种方式，NumPy 只是再加上了“轴”。
#
# 许多令人意外的现象都由此而来：为什么切出一个 1 GB 的片段几乎不花时间，为什么修改切片会改动原数组，为什么 200 + 100
# 会得到 44。本课用六种方式读取同一张照片而不复制任何字节，再弄清哪些选取方式会复制数据，以及不同数据类型省下了什么、
# 又丢掉了什么。

# %%
import sys

import matplotlib.pyplot as plt
import numpy as np
from dlcommon.course.lesson import check, check_close, data, show, table
from sklearn.datasets import load_sample_image

# %% [markdown]
# ## Making arrays · 创建数组
#
# From values, from a shape, from a range, at random. All elements have one type, so an array stores bare numbers. A
# Python list stores pointers to objects, like an array of boxed values.
#
# 数组只存数字本身；Python 列表存的是指向对象的指针。

# %%
random = np.random.default_rng(0)  # a generator of one's own: the same numbers on every run
made = {
    "array([[1, 2], [3, 4]])": np.array([[1, 2], [3, 4]]),
    "zeros((2, 3))": np.zeros((2, 3)),
    "arange(0, 10, 2)": np.arange(0, 10, 2),
    "linspace(0, 1, 5)": np.linspace(0, 1, 5),
    "full(4, 7, uint8)": np.full(4, 7, np.uint8),
    "random.normal(size=(2, 3))": random.normal(size=(2, 3)),
    "array(3.5)": np.array(3.5),
}
table(["made by", "shape", "type", "bytes"], [(how, a.shape, a.dtype, a.nbytes) for how, a in made.items()])

floats = [float(number) for number in range(100_000)]
list_bytes = sys.getsizeof(floats) + sum(sys.getsizeof(number) for number in floats)
array_bytes = np.array(floats, np.float32).nbytes
print(f"  100,000 numbers: {list_bytes:,} bytes as a list of floats, {array_bytes:,} as a float32 array")

# %% [markdown]
# ## An index is arithmetic · 索引就是算术
#
# Element (i, j) lies at `start + i·stride₀ + j·stride₁`. A slice, a reversal or a transpose only changes start, shape
# and strides. Here we read element [1, 2] of each by hand from one and the same 40 bytes.
#
# 切片、反转、转置只改起点、形状和步长；下面从同一段 40 字节里，手工读出每个视图的 [1, 2]。

# %%
grid = np.arange(20, dtype=np.int16).reshape(4, 5)
memory = grid.tobytes()
readings = {
    "grid": grid,
    "grid.T": grid.T,
    "grid[1:, 2:]": grid[1:, 2:],
    "grid[::-1]": grid[::-1],
    "grid[:, ::2]": grid[:, ::2],
    "grid.reshape(2, 10)": grid.reshape(2, 10),
}
starts = {name: view.ctypes.data - grid.ctypes.data for name, view in readings.items()}
by_hand = {}
for name, view in readings.items():
    offset = starts[name] + 1 * view.strides[0] + 2 * view.strides[1]
    by_hand[name] = int.from_bytes(memory[offset : offset + 2], sys.byteorder, signed=True)
table(
    ["view", "start", "shape", "strides", "[1, 2] by hand", "by NumPy"],
    [(n, starts[n], v.shape, v.strides, by_hand[n], v[1, 2]) for n, v in readings.items()],
)

# %% [markdown]
# ## A photograph, six times · 同一张照片的六种读法
#
# A photograph is [height, width, 3] bytes. Each panel below is a slice of it: no pixel is moved.

# %%
photo = load_sample_image("flower.jpg").copy()  # uint8 [427, 640, 3]
views = {
    "photo": photo,
    "photo[60:360, 150:500]": photo[60:360, 150:500],
    "photo[:, ::-1]": photo[:, ::-1],
    "photo[::16, ::16]": photo[::16, ::16],
    "photo.transpose(1, 0, 2)": photo.transpose(1, 0, 2),
    "photo[:, :, ::-1]": photo[:, :, ::-1],
}
figure, axes = plt.subplots(2, 3, figsize=(11, 7), layout="constrained")
for axis, (name, view) in zip(axes.flat, views.items(), strict=True):
    axis.imshow(view)
    axis.set_title(f"{name}\nstrides {view.strides}", fontsize=10, family="monospace")
    axis.axis("off")
figure.suptitle(f"Six readings of the same {photo.nbytes:,} bytes: crop, mirror, shrink, turn, swap colours")
show(figure, "views-of-a-photo")

# %% [markdown]
# ## View or copy? · 视图还是拷贝？
#
# The rule: what start, shape and strides can describe is a view. A mask or a list of indices can pick anything, so it
# has to copy. Some methods return a view when they can and a copy when they must. 掩码与索引列表一定复制。
#
# Three consequences. Assignment *to* a selection writes into the array, whatever the kind of index; assignment into
# the *result* of a mask is lost. A function that says `x -= …` changes its caller's data. And one pixel kept as a
# view keeps the whole photograph in memory.

# %%
numbers = np.arange(12).reshape(3, 4)
selections = {
    "numbers[1]": numbers[1],
    "numbers[:, 1:3]": numbers[:, 1:3],
    "numbers.ravel()": numbers.ravel(),
    "numbers.T.ravel()": numbers.T.ravel(),
    "numbers[[0, 2]]": numbers[[0, 2]],
    "numbers[numbers > 5]": numbers[numbers > 5],
    "numbers.flatten()": numbers.flatten(),
    "numbers.astype(float)": numbers.astype(float),
}
shares = {name: np.shares_memory(numbers, part) for name, part in selections.items()}
table(["expression", "shape", "is"], [(n, p.shape, "view" if shares[n] else "copy") for n, p in selections.items()])

chained, direct = numbers.copy(), numbers.copy()
chained[chained > 5][:] = 0  # the mask has made a copy, which is set to 0 and thrown away
direct[direct > 5] = 0


def centred(values: np.ndarray) -> np.ndarray:
    values -= values.mean()  # in place: should be `values = values - values.mean()`
    return values


caller = np.array([1.0, 2.0, 6.0])
centred(caller)
pixel = photo[0, 0]
print(f"  after chained assignment {chained.max()}, after direct {direct.max()}; the caller's array is now {caller}")
print(f"  a view of {pixel.nbytes} bytes keeps {pixel.base.nbytes:,} alive; .copy() lets them go")

# %% [markdown]
# ## Selecting by data · 用数据做索引
#
# Comparisons give arrays of booleans, `&` and `|` combine them, and arrays of integers reorder, repeat and look up.
# Two lists of indices are *paired*, which is rarely what one expects at first. 两个索引列表会逐对匹配，而不是取交叉块。

# %%
flowers = data("iris").train
lengths = flowers["petal_length"].to_numpy()  # [150], cm
names, species = np.unique(flowers["species"].to_numpy(str), return_inverse=True)  # [3], and [150] of 0, 1, 2
medium = (lengths > 2) & (lengths < 5)
longest = lengths.argsort()[::-1][:3]
one_hot = np.eye(len(names))[species]  # [150, 3]: row i of the identity matrix for species i
means = one_hot.T @ lengths / one_hot.sum(axis=0)
print(f"  petals of 2 to 5 cm: {medium.sum()} flowers, of {names[np.unique(species[medium])].tolist()}")
print(f"  the longest three: {lengths[longest]} cm, all {np.unique(names[species[longest]])}")
print("  mean length by species:", dict(zip(names.tolist(), means.round(2).tolist(), strict=True)))
paired, block = grid[[0, 1], [2, 3]], grid[np.ix_([0, 1], [2, 3])]
print(f"  grid[[0, 1], [2, 3]] is {paired.tolist()}; the block is grid[np.ix_(…)]: {block.tolist()}")

# %% [markdown]
# ## What a type costs · 数据类型的代价
#
# A byte holds 0 … 255 and wraps around without a word. float32 has 24 bits of precision, so it cannot count beyond
# 2²⁴ in ones. A plain Python number of the same kind (integer or floating) leaves an array's type alone; a NumPy
# scalar has a type of its own, and the wider one wins.
#
# uint8 会静默回绕；float32 从 2²⁴ 起数不清个位；同类的 Python 数字不改变数组的类型，而 NumPy 标量自带类型，会把它变宽。

# %%
brighter = photo + 90  # still uint8: 200 + 90 is 34
clipped = np.clip(photo.astype(np.int16) + 90, 0, 255).astype(np.uint8)
wrapped = float((brighter < photo).mean())
counter = np.float32(2**24)
small, single = np.ones(1, np.uint8), np.ones(1, np.float32)
table(
    ["expression", "type"],
    [
        ("uint8 array + 1", (small + 1).dtype),
        ("uint8 array + np.int64(1)", (small + np.int64(1)).dtype),
        ("uint8 array + 1.0", (small + 1.0).dtype),
        ("float32 array + 1.0", (single + 1.0).dtype),
        ("float32 array + np.float64(1)", (single + np.float64(1)).dtype),
        ("mean of a uint8 array", small.mean().dtype),
    ],
)

figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
for axis, picture, title in zip(
    axes[:2],
    [brighter, clipped],
    [f"photo + 90 in bytes: {wrapped:.0%} of values wrap around", "the same in int16, clipped"],
    strict=True,
):
    axis.imshow(picture)
    axis.set_title(title, fontsize=10)
    axis.axis("off")
axes[2].plot(np.arange(256), (np.arange(256, dtype=np.uint8) + 90), label="in bytes")
axes[2].plot(np.arange(256), np.minimum(np.arange(256) + 90, 255), "--", label="clipped")
axes[2].set(xlabel="before", ylabel="after", title="Bytes wrap around at 256")
axes[2].legend()
show(figure, "bytes-wrap")

# %% [markdown]
# ## What holds · 结论

# %%
check("a list of floats takes more than 7 times the memory of a float32 array", list_bytes > 7 * array_bytes)
check_close("an index is start plus strides", list(by_hand.values()), [view[1, 2] for view in readings.values()])
check("all six pictures share the photograph's memory", all(np.shares_memory(photo, view) for view in views.values()))
check("slices and flat readings in memory order are views", list(shares.values())[:3] == [True] * 3)
check("reordering, lists, masks, flatten and astype copy", not any(list(shares.values())[3:]))
check("assignment through a mask works, into its result is lost", direct.max() == 5 and chained.max() == 11)
check("an in-place operation reached the caller's array", caller.tolist() == [-2.0, -1.0, 3.0])
check("one pixel keeps the photograph alive", pixel.base is photo)
check_close("one-hot products are means by mask", means, [lengths[species == s].mean() for s in range(3)])
check("lists of indices are paired: two elements, not a block", paired.shape == (2,) and block.shape == (2, 2))
check("every byte above 165 wrapped around, and no other", np.array_equal(brighter < photo, photo > 165))
check("float32 cannot count past 2²⁴", counter + np.float32(1) == counter)
