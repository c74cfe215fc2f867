# %% [markdown]
# # Probability basics · 概率基础
#
# A classifier's output is a conditional probability, its loss a likelihood, its test accuracy an estimate with an
# error. This lesson goes through the three with real digits: Bayes's rule as a classifier, maximum likelihood as
# counting, and confidence intervals that are put to the test of how often they hold the truth.
#
# The implementations are in `dlcommon.mathematics.probability`, `sampling` and `intervals`. To look things up:
# [docs/PROBABILITY_FOR_DL.md](../../../../docs/PROBABILITY_FOR_DL.md) 速查文档：概率论。
#
# 分类器的输出是条件概率，它的损失是似然，它的测试准确率是带误差的估计。本课用真实的手写数字依次说明这三点：用贝叶斯公式
# 做分类，用计数做最大似然估计，再检验置信区间到底有多大比例包含真值；中间还要看中心极限定理何时成立，以及如何由均匀随机
# 数生成其他分布。

# %%
import matplotlib.pyplot as plt
import numpy as np
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.mathematics.intervals import bootstrap_interval, wald_interval, wilson_interval
from dlcommon.mathematics.probability import BernoulliNaiveBayes, gaussian_log_density, posterior
from dlcommon.mathematics.sampling import box_muller, categorical_by_inverse, exponential_by_inverse, gumbel_max

random = np.random.default_rng(0)

# %% [markdown]
# ## Bayes's rule · 贝叶斯公式
#
# $p(c \mid x) = p(x \mid c) p(c) / p(x)$. A test that finds 99 % of the ill and frightens 5 % of the healthy, in a
# population where one in two hundred is ill: a positive result means illness with 9 %, not 99 %.
#
# 先验很小时，即使检验很准，阳性结果也多半是虚惊。

# %%
prior = np.array([0.005, 0.995])  # ill, healthy
positive = np.array([0.99, 0.05])  # p(positive | ill), p(positive | healthy)
ill_given_positive = float(posterior(np.log(prior), np.log(positive))[0])
print(f"  p(ill | positive) = {ill_given_positive:.3f}")

# %% [markdown]
# The same rule reads digits. Pixels are made black or white and taken to be independent given the digit (which they are
# not); then maximum likelihood is counting how often each pixel is white in each class, and the posterior is a softmax
# of sums of logarithms.

# %%
digits = data("mnist", "mnist-sample")
train, labels = digits.train_images[:4000].reshape(4000, 784) > 127, digits.train_labels[:4000]
test, test_labels = digits.test_images[:1000].reshape(-1, 784) > 127, digits.test_labels[:1000]
model = BernoulliNaiveBayes().fit(train, labels)
beliefs = model.predict_proba(test)
right = beliefs.argmax(1) == test_labels
accuracy, confidence = float(right.mean()), float(beliefs.max(1).mean())
low, high = (float(end) for end in wilson_interval(right.sum(), len(right)))
print(
    f"  accuracy {accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}); it believes to be right with {confidence:.3f}"
)

figure, axes = plt.subplots(1, 10, figsize=(13, 1.8), layout="constrained")
for axis, probability, name in zip(axes, model.feature_prob, digits.classes, strict=True):
    axis.imshow(probability.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
    axis.set_title(f"p(white | {name})", fontsize=9)
    axis.axis("off")
show(figure, "what-counting-learns")

# %% [markdown]
# It is far surer than it should be: 784 pixels counted as independent witnesses, when neighbours only repeat each
# other.

# %% [markdown]
# ## Maximum likelihood · 最大似然
#
# Which Gaussian makes the data most probable? Its mean and its spread; nothing else scores higher. But the likeliest
# variance is too small by $(n-1)/n$ on average, since the mean was fitted to the same data.

# %%
ink = digits.train_images[:400].mean((1, 2, 3)).astype(float)  # mean brightness of a digit
means, stds = np.linspace(ink.mean() - 4, ink.mean() + 4, 81), np.linspace(ink.std() * 0.8, ink.std() * 1.25, 81)
surface = gaussian_log_density(ink[:, None, None], means[:, None], stds).sum(0)  # [means, stds]
top = np.unravel_index(surface.argmax(), surface.shape)
groups = random.choice(ink, size=(20_000, 5))
bias = float(groups.var(axis=1).mean() / ink.var())
print(f"  five samples: the likeliest variance is {bias:.3f} of the true one on average; theory says {4 / 5}")

# %% [markdown]
# ## The central limit · 中心极限定理
#
# Means of $n$ independent numbers of one distribution spread by $\sigma/\sqrt n$ and become Gaussian, whatever the
# distribution, as long as its variance $\sigma^2$ is finite; skewness dies as $1/\sqrt n$. It is why averages over a
# batch behave, and why four times the data halves the error. What happens without a variance is in section 3 of the
# document named above.
#
# 只要方差有限，n 个独立同分布数的平均值就以 $\sigma/\sqrt n$ 的幅度波动，并趋于高斯分布；
# 方差无限时会怎样，见上述文档第 3 节。

# %%
counts = [1, 4, 16, 64]
averages = {n: exponential_by_inverse(1.0, (20_000, n), random).mean(1) for n in counts}
spread = {n: float(values.std() * n**0.5) for n, values in averages.items()}
skewness = {n: float((((values - 1) / values.std()) ** 3).mean()) for n, values in averages.items()}
table(["n", "std × √n", "skewness", "2 / √n"], [[n, spread[n], skewness[n], 2 / n**0.5] for n in counts])

# %% [markdown]
# ## Drawing samples · 抽样
#
# From uniform numbers to any distribution: invert the distribution function, or turn the plane (Box and Muller). Adding
# Gumbel noise to logits and taking the largest draws from their softmax, which is how a language model can sample.

# %%
logits = np.array([2.0, 1.0, 0.0, -1.0])
softmax = np.exp(logits) / np.exp(logits).sum()
drawn = {
    "inverse": np.bincount(categorical_by_inverse(softmax, 40_000, random), minlength=4) / 40_000,
    "Gumbel": np.bincount(gumbel_max(logits, 40_000, random), minlength=4) / 40_000,
}
table(
    ["", *map(str, range(4))],
    [["softmax", *softmax.tolist()], *([name, *share.tolist()] for name, share in drawn.items())],
)
normal = box_muller(40_000, random)

# %% [markdown]
# ## Does the interval cover? · 置信区间真的覆盖吗？
#
# A 95 % interval is a promise about repetitions. So repeat: 4,000 test sets of 100 samples for each true accuracy, and
# count how often the interval holds the truth. The textbook's $\hat p \pm 1.96 \sqrt{\hat p (1-\hat p)/n}$ breaks its
# promise exactly where good classifiers are; Wilson's keeps it.
#
# 95% 置信区间是关于重复试验的承诺：准确率接近 1 时，教科书公式的覆盖率远低于 95%，Wilson 区间则基本守约。

# %%
truths = np.concatenate([np.linspace(0.5, 0.9, 9), np.linspace(0.91, 0.995, 18)])
coverage = {"Wald": [], "Wilson": []}
for truth in truths:
    successes = random.binomial(100, truth, size=4000)
    for name, interval in (("Wald", wald_interval), ("Wilson", wilson_interval)):
        lower, upper = interval(successes, 100)
        coverage[name].append(float(((lower <= truth) & (truth <= upper)).mean()))
held = 0
for _ in range(300):
    sample = exponential_by_inverse(1.0, (60,), random)
    lower_end, upper_end = bootstrap_interval(sample, lambda s: s.mean(axis=1), random, n_resamples=500)
    held += lower_end <= 1.0 <= upper_end
print(f"  bootstrap of a mean of 60 skewed numbers: covers in {held / 300:.1%} of 300 repetitions")

figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
contours = axes[0].contourf(
    means, stds, (surface - surface.max()).T, levels=[-30, -20, -12, -6, -3, -1, 0], cmap="viridis"
)
axes[0].plot(ink.mean(), ink.std(), "r+", ms=14, label="mean and std of the data")
axes[0].set(title="Log-likelihood of Gaussians for 400 digits' brightness", xlabel="μ", ylabel="σ")
figure.colorbar(contours, ax=axes[0])
axes[0].legend(loc="upper right")
for n, values in averages.items():
    axes[1].hist(
        (values - 1) * n**0.5, bins=np.linspace(-3, 4, 90), density=True, histtype="step", label=f"mean of {n}"
    )
line = np.linspace(-3, 4, 200)
axes[1].plot(line, np.exp(gaussian_log_density(line)), "k--", lw=1, label="Gaussian")
axes[1].set(title="Means of skewed numbers become Gaussian", xlabel="(mean − μ) √n / σ", ylabel="density")
axes[1].legend()
for name, shares in coverage.items():
    axes[2].plot(truths, shares, "o-", ms=3, label=name)
axes[2].axhline(0.95, color="k", ls="--", lw=1, label="promised")
axes[2].set(
    title="How often a 95 % interval holds the truth (n = 100)",
    xlabel="true accuracy",
    ylabel="coverage",
    ylim=(0.35, 1.02),
)
axes[2].legend(loc="lower left")
show(figure, "likelihood-limit-coverage")

# %%
check_close("Bayes's rule, by its fractions", ill_given_positive, 0.005 * 0.99 / (0.005 * 0.99 + 0.995 * 0.05))
check("counting pixels recognizes three digits in four", accuracy > 0.75)
check("but believes far too much in itself", confidence > accuracy + 0.05)
check(
    "the likeliest Gaussian has the data's mean and std",
    abs(means[top[0]] - ink.mean()) <= 0.11 and abs(stds[top[1]] / ink.std() - 1) < 0.01,
)
check("the likeliest variance of five is 4/5 of the truth", abs(bias - 0.8) < 0.02)
check("means spread by σ / √n", all(abs(value - 1) < 0.03 for value in spread.values()))
check("and their skewness dies as 2 / √n", all(abs(skewness[n] * n**0.5 / 2 - 1) < 0.35 for n in counts))
check(
    "both ways of drawing classes give the softmax",
    max(np.abs(share - softmax).max() for share in drawn.values()) < 0.015,
)
check("Box and Muller's numbers are standard normal", abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.03)
check(
    "above 97 % accuracy Wald's interval covers less than 90 %", max(np.array(coverage["Wald"])[truths > 0.975]) < 0.9
)
check(
    "Wilson's covers at least 90 % everywhere, 95 % on average",
    min(coverage["Wilson"]) > 0.9 and abs(np.mean(coverage["Wilson"]) - 0.953) < 0.012,
)
