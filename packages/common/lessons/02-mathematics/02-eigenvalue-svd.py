# %% [markdown]
# # Eigenvalues and the SVD · 特征值与奇异值分解
#
# Every matrix is a rotation or reflection, a stretch along axes, and another rotation or reflection. The singular value
# decomposition finds the three; what it stretches little can be left out. Low rank is the idea behind PCA, compressed
# layers and LoRA.
#
# This lesson runs our power iteration, QR algorithm and Jacobi SVD (`dlcommon.mathematics.decompositions`), compresses
# a photograph, and finds the principal components of real digits. To look things up:
# [docs/LINEAR_ALGEBRA_DL.md](../../../../docs/LINEAR_ALGEBRA_DL.md) 速查文档：线性代数。
#
# 任何矩阵都可以拆成三步：旋转或反射、沿坐标轴拉伸、再旋转或反射。奇异值分解求出这三步，拉伸得很少的方向可以丢掉，
# 这就是低秩近似，也是主成分分析、模型压缩和 LoRA 共同的出发点。
# 本课运行我们自己写的幂迭代、QR 算法和雅可比 SVD，用它压缩一张照片，并求出真实手写数字的主成分。

# %%
import matplotlib.pyplot as plt
import numpy as np
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.mathematics.decompositions import eigh, power_iteration, svd
from dlcommon.mathematics.principal_components import PCA
from sklearn.datasets import load_sample_image

random = np.random.default_rng(0)
digits = data("mnist", "mnist-sample")
images = digits.train_images[:1500, :, :, 0] / 255.0  # [samples, 28, 28]

# %% [markdown]
# ## Eigenvalues by iteration · 用迭代求特征值
#
# $A v = \lambda v$: directions that a matrix only stretches. Multiply any vector by $A$ again and again, and the
# largest eigenvalue wins; the others shrink by $|\lambda_2/\lambda_1|$ a step. The QR algorithm does this with all
# directions at once.
#
# 反复乘以同一个矩阵，最大特征值对应的方向会胜出；QR 算法则同时对所有方向做这件事。

# %%
small = images.reshape(1500, 7, 4, 7, 4).mean((2, 4)).reshape(1500, 49)  # means of 4 × 4 pixels
covariance = np.cov(small.T)  # [49, 49], symmetric
values, vectors = eigh(covariance)
value, vector, residuals = power_iteration(covariance, random.standard_normal(49), steps=120)
rate = float((residuals[80] / residuals[30]) ** (1 / 50))
table(
    ["", "value"],
    [
        ["λ₁ by the QR algorithm", float(values[0])],
        ["λ₁ by power iteration", value],
        ["λ₂ / λ₁", float(values[1] / values[0])],
        ["error shrinks a step by", rate],
    ],
)

# %% [markdown]
# ## The SVD and low rank · 奇异值分解与低秩近似
#
# $A = U \Sigma V^T = \sum_i \sigma_i u_i v_i^T$. The first $k$ terms are the best approximation of rank $k$ that there
# is, and what they miss is $\sqrt{\sum_{i>k} \sigma_i^2}$ (Eckart and Young). A photograph is such a matrix.

# %%
photo = load_sample_image("china.jpg").mean(2)[:424:4, ::4] / 255.0  # [106, 160], grey
u, sigma, vt = svd(photo)
ranks = [2, 8, 20, 45]
approximations = {k: u[:, :k] * sigma[:k] @ vt[:k] for k in ranks}
errors = {k: float(np.linalg.norm(photo - approximations[k])) for k in ranks}
promised = {k: float(np.linalg.norm(sigma[k:])) for k in ranks}
stored = {k: k * (sum(photo.shape) + 1) / photo.size for k in ranks}
table(
    ["rank", "numbers stored", "relative error", "promised"],
    [[k, f"{stored[k]:.0%}", errors[k] / np.linalg.norm(photo), promised[k] / np.linalg.norm(photo)] for k in ranks],
)

figure, axes = plt.subplots(1, 5, figsize=(14, 2.6), layout="constrained")
for axis, picture, title in zip(
    axes,
    [photo, *approximations.values()],
    ["original", *(f"rank {k}: {stored[k]:.0%} stored" for k in ranks)],
    strict=True,
):
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=10)
    axis.axis("off")
figure.suptitle("A few singular values hold the picture, the many others its detail")
show(figure, "photo-by-rank")

# %% [markdown]
# ## Principal components of digits · 手写数字的主成分
#
# The right singular vectors of the centred data are the directions of largest variance. For a large matrix we need only
# the first few, and a randomized SVD finds them with a dozen tall matrix products.
#
# 对中心化的数据做 SVD，右奇异向量就是方差最大的方向，也就是主成分。

# %%
flat = images.reshape(1500, 784)
components = PCA.fit(flat, 40, random)
explained = components.explained_variance.cumsum() / flat.var(axis=0, ddof=1).sum()
coordinates = components.transform(flat)
restored = components.inverse_transform(coordinates)
by_mean = float(((flat - flat.mean(0)) ** 2).mean())
by_components = float(((flat - restored) ** 2).mean())
print(f"  40 of 784 numbers keep {explained[-1]:.0%} of the variance; two keep {explained[1]:.0%}")

figure, axes = plt.subplots(2, 4, figsize=(13, 6), layout="constrained")
axes[0, 0].semilogy(residuals, label="residual")
axes[0, 0].semilogy(
    residuals[30] * (values[1] / values[0]) ** np.arange(-30, 90), "--", label=r"$(\lambda_2/\lambda_1)^k$"
)
axes[0, 0].set(title="Power iteration converges\nat the ratio of eigenvalues", xlabel="step", ylabel="‖Av − λv‖")
axes[0, 0].legend()
axes[0, 1].semilogy(sigma)
axes[0, 1].set(title="Singular values\nof the photograph", xlabel="number")
axes[0, 2].plot(np.arange(1, 41), explained)
axes[0, 2].set(title="Share of the variance of digits\nthat components hold", xlabel="components", ylim=(0, 1))
first = digits.train_labels[:1500]
for digit in (0, 1, 7):
    axes[0, 3].scatter(*coordinates[first == digit, :2].T, s=6, label=str(digit))
axes[0, 3].set(title="Two components already part\nsome classes", xlabel="first", ylabel="second")
axes[0, 3].legend(title="digit")
for number, axis in enumerate(axes[1, :2]):
    axis.imshow(components.components[number].reshape(28, 28), cmap="RdBu")
    axis.set_title(f"component {number + 1}")
    axis.axis("off")
for axis, picture, title in ((axes[1, 2], flat[0], "a digit"), (axes[1, 3], restored[0], "from 40 components")):
    axis.imshow(picture.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
    axis.set_title(title)
    axis.axis("off")
show(figure, "principal-components")

# %%
check_close("the QR algorithm finds LAPACK's eigenvalues", values, np.linalg.eigvalsh(covariance)[::-1])
check_close("vectors are orthonormal", vectors.T @ vectors, np.eye(49))
check_close("power iteration finds the largest", value, values[0])
check("its error shrinks by λ₂ / λ₁ a step, to 2 %", abs(rate / (values[1] / values[0]) - 1) < 0.02)
check_close("Jacobi's singular values are LAPACK's", sigma, np.linalg.svd(photo, compute_uv=False))
check_close("U Σ Vᵀ is the photograph", u * sigma @ vt, photo)
check_close(
    "the error of rank k is what the left-out singular values promise", list(errors.values()), list(promised.values())
)
random_basis = svd(random.standard_normal((20, 160)))[2]
check(
    "twenty random directions do much worse than the best twenty",
    np.linalg.norm(photo - photo @ random_basis.T @ random_basis) > 3 * errors[20],
)
exact = np.linalg.svd(flat - flat.mean(0), compute_uv=False)[:40] ** 2 / 1499
check_close("the first twenty variances are exact", components.explained_variance[:20], exact[:20], tolerance=1e-3)
check("and the last of the forty to one percent", abs(components.explained_variance[-1] / exact[-1] - 1) < 0.01)
check("40 components leave less than a quarter of the squared error", by_components < by_mean / 4)
