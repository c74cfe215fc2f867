# %% [markdown]
# # Optimization basics · 优化基础
#
# Gradient descent walks downhill: $x \leftarrow x - \eta \nabla f(x)$. How fast it arrives is a matter of shape. In a
# round bowl one step may be enough; in a long narrow valley the steep walls force a small step and the gentle floor
# needs a large one. The ratio of the two curvatures is the condition number $\kappa$, and it decides everything.
#
# This lesson looks at paths on surfaces, measures their rates against theory, and shows on real data why inputs are
# standardized and layers normalized. To look things up:
# [docs/LINEAR_ALGEBRA_DL.md](../../../../docs/LINEAR_ALGEBRA_DL.md) 速查文档：线性代数与梯度。
#
# 梯度下降沿着下坡方向走。走得快不快，取决于曲面的形状：圆碗里一步到底；狭长的山谷里，陡峭的谷壁要求小步，平缓的谷底又需
# 要大步。两个方向曲率之比就是条件数 $\kappa$。本课在曲面上画出下降路径，把实测的收敛速度与理论对照，并用真实数据说明为
# 什么要对输入做标准化、为什么要在网络里加归一化层。

# %%
import matplotlib.pyplot as plt
import numpy as np
from dlcommon.course.lesson import check, check_close, show, table
from dlcommon.mathematics.autograd import gradient_of
from dlcommon.mathematics.decompositions import eigh
from dlcommon.mathematics.derivatives import numerical_hessian
from dlcommon.mathematics.descent import descend, optimal_lr, optimal_momentum
from sklearn.datasets import load_diabetes

# %% [markdown]
# ## Condition number · 条件数
#
# On a quadratic bowl with curvatures 1 and $\kappa$, descent stays stable for $\eta < 2/\kappa$; the best rate shrinks
# the distance by $(\kappa-1)/(\kappa+1)$ a step. Momentum turns $\kappa$ into $\sqrt\kappa$: it damps the zigzag and
# adds up what points the same way.
#
# 动量把 $\kappa$ 变成 $\sqrt\kappa$：来回摆动互相抵消，一致的方向不断累积。

# %%
start = np.array([-3.0, 1.5])
rows = []
measured, promised = [], []
for kappa in (3.0, 30.0, 300.0):
    curvatures = np.array([1.0, kappa])
    rate, shrink = optimal_lr(1.0, kappa)
    heavy_rate, beta, heavy_shrink = optimal_momentum(1.0, kappa)
    steps = int(8 * kappa**0.5) + 20
    plain = np.linalg.norm(descend(lambda x, c=curvatures: c * x, start, rate, steps), axis=1)
    heavy = np.linalg.norm(descend(lambda x, c=curvatures: c * x, start, heavy_rate, steps, beta), axis=1)
    found = [float((path[-1] / path[steps // 2]) ** (1 / (steps - steps // 2))) for path in (plain, heavy)]
    measured.append(found)
    promised.append([shrink, heavy_shrink])
    rows.append([f"{kappa:g}", found[0], shrink, found[1], heavy_shrink])
table(["κ", "plain: measured", "(κ−1)/(κ+1)", "momentum: measured", "(√κ−1)/(√κ+1)"], rows)

# %%
bowl = np.array([1.0, 30.0])


def slope(x):
    return bowl * x


rate, _ = optimal_lr(*bowl)
heavy_rate, beta, _ = optimal_momentum(*bowl)
path_too_fast = descend(slope, start, 2.02 / 30, 40)
paths = {
    f"too small: {rate / 8:.3f}": descend(slope, start, rate / 8, 40),
    f"best: {rate:.3f}": descend(slope, start, rate, 40),
    f"too large: {2.02 / 30:.3f}": path_too_fast,
    f"momentum {beta:.2f}": descend(slope, start, heavy_rate, 40, beta),
}
grid = np.stack(np.meshgrid(np.linspace(-3.6, 1.8, 200), np.linspace(-2.4, 2.4, 200)))
height = (bowl[:, None, None] * grid**2).sum(0) / 2
figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained", sharey=True)
for axis, (name, path) in zip(axes, paths.items(), strict=True):
    axis.contour(*grid, height, levels=np.geomspace(0.05, 90, 14), colors="0.75", linewidths=0.7)
    axis.plot(*path.T, "o-", ms=3, lw=1, color="tab:red")
    axis.plot(0, 0, "k*", ms=10)
    axis.set(
        title=f"{name}\ndistance after 40 steps: {np.linalg.norm(path[-1]):.1g}", xlim=(-3.6, 1.8), ylim=(-2.4, 2.4)
    )
figure.suptitle("A valley of condition number 30, from the same start")
show(figure, "one-valley-four-ways")

# %% [markdown]
# ## Curved valleys and saddles · 弯曲的山谷与鞍点
#
# Rosenbrock's valley bends, and its floor is nearly flat. At a saddle the gradient vanishes though there is a way down.
# The gradients come from our autograd. Newton's method divides by the curvature, and so crosses the bent valley in a
# few steps, but it needs the Hessian, which no large network can afford.


# %%
def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def saddle(x):
    return x[0] ** 2 / 2 - x[1] ** 2 / 2 + x[1] ** 4 / 4


banana_slope, saddle_slope = gradient_of(rosenbrock), gradient_of(saddle)
begin = np.array([-1.2, 1.0])
plain = descend(banana_slope, begin, 0.001, 500)
heavy = descend(banana_slope, begin, 0.001, 500, momentum=0.9, nesterov=True)
newton = [begin]
for _ in range(8):
    newton.append(newton[-1] - np.linalg.solve(numerical_hessian(banana_slope, newton[-1]), banana_slope(newton[-1])))
newton = np.stack(newton)
stuck = descend(saddle_slope, np.array([1.2, 0.0]), 0.2, 60)
escaped = descend(saddle_slope, np.array([1.2, 1e-4]), 0.2, 60)

figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.6))
grid = np.stack(np.meshgrid(np.linspace(-1.7, 1.5, 300), np.linspace(-3.5, 2.2, 300)))
left.contour(*grid, rosenbrock(grid), levels=np.geomspace(0.05, 1000, 16), colors="0.75", linewidths=0.7)
for name, path in (
    ("with Nesterov momentum, 500 steps", heavy),
    ("gradient descent, 500", plain),
    ("Newton, 8", newton),
):
    left.plot(*path.T, "o-" if len(path) < 20 else "-", ms=4, lw=2, label=f"{name}: f = {rosenbrock(path[-1]):.1g}")
left.plot(1, 1, "k*", ms=12)
left.set(
    title="Rosenbrock's valley: the floor is long and flat",
    xlabel="$x_0$",
    ylabel="$x_1$",
    xlim=(-1.7, 1.5),
    ylim=(-3.5, 2.2),
)
left.legend(loc="lower left", fontsize=8)
grid = np.stack(np.meshgrid(np.linspace(-1.5, 1.5, 200), np.linspace(-1.5, 1.5, 200)))
right.contour(*grid, saddle(grid), levels=25, cmap="viridis", linewidths=0.8)
right.plot(*stuck.T, "o-", ms=7, color="tab:red", alpha=0.5, label="exactly on the ridge")
right.plot(*escaped.T, "o-", ms=3, color="tab:blue", label="one ten-thousandth beside it")
right.set(title="A saddle holds only what starts exactly on its ridge", xlabel="$x_0$", ylabel="$x_1$")
right.legend(loc="upper left", fontsize=8)
show(figure, "banana-and-saddle")

# %% [markdown]
# ## Why inputs are standardized · 为什么要标准化
#
# Linear regression of disease progression on ten measurements of 442 diabetes patients (Efron et al. 2004). The loss is
# a quadratic whose curvatures are the eigenvalues of $X^T X / n$. In the units of the file, blood pressure and
# cholesterol are about a hundred, a log is about five: the condition number is in the tens of millions. Standardized
# columns bring it to hundreds, whitened ones to 1. Batch normalization standardizes the layers inside.
#
# 用真实的糖尿病数据做线性回归：原始单位下条件数上千万，标准化后降到几百，白化后为 1。批归一化在网络内部做的正是这件事。

# %%
patients = load_diabetes(scaled=False)
raw, target = patients.data, patients.target - patients.target.mean()
standard = (raw - raw.mean(0)) / raw.std(0)
variances, directions = eigh(standard.T @ standard / len(standard))
white = standard @ directions / np.sqrt(variances)
conditions, curves = {}, {}
for name, features in (("raw", raw), ("standardized", standard), ("whitened", white)):
    design = np.column_stack([features, np.ones(len(features))])
    curvatures = eigh(design.T @ design / len(design))[0]
    conditions[name] = float(curvatures[0] / curvatures[-1])
    rate, _ = optimal_lr(curvatures[-1], curvatures[0])
    path = descend(lambda w, d=design: d.T @ (d @ w - target) / len(d), np.zeros(11), rate, 1000)
    curves[name] = ((design @ path.T - target[:, None]) ** 2).mean(0)
best = float(((standard @ np.linalg.lstsq(standard, target)[0] - target) ** 2).mean())
needed = {name: int((curve > 1.01 * best).sum()) for name, curve in curves.items()}
table(
    ["inputs", "condition number", "steps to within 1 % of the best loss"],
    [[name, conditions[name], steps if steps <= 1000 else "more than 1000"] for name, steps in needed.items()],
)

figure, axis = plt.subplots(figsize=(7, 4))
for name, curve in curves.items():
    axis.loglog(np.arange(1, 1002), curve / best - 1 + 1e-12, label=f"{name}: κ = {conditions[name]:.2g}")
axis.set(
    title="The same regression, three scalings of its inputs",
    xlabel="step, the start being 1",
    ylabel="loss above the best, relative",
    ylim=(1e-7, 10),
)
axis.axhline(0.01, color="0.7", ls=":", lw=1)
axis.legend()
show(figure, "conditioning-of-real-data")

# %%
check_close("plain descent shrinks at (κ − 1) / (κ + 1)", [m[0] for m in measured], [p[0] for p in promised])
check(
    "momentum comes close to (√κ − 1) / (√κ + 1)",
    all(m[1] < p[1] + 0.05 for m, p in zip(measured, promised, strict=True)),
)
check("at κ = 300 momentum is far faster", measured[-1][1] ** 5 < measured[-1][0])
check("just above 2 / λmax descent diverges", np.abs(path_too_fast[-1, 1]) > 2 * np.abs(path_too_fast[0, 1]))
check("Newton crosses the bent valley in eight steps", rosenbrock(newton[-1]) < 1e-12)
check("momentum gets further along it than plain descent", rosenbrock(heavy[-1]) < rosenbrock(plain[-1]) / 10)
check(
    "on the ridge of a saddle descent stays, beside it it escapes",
    abs(stuck[-1, 1]) < 1e-12 and abs(abs(escaped[-1, 1]) - 1) < 0.01,
)
check(
    "scaling decides the condition number",
    conditions["raw"] > 1e5 > 1e4 * conditions["whitened"] and conditions["standardized"] < 1e3,
)
check(
    "whitened inputs need one step, standardized ones some, raw ones more than a thousand",
    needed["whitened"] <= 1 < needed["standardized"] < needed["raw"] and needed["raw"] > 1000,
)
