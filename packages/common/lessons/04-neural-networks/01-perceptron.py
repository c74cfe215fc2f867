# %% [markdown]
# # The perceptron · 感知机
#
# The oldest neural network that learns is one unit: a weighted sum, a threshold, and a rule. When the unit is wrong,
# add the input to the weights, or take it away (Rosenblatt 1958). If any hyperplane separates the classes, the rule
# finds one, and a proof of five lines says after how many mistakes at most (Novikoff 1962).
#
# If none does, it never settles. XOR is the smallest such case: this lesson shows the weights going round in a circle,
# counts how many Boolean functions one unit can compute, and sees what happens on real flowers, where the classes
# overlap. What one unit cannot do is the reason for the hidden layers of the next lesson.
#
# 感知机是最早会学习的神经网络：一个加权和、一个阈值和一条规则。判断错了，就把这个输入加到权重上或从中减去
# （Rosenblatt 1958）。只要存在能分开两类的超平面，它就一定能找到，而且犯错次数有上界（Novikoff 1962）；
# 如果不存在，它就永远停不下来。异或（XOR）就是最小的例子：本课会看到权重如何循环往复，
# 数一数单个单元究竟能算出多少个布尔函数，再看看真实的鸢尾花数据上两类重叠时会发生什么。
# 单个单元的局限，正是下一课引入隐藏层的理由。

# %%
import itertools

import matplotlib.pyplot as plt
import numpy as np
from dlcommon.course.lesson import check, check_close, show, table
from dlcommon.neural_networks.perceptron import mistake_bound, train_perceptron
from sklearn.datasets import load_iris
from sklearn.linear_model import Perceptron

random = np.random.default_rng(0)

# %% [markdown]
# ## The rule, step by step · 一步一步看规则
#
# Every line is one mistake: the unit said the wrong thing, so y·x is added. AND ends in an epoch without one.
# 每一行是一次错误；一整轮没有错误，就学会了。


# %%
def mistakes_one_by_one(inputs, labels, epochs):
    """The weights, bias last, before the first mistake and after each."""
    unit, steps = np.zeros(3), [np.zeros(3)]
    for _ in range(epochs):
        for point, label in zip(inputs, labels, strict=True):
            x = np.append(point, 1)  # the bias is the weight of an input that is always 1
            if label * (unit @ x) <= 0:
                unit = unit + label * x
                steps.append(unit)
    return steps


corners = np.array(list(itertools.product((0, 1), repeat=2)))  # [4, 2]
logical_and = np.where(corners.min(1) == 1, 1, -1)
and_steps = mistakes_one_by_one(corners, logical_and, epochs=20)
table(["mistake", "w₁", "w₂", "b"], [(number, *step.tolist()) for number, step in enumerate(and_steps)])
learned_and = train_perceptron(corners, logical_and, max_epochs=20)
print(f"  mistakes by epoch {learned_and.mistakes}")

# %% [markdown]
# ## Why it converges · 为什么收敛
#
# Let u be a unit vector that separates with margin γ: y (u·x) ≥ γ for all samples, none longer than R. With every
# mistake, u·w grows by at least γ, but |w|² by at most R², since x was on the wrong side. After M mistakes
# Mγ ≤ u·w ≤ |w| ≤ √M R, hence **M ≤ (R/γ)²**. Nothing in this depends on the number of dimensions or samples.
#
# Synthetic points in 20 dimensions, those nearer than γ to the true plane taken out. 每次犯错，u·w 至少增加 γ，
# 而 |w|² 至多增加 R²，因此犯错次数不超过 (R/γ)²，与维数和样本数无关。

# %%
margins, made, bounds = [], [], []
for gap in np.geomspace(0.02, 0.5, 12):
    truth = random.standard_normal(20)
    truth /= np.linalg.norm(truth)
    inputs = random.standard_normal((600, 20))
    inputs = inputs[np.abs(inputs @ truth) > gap]
    labels = np.where(inputs @ truth > 0, 1, -1)
    trained = train_perceptron(inputs, labels, max_epochs=2000)
    assert trained.converged
    margins.append(gap)
    made.append(sum(trained.mistakes))
    bounds.append(mistake_bound(inputs, labels, truth))
table(
    ["margin γ", "mistakes until it separates", "bound (R/γ)²"], zip(margins[::3], made[::3], bounds[::3], strict=True)
)

# %% [markdown]
# ## XOR goes round in circles · 异或：原地打转
#
# XOR asks for b ≤ 0, w₁ + b > 0, w₂ + b > 0 and w₁ + w₂ + b ≤ 0. The sum of the middle two says w₁ + w₂ + 2b > 0, that
# of the outer two the opposite. The rule does not know this; it only never stops. But it is deterministic, so weights
# that *return* prove that it never will. 规则是确定的：权重一旦回到旧值，就证明它永远不会收敛。

# %%
logical_xor = np.where(corners.sum(1) == 1, 1, -1)
xor_steps = mistakes_one_by_one(corners, logical_xor, epochs=1)
table(["mistake", "w₁", "w₂", "b"], [(number, *step.tolist()) for number, step in enumerate(xor_steps)])
xor = train_perceptron(corners, logical_xor, max_epochs=100)
print(f"  {xor.mistakes[-1]} mistakes in an epoch, and the weights are again those of {xor.cycle_length} epoch before")

angles, offsets = np.linspace(0, 360, 181), np.linspace(-1.6, 1.6, 161)
normals = np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))])  # [2, angles]
scores = (corners @ normals)[:, None, :] + offsets[:, None]  # [corners, offsets, angles]
right = (np.where(scores > 0, 1, -1) == logical_xor[:, None, None]).sum(0)  # [offsets, angles]
print(f"  of {right.size} lines the best gets {right.max()} of the 4 corners right")

product = np.column_stack([corners, corners.prod(1)])  # one more feature, x₁x₂, and a plane is enough
with_product = train_perceptron(product, logical_xor, max_epochs=100)
print(f"  with the feature x₁x₂: {sum(with_product.mistakes)} mistakes, then w = {with_product.weights}")

# %% [markdown]
# ## How many functions can one unit compute? · 一个单元能算多少函数？
#
# On integers the rule always ends, in an epoch without mistakes or in a return, so it *decides* whether a function is
# linearly separable. All of them, for one to three inputs. 输入越多，线性可分的布尔函数所占比例越小。

# %%
counts = []
for size in (1, 2, 3):
    cube = np.array(list(itertools.product((0, 1), repeat=size)))
    outcomes = [train_perceptron(cube, np.array(f), 1000) for f in itertools.product((-1, 1), repeat=len(cube))]
    assert all(outcome.converged or outcome.cycle_length for outcome in outcomes)
    counts.append((size, len(outcomes), sum(outcome.converged for outcome in outcomes)))
table(["inputs", "functions", "separable", "share"], [(*row, row[2] / row[1]) for row in counts])

# %% [markdown]
# ## Real flowers: separable, and not · 真实的鸢尾花
#
# Fisher's irises. Setosa differs from the rest at a glance; versicolor and virginica overlap. There the weights at any
# moment are those of the last accident, and training longer does not help; their mean over all steps (Freund &
# Schapire 1999) is calm. 两类重叠时，最后的权重只反映最近的一次错误，而平均权重要稳定得多。

# %%
iris = load_iris()
flowers = (iris.data - iris.data.mean(0)) / iris.data.std(0)
mixed = random.permutation(150)
flowers, kinds = flowers[mixed], iris.target[mixed]
is_setosa = np.where(kinds == 0, 1, -1)
setosa = train_perceptron(flowers, is_setosa, 100)
pair, sides = flowers[kinds > 0], np.where(kinds[kinds > 0] == 2, 1, -1)
overlap = [train_perceptron(pair, sides, epochs) for epochs in range(1, 61)]
wrong_last = [int((unit.predict(pair) != sides).sum()) for unit in overlap]
wrong_mean = [int((unit.predict_averaged(pair) != sides).sum()) for unit in overlap]
print(f"  setosa or not: separated after {sum(setosa.mistakes)} mistakes")
table(
    ["versicolor or virginica, epochs 21 to 60", "fewest misclassified", "most"],
    [
        ("last weights", min(wrong_last[20:]), max(wrong_last[20:])),
        ("mean", min(wrong_mean[20:]), max(wrong_mean[20:])),
    ],
)
reference = Perceptron(max_iter=60, tol=None, shuffle=False).fit(pair, sides)

# %%
figure, axes = plt.subplots(1, 3, figsize=(13.5, 3.9), layout="constrained")
axes[0].loglog(margins, bounds, "k--", label="bound $(R/\\gamma)^2$")
axes[0].loglog(margins, made, "o-", label="mistakes made")
axes[0].set(title="Mistakes stay far below the bound", xlabel="margin $\\gamma$", ylabel="mistakes until it separates")
axes[0].set_xticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"], minor=False)
axes[0].xaxis.minorticks_off()
axes[0].legend()
levels = axes[1].pcolormesh(angles, offsets, right, cmap=plt.get_cmap("viridis", 3), vmin=0.5, vmax=3.5)
axes[1].set(
    title="No line gets all of XOR right",
    xlabel="direction of the weights, degrees",
    ylabel="bias",
    xticks=range(0, 361, 90),
)
figure.colorbar(levels, ax=axes[1], ticks=[1, 2, 3], label="corners right, of 4")
axes[2].plot(range(1, 61), wrong_last, label="last weights")
axes[2].plot(range(1, 61), wrong_mean, label="mean of the weights")
axes[2].set(
    title="With overlap, the last weights never rest",
    xlabel="epochs",
    ylabel="of 100 flowers misclassified",
    ylim=(0, None),
)
axes[2].legend()
show(figure, "perceptron")

# %% [markdown]
# ## What holds · 结论

# %%
check(
    "AND is learned, step by step as by the module", and_steps[-1].tolist() == [*learned_and.weights, learned_and.bias]
)
check_close("weights after 60 epochs are scikit-learn's", overlap[-1].weights, reference.coef_[0], 1e-9)
check("with a margin it converges, always within the bound", all(m <= b for m, b in zip(made, bounds, strict=True)))
check("margins ten times smaller cost over three times the mistakes", np.mean(made[:3]) > 3 * np.mean(made[-3:]))
check(
    "on XOR the weights return, and no line gets four corners right", xor.cycle_length is not None and right.max() == 3
)
check("with one product feature XOR is separable", with_product.converged)
check("14 of 16 functions of two inputs are separable, 104 of 256 of three", [c[2] for c in counts[1:]] == [14, 104])
check("setosa is separated, versicolor and virginica are not", setosa.converged and min(wrong_last) > 0)
check("the mean of the weights is steadier than the last", np.std(wrong_mean[20:]) < np.std(wrong_last[20:]) / 2)
