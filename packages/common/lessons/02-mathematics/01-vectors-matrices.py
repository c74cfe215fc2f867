# %% [markdown]
# # Vectors and matrices · 向量与矩阵
#
# To a network everything is a vector: an image, a word, a user. Whether two of them are alike is a matter of lengths
# and angles, and whatever a layer does to them is a matrix. This lesson measures similarity of real digits with several
# norms, looks at what high dimensions do to angles, and at a matrix as a map of space.
#
# The implementations are in `dlcommon.mathematics.vectors` and `dlcommon.mathematics.einsum`. To look things up:
# [docs/LINEAR_ALGEBRA_DL.md](../../../../docs/LINEAR_ALGEBRA_DL.md) 速查文档：线性代数。
#
# 对神经网络来说，一切都是向量：图像、词语、用户都是。两个向量像不像，看的是长度和夹角；网络的每一层对向量做的事情，就是
# 乘一个矩阵。本课用真实的手写数字比较几种范数下的相似度，观察高维空间里夹角会发生什么，并把矩阵看成对空间的变换；最后用
# 爱因斯坦求和约定写出批量矩阵乘法。

# %%
import matplotlib.pyplot as plt
import numpy as np
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.mathematics.einsum import einsum
from dlcommon.mathematics.vectors import cosine_similarity, norm, project, squared_distances

random = np.random.default_rng(0)
digits = data("mnist", "mnist-sample")
train = digits.train_images[:1500].reshape(1500, -1) / 255.0  # [samples, 784]
test = digits.test_images[:200].reshape(200, -1) / 255.0
train_labels, test_labels = digits.train_labels[:1500], digits.test_labels[:200]

# %% [markdown]
# ## Length and angle · 长度与夹角
#
# $a \cdot b = \lVert a \rVert \lVert b \rVert \cos\theta$. The nearest training digit is already a classifier; it only
# needs to know what "near" means. All 300,000 comparisons are one matrix product.
#
# 最近邻分类只需要定义“近”：用内积、夹角还是距离，结果并不相同。

# %%
by_order = {order: np.stack([norm(train - digit, order) for digit in test]) for order in (1, np.inf)}  # [test, train]
nearness = {
    "dot product": test @ train.T,
    "cosine": cosine_similarity(test, train),
    "L2 distance": -squared_distances(test, train),
    "L1 distance": -by_order[1],
    "L∞ distance": -by_order[np.inf],
}
accuracy = {name: float((train_labels[near.argmax(1)] == test_labels).mean()) for name, near in nearness.items()}
table(["nearest by", "accuracy"], accuracy.items())

# %% [markdown]
# The bare dot product prefers neighbours with much ink, whatever their shape; the largest single difference is noise.
# Cosine and L2 look at all pixels, and agree once lengths are taken out: $\lVert a - b \rVert^2 = 2 - 2 \cos\theta$ for
# unit vectors. This is why retrieval normalizes its embeddings.

# %% [markdown]
# ## Angles in high dimensions · 高维空间里的夹角
#
# Two random directions in $d$ dimensions are nearly orthogonal: the cosine has mean 0 and standard deviation
# $1/\sqrt d$. There is room for very many nearly independent features in an embedding of moderate width.

# %%
dimensions = [2, 8, 32, 128, 512]
cosines = {}
for d in dimensions:
    a, b = random.standard_normal((2, 120, d))
    cosines[d] = cosine_similarity(a, b).ravel()
table(
    ["dimensions", "std of cosine", "1 / √d"],
    [[d, float(cosines[d].std()), d**-0.5] for d in dimensions],
)

# %% [markdown]
# ## A matrix is a map · 矩阵是一种变换
#
# The columns of $A$ are where the unit vectors go; everything else follows, because $A$ is linear. The circle becomes
# an ellipse, areas grow by $|\det A|$, and no vector grows by more than the largest half-axis, the spectral norm.
#
# 矩阵的列就是单位向量的去处；单位圆变成椭圆，面积放大 $|\det A|$ 倍。

# %%
matrix = np.array([[1.6, 0.7], [0.4, 1.1]])
angles = np.linspace(0, 2 * np.pi, 721)
circle = np.stack([np.cos(angles), np.sin(angles)])  # [2, points]
ellipse = matrix @ circle
x, y = ellipse
area = float(np.abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2)  # the shoelace formula
stretch = norm(ellipse.T)

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
ticks = np.linspace(-1, 1, 9)
for t in ticks:
    for line in (np.stack([ticks, np.full(9, t)]), np.stack([np.full(9, t), ticks])):
        left.plot(*line, color="0.85", lw=0.8)
        left.plot(*(matrix @ line), color="tab:blue", lw=0.8, alpha=0.4)
left.plot(*circle, color="0.3", label="unit circle")
left.plot(*ellipse, color="tab:blue", label="its image")
for column, name in zip(matrix.T, ("first column", "second column"), strict=True):
    left.annotate("", column, (0, 0), arrowprops={"arrowstyle": "->", "color": "tab:red", "lw": 2})
    left.annotate(name, column, xytext=(4, 4), textcoords="offset points", fontsize=8, color="tab:red")
left.set(
    title=f"A matrix makes a circle an ellipse\nof {area / np.pi:.2f} times its area", aspect="equal", xlim=(-2.6, 3.1)
)
left.legend(loc="lower right", fontsize=8)
for d, values in cosines.items():
    middle.hist(values, bins=np.linspace(-1, 1, 81), density=True, histtype="step", label=f"{d} dimensions")
middle.set(title="Random directions become orthogonal\nas dimensions grow", xlabel="cosine", ylabel="density")
middle.legend(fontsize=8)
for order, colour in ((1, "tab:red"), (1.5, "tab:orange"), (2, "tab:green"), (4, "tab:blue"), (np.inf, "tab:purple")):
    right.plot(*(circle / norm(circle.T, order)), color=colour, label=f"p = {order:g}")
right.set(title="All vectors of p-norm 1:\nthe corners of L1 lie on the axes", aspect="equal")
right.legend(fontsize=8, loc="center")
show(figure, "similarity-and-maps")

# %% [markdown]
# ## Projection · 投影
#
# The ten mean digits span a subspace of ten dimensions. The nearest point to an image in it leaves a remainder that is
# orthogonal to all ten: least squares is a right angle.

# %%
means = np.stack([train[train_labels == digit].mean(0) for digit in range(10)], axis=1)  # [784, 10]
shadow = project(test.T, means)  # [784, test]
remainder = test.T - shadow
share = float((shadow**2).sum() / (test**2).sum())
print(f"  ten mean digits hold {share:.0%} of the squared length of the test images")

# %% [markdown]
# ## Batches of matrices · 批量矩阵乘法
#
# A layer multiplies thousands of matrices at once. In Einstein's notation the letters say which axes are multiplied and
# which are summed: attention's scores are `bhqd,bhkd->bhqk`.
#
# 爱因斯坦求和用字母标明哪些轴相乘、哪些轴求和；注意力分数就是 `bhqd,bhkd->bhqk`。

# %%
queries, keys = random.standard_normal((2, 4, 3, 5, 8))  # [batch, heads, tokens, dim]
scores = einsum("bhqd,bhkd->bhqk", queries, keys)

# %%
check_close(
    "the dot product is lengths times cosine",
    test @ train.T / np.outer(norm(test), norm(train)),
    cosine_similarity(test, train),
)
check_close(
    "distances by one product equal those by differences", squared_distances(test, train)[0], norm(train - test[0]) ** 2
)
check("nearest by cosine recognizes most digits", accuracy["cosine"] > 0.88)
check(
    "the bare dot product and the largest difference do worse",
    max(accuracy["dot product"], accuracy["L∞ distance"]) < min(accuracy["cosine"], accuracy["L2 distance"]) - 0.05,
)
check("the spread of cosines is 1 / √d, to a tenth", all(abs(cosines[d].std() * d**0.5 - 1) < 0.1 for d in dimensions))
check_close("areas grow by the determinant", area / np.pi, abs(np.linalg.det(matrix)), tolerance=1e-4)
check_close("no vector grows by more than the spectral norm", stretch.max(), np.linalg.norm(matrix, 2), tolerance=1e-4)
check("what a projection leaves is orthogonal to the subspace", np.abs(means.T @ remainder).max() < 1e-9)
check_close("einsum is the batched product", scores, queries @ keys.transpose(0, 1, 3, 2))
