# %% [markdown]
# # Linear algebra with NumPy · 用 NumPy 做线性代数
#
# Fitting a line, a layer or a whole regression is one question: which weights w bring X w closest to y? NumPy answers
# it in one call, and depending on X its answer has sixteen right digits or none. The number that tells is the condition
# number: how many times the data's relative error is magnified on its way to the answer. It comes back in
# training, as the reason why inputs are standardized and weights decayed.
#
# This lesson fits the width of iris petals, shows what `solve`, `lstsq` and `inv` lose, meets columns that say the same
# thing twice, and ends with the singular values that explain all of it.
#
# 拟合一条直线、一个线性层或一个回归模型，问的都是同一个问题：什么样的权重 w 能让 X w 最接近 y？NumPy 一次调用就能回
# 答，但结果可能精确到十六位，也可能一位都不对，这取决于 X。能预告这一点的是条件数：数据的相对误差传到答案时会被放大多
# 少倍。后面训练网络时还会遇到它，输入要标准化、权重要衰减，原因都在这里。
#
# 本课拟合鸢尾花的花瓣宽度，比较 `solve`、`lstsq` 与 `inv` 各会丢掉多少精度，处理信息重复的列，最后用奇异值解释这一
# 切。

# %%
import matplotlib.pyplot as plt
import numpy as np
from dlcommon.course.lesson import check, check_close, data, show, table
from numpy.linalg import LinAlgError, cond, eigh, inv, lstsq, matrix_rank, norm, solve, svd
from sklearn.linear_model import LinearRegression

random = np.random.default_rng(0)
flowers = data("iris").train
measured = flowers.drop(columns="species")
names, species = np.unique(flowers["species"].to_numpy(str), return_inverse=True)

# %% [markdown]
# ## Least squares · 最小二乘
#
# 150 equations, four unknowns: no exact answer. The best one leaves a residual at a right angle to every column of X,
# Xᵀ(y − X w) = 0. Written out these are the normal equations XᵀX w = Xᵀy. `lstsq` gets to the same w without forming
# XᵀX. 最优解的残差与 X 的每一列都正交，由此得到正规方程。

# %%
y = measured["petal_width"].to_numpy()  # [150], cm
inputs = measured.drop(columns="petal_width")
X = np.column_stack([np.ones(len(y)), inputs])  # [150, 4]: the column of ones carries the intercept
w, *_ = lstsq(X, y)
normal = solve(X.T @ X, X.T @ y)
residual = y - X @ w
explained = 1 - residual.var() / y.var()
table(["column", "weight, cm per cm"], zip(["1", *inputs.columns], w, strict=True))
print(f"  {explained:.1%} of the variance explained; typical error {residual.std() * 10:.1f} mm")

# %% [markdown]
# ## How much is an error magnified? · 误差被放大多少？
#
# Each equation of two unknowns is a line; the solution is where they cross. If the lines are almost parallel, a shift
# of one percent moves the crossing far away. cond(A) = σ_max / σ_min bounds the magnification. No algorithm can repair
# this: the data do not determine the answer better. 两条直线几乎平行时，交点对微小扰动极其敏感。

# %%
systems = {
    "almost parallel": np.array([[1.0, 1.0], [1.0, 1.1]]),
    "at a right angle": np.array([[1.0, 0.3], [-0.3, 1.0]]),
}
solution = np.array([1.0, 1.0])
moved, magnified = {}, {}
for name, A in systems.items():
    b = A @ solution
    shift = random.standard_normal((2, 400))
    shift *= 0.01 * norm(b) / norm(shift, axis=0)  # 400 errors of one percent
    moved[name] = solve(A, b[:, None] + shift)  # [2, 400]
    magnified[name] = norm(moved[name] - solution[:, None], axis=0).max() / norm(solution) / 0.01
table(
    ["lines", "condition number", "1 % becomes at most"],
    [(n, cond(A), f"{magnified[n]:.1f} %") for n, A in systems.items()],
)

# %% [markdown]
# ## Rounding is an error too · 舍入也是误差
#
# Numbers are stored to 16 digits, so cond(X) = 10ᵏ costs k of them. XᵀX has the *square* of the condition number, so
# the normal equations lose twice as many digits. Powers of the petal length show it: with every power the columns
# become more alike. Centring and scaling the length first keeps the columns apart; that is why inputs are standardized.
#
# XᵀX 的条件数是 X 的平方，因此正规方程丢失的有效数字加倍；先做标准化能大幅降低条件数。

# %%
length = measured["petal_length"].to_numpy()
scaled = (length - length.mean()) / (np.ptp(length) / 2)
degrees = range(1, 9)
conditions, errors = {}, {}
for name, base in (("cm", length), ("scaled", scaled)):
    powers = [np.vander(base, degree + 1) for degree in degrees]  # [150, degree + 1]
    conditions[name] = [cond(P) for P in powers]
    truth = [np.ones(P.shape[1]) for P in powers]
    errors[name, "lstsq"] = [norm(lstsq(P, P @ t)[0] - t) / norm(t) for P, t in zip(powers, truth, strict=True)]
    errors[name, "XᵀX"] = [
        norm(solve(P.T @ P, P.T @ (P @ t)) - t) / norm(t) for P, t in zip(powers, truth, strict=True)
    ]
table(
    ["degree", "cond, cm", "error by XᵀX", "by lstsq", "cond, scaled", "error by XᵀX", "by lstsq"],
    zip(
        degrees,
        conditions["cm"],
        errors["cm", "XᵀX"],
        errors["cm", "lstsq"],
        conditions["scaled"],
        errors["scaled", "XᵀX"],
        errors["scaled", "lstsq"],
        strict=True,
    ),
)
square = np.vander(np.unique(length)[::4])  # [11, 11]
right_side = square @ np.ones(len(square))
left_over = {
    "solve(A, b)": norm(square @ solve(square, right_side) - right_side) / norm(right_side),
    "inv(A) @ b": norm(square @ (inv(square) @ right_side) - right_side) / norm(right_side),
}
print(f"  cond(A) = {cond(square):.0e}; A x misses b, relatively, by", {k: f"{v:.0e}" for k, v in left_over.items()})

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.4), layout="constrained")
for (name, points), colour in zip(moved.items(), ("tab:red", "tab:blue"), strict=True):
    left.plot(*points, ".", markersize=3, color=colour, label=f"{name}, cond = {cond(systems[name]):.1f}")
    for row in systems[name]:
        left.axline(solution, slope=-row[0] / row[1], color=colour, linewidth=0.8)
left.set(xlim=(0.4, 1.6), ylim=(0.4, 1.6), aspect="equal", xlabel="first unknown", ylabel="second unknown")
left.set_title("The same 1 % of error: where the lines\nare almost parallel, the crossing runs away")
left.legend(loc="lower left")
for (name, way), marker in zip(errors, ("o", "s", "^", "D"), strict=True):
    right.loglog(
        conditions[name],
        np.maximum(errors[name, way], 1e-16),
        marker,
        label=f"{way}, length {'in cm' if name == 'cm' else name}",
    )
span = np.array([1.0, 1e11])
right.loglog(span, span * 2.2e-16, "k--", linewidth=0.8, label="cond · ε")
right.loglog(span, span**2 * 2.2e-16, "k:", linewidth=0.8, label="cond² · ε")
right.set(xlabel="condition number of X", ylabel="relative error of the weights", ylim=(5e-17, 10))
right.set_title("XᵀX squares the condition number:\ntwice as many digits are lost")
right.legend(fontsize=8)
show(figure, "condition-number")

# %% [markdown]
# ## Columns that repeat each other · 互相重复的列
#
# One column for each species *and* a column of ones: the three add up to the ones. So the rank is 3, not 4, and
# infinitely many weights give the same predictions. `solve` refuses or returns noise; `lstsq` returns the shortest
# solution. A small ridge, XᵀX + λI, also leads there: this is weight decay. Or drop one column, and the others count
# from it. 三列独热编码之和恰好等于全 1 列：秩亏，解不唯一；lstsq 给出最短的解，岭回归也趋向同一个解。

# %%
one_hot = np.eye(3)[species]
D = np.column_stack([np.ones(150), one_hot])  # [150, 4] of rank 3
shortest, *_ = lstsq(D, y)
ridge = solve(D.T @ D + 1e-6 * np.eye(4), D.T @ y)
dropped, *_ = lstsq(D[:, [0, 2, 3]], y)
unseen = svd(D)[2][-1]  # the direction that D cannot see: D @ unseen = 0
try:
    chance = norm(solve(D.T @ D, D.T @ y) - shortest) > 1e-6
except LinAlgError as error:
    chance = True
    print("  solve:", error)
table(
    ["weights", "intercept", *names],
    [
        ("shortest", *shortest),
        ("ridge, λ = 1e-6", *ridge),
        ("shortest + 2 · unseen", *(shortest + 2 * unseen)),
        ("without the first species", dropped[0], "(base)", *dropped[1:]),
    ],
)
species_means = np.array([y[species == s].mean() for s in range(3)])

# %% [markdown]
# ## Eigenvalues and singular values · 特征值与奇异值
#
# The SVD splits any matrix into directions and how much it stretches along each: X = U Σ Vᵀ. Rank counts the σ that are
# not 0, the condition number is their ratio, norms are their largest or the root of their squares. Of centred data, V
# holds the principal axes, and σ² / (n − 1) the variances along them: the eigenvalues of the covariance matrix.
#
# 秩、条件数、范数、主成分都能从奇异值直接读出。

# %%
Z = ((measured - measured.mean()) / measured.std()).to_numpy()  # [150, 4]
U, sigma, Vt = svd(Z, full_matrices=False)
variances, axes_of_covariance = eigh(np.cov(Z.T))  # smallest first
scores = Z @ Vt[:2].T  # [150, 2]
kept = (sigma[:2] ** 2).sum() / (sigma**2).sum()
_, _, length_axis, width_axis = Vt[:2].T  # of the petal's two measurements
same_way = length_axis @ width_axis / norm(length_axis) / norm(width_axis)  # cosine of the angle between them

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained", width_ratios=[1, 1, 0.8])
for number, name in enumerate(names):
    left.scatter(X[species == number] @ w, y[species == number], s=16, label=name)
    middle.scatter(*scores[species == number].T, s=16, label=name)
left.axline((1, 1), slope=1, color="grey", linewidth=0.8)
left.set(xlabel="predicted petal width, cm", ylabel="measured, cm")
left.set_title(f"Least squares explains {explained:.0%} of the variance")
middle.set(xlabel="first principal axis", ylabel="second", title=f"Two of four axes hold {kept:.0%} of the variance")
left.legend()
for (x, y_), column, colour in zip(
    Vt[:2].T, measured.columns, ("#0072b2", "#e69f00", "#009e73", "#d55e00"), strict=True
):
    right.plot([0, x], [0, y_], marker="o", markevery=[1], color=colour, linewidth=2, label=column.replace("_", " "))
ticks = [-1, -0.5, 0, 0.5, 1]
right.set(xticks=ticks, yticks=ticks, aspect="equal", xlabel="first principal axis", ylabel="second")
right.set_title("What the axes are made of: the petal's\ntwo measurements say the same")
right.legend(fontsize=8, loc="upper left")
show(figure, "regression-and-axes")

# %% [markdown]
# ## What holds · 结论

# %%
library = LinearRegression().fit(inputs.to_numpy(), y)
check_close(
    "lstsq, the normal equations and scikit-learn agree", [w, w], [normal, [library.intercept_, *library.coef_]]
)
check("the residual is orthogonal to every column", np.abs(X.T @ residual).max() < 1e-9)
check("three lengths explain more than 90 % of the variance", explained > 0.9)
check(
    "no error is magnified by more than the condition number",
    all(magnified[n] <= cond(A) * (1 + 1e-9) for n, A in systems.items()),
)
check("between almost parallel lines some are magnified more than 30-fold", magnified["almost parallel"] > 30)
check("XᵀX squares the condition number, to a percent", abs(cond(X.T @ X) / cond(X) ** 2 - 1) < 0.01)
check(
    "for the 8th power in cm it loses at least 100 times as much as lstsq",
    errors["cm", "XᵀX"][-1] > 100 * errors["cm", "lstsq"][-1],
)
check(
    "scaling the length lowers the condition number at least 1,000-fold",
    conditions["cm"][-1] > 1000 * conditions["scaled"][-1],
)
check("inv leaves at least 100 times what solve leaves", left_over["inv(A) @ b"] > 100 * left_over["solve(A, b)"])
check("the dummy columns have rank 3, and solve finds no dependable weights", matrix_rank(D) == 3 and chance)
check_close("the ridge goes to the shortest solution", ridge, shortest, tolerance=1e-4)
check_close(
    "all these weights predict the mean of each species",
    [D @ shortest, D @ (shortest + 2 * unseen), D[:, [0, 2, 3]] @ dropped],
    [species_means[species]] * 3,
)
check(
    "the petal's length and width point the same way in the two axes, to 10 degrees", same_way > np.cos(np.radians(10))
)
check_close("σ² / (n − 1) are the eigenvalues of the covariance", sigma**2 / 149, variances[::-1])
check_close(
    "norms and condition number are singular values",
    [norm(Z, 2), norm(Z), cond(Z)],
    [sigma[0], norm(sigma), sigma[0] / sigma[-1]],
)
